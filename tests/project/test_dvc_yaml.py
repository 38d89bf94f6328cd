"""dvc.yaml against the code and params.yaml: no dependency is missing, no list is out of date."""

import re
from pathlib import Path

import pytest
import yaml
from blast_radius import table
from imports import ROOT, transitive_imports

# Files that cannot change an output, so that editing them reruns nothing.
NOT_TRACKED = {
    "src/matscout/__init__.py": "names, and how threads wait",
    "src/matscout/params/": "checks values; the values themselves stand under `params:`",
    "src/matscout/errors.py": "what is raised instead of an output",
    "src/matscout/progress.py": "what is drawn while an output is made",
    "src/matscout/memory.py": "where memory comes from, not what is in it",
    "src/matscout/stage.py": "how a stage reads its arguments; they stand in `cmd`",
    "src/matscout/engine/": "where work runs; results and their order are the same everywhere",
    "src/matscout/training/runs/tracking.py": "what MLflow is told; nothing comes back",
}
READ = {  # code that is read as text: an architecture's file says which paper it follows
    "report": {"src/matscout/models"},
    "summarize": {"src/matscout/models"},
}
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
STAGES = {name: stage.get("do", stage) for name, stage in PIPELINE["stages"].items()}


def covers(dependency: str, file: str) -> bool:
    return file == dependency or file.startswith(f"{dependency.rstrip('/')}/")


def code_of(stage: dict) -> set[str]:
    script = ROOT / re.search(r"python (stages/\w+\.py)", stage["cmd"]).group(1)
    files = {path.relative_to(ROOT).as_posix() for path in transitive_imports(script) | {script}}
    return {file for file in files if not any(covers(free, file) for free in NOT_TRACKED)}


@pytest.mark.parametrize("name", STAGES)
def test_deps_cover_every_import(name):
    stage = STAGES[name]
    missing = {file for file in code_of(stage) if not any(covers(dep, file) for dep in stage["deps"])}
    assert not missing, f"stage {name} lacks deps: {sorted(missing)}"


@pytest.mark.parametrize("name", STAGES)
def test_no_code_dep_is_unused(name):
    stage = STAGES[name]
    used = code_of(stage)
    code_deps = [dep for dep in stage["deps"] if dep.startswith(("src/", "stages/"))]
    unused = [dep for dep in code_deps if not any(covers(dep, file) for file in used | READ.get(name, set()))]
    assert not unused, f"stage {name} depends on code that it never imports: {unused}"


@pytest.mark.parametrize("name", STAGES)
def test_every_path_in_the_command_is_declared(name):
    stage = STAGES[name]
    outs = [
        next(iter(out)) if isinstance(out, dict) else out
        for key in ("outs", "metrics", "plots")
        for out in stage.get(key, [])
    ]
    declared = [*stage["deps"], *outs]
    for path in re.findall(r"--\S+ '?((?:data|metrics)/[^\s']+)", stage["cmd"]):
        known = any(covers(path, item) or covers(item, path) for item in declared)
        assert known, f"stage {name} uses {path} without declaring it"


@pytest.mark.parametrize("name", STAGES)
def test_no_name_of_params_yaml_is_read_by_the_shell(name):
    """What DVC puts into a command stands in quotes; that it holds none itself is checked by `params`."""
    bare = re.sub(r"'[^']*'", "", STAGES[name]["cmd"])
    assert "${" not in bare


IN_GIT = {"data/feedback", "data/own_candidates"}  # what users put in by hand


def test_every_data_folder_that_a_stage_reads_is_in_the_cache():
    """What is no out is absent after `dvc pull`: the names of the curated files come from the code that writes them."""
    from matscout.curation import curated_table

    written = {f"data/curated/{value}" for key, value in vars(curated_table).items() if key.endswith("_NAME")}
    assert set(STAGES["curate"]["outs"]) == written
    outs = [next(iter(out)) if isinstance(out, dict) else out for stage in STAGES.values() for out in stage["outs"]]
    kept = re.findall(r"^!/(data/\w+)/$", (ROOT / ".gitignore").read_text(), flags=re.MULTILINE)  # users' own, in Git
    made = [re.sub(r"\$\{key\}", "", out) for out in outs] + kept
    for name, stage in STAGES.items():
        for dep in [dep for dep in stage["deps"] if dep.startswith("data/") and dep not in IN_GIT]:
            assert any(covers(out, dep) or covers(dep, out) for out in made), (
                f"{name} reads {dep}, which no stage makes and Git does not keep"
            )
    assert all((ROOT / folder / "README.md").exists() for folder in IN_GIT)


def test_lists_written_out_match_params():
    for name, stage in STAGES.items():
        members = {Path(dep).name for dep in stage["deps"] if re.fullmatch(r"data/members/\w+", dep)}
        assert members in (set(), {*PARAMS["members"], *PARAMS["finetuned"]}), f"stage {name} lists members {members}"
        raw = {Path(dep).name for dep in stage["deps"] if re.fullmatch(r"data/raw/\w+", dep)}
        assert raw in (set(), set(PARAMS["databases"])), f"stage {name} lists databases {raw}"


def test_every_section_of_params_is_tracked():
    tracked = {param.split(".")[0] for stage in STAGES.values() for param in stage.get("params", [])}
    assert tracked == set(PARAMS)


def test_excused_files_exist():
    assert all((ROOT / file).exists() for file in NOT_TRACKED if "tracking" not in file)


def test_the_table_of_parameters_is_up_to_date():
    assert (ROOT / "docs" / "parameters.md").read_text() == table(ROOT), "run: python tests/blast_radius.py"
