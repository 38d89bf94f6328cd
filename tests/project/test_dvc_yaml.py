"""dvc.yaml against the code and params.yaml: no dependency is missing, no list is out of date."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from blast_radius import CHECK as BEFORE_ALL
from blast_radius import downstream, expanded_stages, table
from imports import ROOT, SRC, transitive_imports

from matscout.resume.fingerprint import UNDECIDING, code_files, is_undeciding

READ = {  # code that decides though it is undeciding elsewhere, or is read as text: architectures name their papers
    "check": {"src/matscout/params"},
    "report": {"src/matscout/models"},
    "summarize": {"src/matscout/models"},
}
RESUMED = {  # stages that keep unfinished work, and whose code its fingerprint covers
    "curate": "matscout.curation.structure_matching",
    "featurize": "matscout.graphs.featurize",
    "train": "matscout.training",
    "pretrain": "matscout.training",
    "finetune": "matscout.training",
    "propose": "matscout.discovery.propose.propose",
    "distill": "matscout.ensemble.distill",
    "screen": "matscout.discovery.screen.screen",
}
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
STAGES = {name: stage.get("do", stage) for name, stage in PIPELINE["stages"].items()}


CHECK = "python stages/check_names.py"


def command_of(stage: dict) -> str:
    """The command that makes the stage's output: alone, or after the check of names."""
    cmd = stage["cmd"]
    return cmd if isinstance(cmd, str) else cmd[-1]


def covers(dependency: str, file: str) -> bool:
    return file == dependency or file.startswith(f"{dependency.rstrip('/')}/")


def code_of(stage: dict) -> set[str]:
    script = ROOT / re.search(r"python (stages/\w+\.py)", command_of(stage)).group(1)
    imported = {path for path in transitive_imports(script) if not is_undeciding(path)}
    return {path.relative_to(ROOT).as_posix() for path in imported | {script}}


@pytest.mark.parametrize("name", STAGES)
def test_deps_cover_every_import(name):
    stage = STAGES[name]
    missing = {file for file in code_of(stage) if not any(covers(dep, file) for dep in stage["deps"])}
    assert not missing, f"stage {name} lacks deps: {sorted(missing)}"


@pytest.mark.parametrize(("name", "module"), RESUMED.items())
def test_code_that_starts_unfinished_work_over_makes_dvc_rerun_the_stage(name, module):
    files = {file.relative_to(ROOT).as_posix() for file in code_files(module)}
    assert f"src/{module.replace('.', '/')}.py" in files or f"src/{module.replace('.', '/')}/__init__.py" in files
    untracked = {file for file in files if not any(covers(dep, file) for dep in STAGES[name]["deps"])}
    assert not untracked, f"stage {name} lacks deps: {sorted(untracked)}"


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
    for path in re.findall(r"--\S+ '?((?:data|metrics)/[^\s']+)", command_of(stage)):
        known = any(covers(path, item) or covers(item, path) for item in declared)
        assert known, f"stage {name} uses {path} without declaring it"


@pytest.mark.parametrize("name", STAGES)
def test_no_name_of_params_yaml_is_read_by_the_shell(name):
    """What DVC puts into a command stands in quotes, and after a command that refuses a name with a quote."""
    command = command_of(STAGES[name])
    assert "${" not in re.sub(r"'[^']*'", "", command)
    assert STAGES[name]["cmd"] == ([CHECK, command] if "${" in command else command)


@pytest.mark.parametrize("section", ["databases", "members", "pretrained", "finetuned", "distilled"])
def test_a_name_with_a_quote_runs_nothing_under_dvc_repro(tmp_path, section):
    """DVC itself, with this file's commands and a hostile name; only what the stages read is left out."""
    stage = next(stage for stage in PIPELINE["stages"].values() if stage.get("foreach") == f"${{{section}}}")
    hostile = "x'; touch touched; '"
    params = PARAMS | {section: {hostile: next(iter(PARAMS[section].values()), {"from": "cgcnn"})}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    short = {
        "vars": ["params.yaml"],
        "stages": {"one": {"foreach": f"${{{section}}}", "do": {"cmd": stage["do"]["cmd"]}}},
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(short))
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    done = subprocess.run([*dvc, "repro"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert not (tmp_path / "touched").exists(), done.stdout + done.stderr
    assert "is not a valid name: write letters" in done.stdout + done.stderr


IN_GIT = {"data/feedback", "data/own_candidates", "data/own_hull", "data/distilled"}  # what users put in by hand


def test_every_data_folder_that_a_stage_reads_is_in_the_cache():
    """What is no out is absent after `dvc pull`: the names of the curated files come from the code that writes them."""
    from matscout import curated_table

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
        members = [dep for dep in stage["deps"] if dep.startswith("data/members/")]
        assert not members, f"stage {name} names {members}: the folder data/members stands for all of params.yaml"
        raw = {Path(dep).name for dep in stage["deps"] if re.fullmatch(r"data/raw/\w+", dep)}
        assert raw in (set(), set(PARAMS["databases"])), f"stage {name} lists databases {raw}"


def test_every_section_of_params_is_tracked_by_a_stage_and_checked_by_the_first():
    others = [stage for name, stage in STAGES.items() if name != BEFORE_ALL]
    tracked = {param.split(".")[0] for stage in others for param in stage.get("params", [])}
    assert tracked == set(PARAMS) == set(STAGES[BEFORE_ALL]["params"])


def test_only_the_check_of_params_is_said_to_write_always_the_same():
    constant = [name for name, stage in STAGES.items() if stage.get("meta", {}).get("constant_output")]
    assert constant == [BEFORE_ALL]


def test_the_check_of_params_comes_before_every_stage():
    """Else DVC would remove the outputs of a stage that runs before the check or beside it."""
    stages = expanded_stages(ROOT)
    (checked,) = STAGES[BEFORE_ALL]["outs"]
    first = {name for name, stage in stages.items() if checked in stage["deps"]}
    assert downstream(stages, first) == set(stages) - {BEFORE_ALL}


def test_excused_files_exist():
    assert all((SRC / file).exists() for file in UNDECIDING)


def test_the_table_of_parameters_is_up_to_date():
    assert (ROOT / "docs" / "parameters.md").read_text() == table(ROOT), "run: python tests/blast_radius.py"
