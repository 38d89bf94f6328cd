"""The whole pipeline on a tiny set of real rows, driven by the commands that users type."""

import copy
import json
import shutil
import sqlite3

import pandas as pd
import pytest
import yaml
from blast_radius import CHECK, direct_stages, downstream, expanded_stages, leaves
from replay import Aflux
from sample_rows import sample_pages
from tiny_clone import broken_rows, tiny_params, tiny_records

from matscout.files import sha256_of

pytestmark = pytest.mark.slow

AFTER_TRAINING = {"evaluate", "screen", "relax", "report", "summarize"}


def another(value):
    """A value that DVC must see as changed; it is compared, never run."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, 1]
    return f"{value}x"


def test_the_second_repro_has_nothing_to_do(tiny):
    output = tiny.dvc("repro").stdout
    assert tiny.stages_run(output) == []
    assert "up to date" in output


def test_every_stage_ran_once(first_run):
    assert sorted(first_run.stages_run(first_run.told)) == sorted(expanded_stages(first_run.root))


def test_the_names_that_users_rely_on(tiny):
    materials = pd.read_parquet(tiny.root / "data/curated/materials.parquet")
    assert {
        "material_id",
        "source",
        "functional",
        "synthetic",
        "formula",
        "n_atoms",
        "lattice",
        "species",
        "frac_coords",
    } <= set(materials)
    assert {"band_gap", "formation_energy_per_atom", "energy_above_hull", "duplicate_group"} <= set(materials)
    for member in tiny_params()["members"]:
        written = {path.name for path in (tiny.root / "data/members" / member).iterdir()}
        assert {"weights.safetensors", "member.json", "history.parquet"} <= written
    ranked = pd.read_parquet(tiny.root / "data/screening/ranked.parquet")
    for target in ("band_gap", "formation_energy_per_atom"):
        assert {target, f"{target}_std", f"{target}_lo90", f"{target}_hi90"} <= set(ranked)
        assert (ranked[f"{target}_lo90"] <= ranked[f"{target}_hi90"]).all()
    assert len(list((tiny.root / "data/screening/cif").glob("*.cif"))) == 4
    for name in ("curation", "members", "ensemble", "screening"):
        assert json.loads((tiny.root / f"metrics/{name}.json").read_text())
    assert (tiny.root / "data/report/index.html").stat().st_size > 10_000


def test_synthetic_rows_are_marked_and_never_judge(tiny):
    materials = pd.read_parquet(tiny.root / "data/curated/materials.parquet").set_index("material_id")
    assert materials.groupby("source")["synthetic"].agg(["min", "max"]).loc["materials_project"].tolist() == [
        False,
        False,
    ]
    assert materials.loc[materials["source"] != "materials_project", "synthetic"].all()
    split = pd.read_parquet(tiny.root / "data/splits/split.parquet").set_index("material_id")["fold"]
    judged = split[split.isin(["validation", "test"])].index
    assert not materials.loc[judged, "synthetic"].any()


def test_every_broken_row_is_kept_aside_and_counted_by_reason(tiny):
    expected = set(broken_rows(tiny_records()["materials_project"][0]))
    quarantine = pd.read_parquet(tiny.root / "data/curated/quarantine.parquet")
    assert set(quarantine["reason"]) == expected
    assert quarantine["detail"].str.len().min() > 20
    counted = json.loads((tiny.root / "metrics/curation.json").read_text())
    assert counted["quarantined rows by reason"] == dict.fromkeys(expected, 1)


def test_a_user_s_own_crystals_are_predicted(tiny, tmp_path):
    own = tmp_path / "own crystals"
    shutil.copytree(tiny.root / "data/screening/cif", own)
    (own / "cut_off.cif").write_text("data_Si\n_cell_length_a 3.8\n")
    done = tiny.run("matscout", "predict", str(own), "-o", str(tmp_path / "out.parquet"))
    predicted = pd.read_parquet(tmp_path / "out.parquet")
    ranked = pd.read_parquet(tiny.root / "data/screening/ranked.parquet").head(4)
    assert predicted["formula"].tolist() == ranked["formula"].tolist()
    new = (predicted["calibrated_for"] == "hypothetical").to_numpy()  # of a known formula, no relaxation is expected
    assert new.any()
    gaps, energies = (
        [table[target].to_numpy() for table in (predicted, ranked)]
        for target in ("band_gap", "formation_energy_per_atom")
    )
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-3)  # a CIF rounds
    assert energies[0][new] == pytest.approx(energies[1][new], abs=1e-3)
    assert pd.read_csv(tmp_path / "out.quarantine.csv")["reason"].tolist() == ["unreadable_structure"]
    assert "cut_off.cif" in done.stderr


def test_a_user_s_own_crystals_are_ranked(tiny):
    done = tiny.run("matscout", "screen", "data/screening/cif", "--goal", "transparent_conductor", "--top", "2")
    assert "rank" in done.stdout
    assert "meets" in done.stdout  # in a narrow terminal `goal` stands in the next line
    refused = tiny.run("matscout", "screen", "data/screening/cif", "--goal", "magnet", check=False)
    assert refused.returncode == 1
    assert "transparent_conductor" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_merges_are_explained_and_results_told(tiny):
    materials = pd.read_parquet(tiny.root / "data/curated/materials.parquet")
    merged = materials[materials.duplicated("duplicate_group", keep=False)]
    one, other = merged[merged["duplicate_group"] == merged["duplicate_group"].iloc[0]]["material_id"].iloc[:2]
    assert other in tiny.run("matscout", "why-merged", one).stdout
    assert "data/report/index.html" in tiny.run("matscout", "results").stdout
    assert "complete" in tiny.run("matscout", "doctor").stdout


def test_mlflow_holds_one_parent_and_a_child_for_every_member(tiny):
    connection = sqlite3.connect(tiny.root / "mlflow.db")
    rows = connection.execute(
        "select t.value, r.name from runs r join tags t on t.run_uuid = r.run_uuid and t.key = 'mlflow.parentRunId'"
    )
    children = {}  # tests before this one may have left pipeline runs of their own
    for parent, name in rows:
        children.setdefault(parent, []).append(name)
    assert sorted(tiny_params()["members"]) in [sorted(names) for names in children.values()]


def test_metrics_plots_and_dag_commands_work(tiny):
    assert "band_gap" in tiny.dvc("metrics", "show").stdout
    assert "index.html" in tiny.dvc("plots", "show", "--out", ".plots").stdout
    page = (tiny.root / ".plots" / "index.html").read_text()
    assert all(name in page for name in ("learning_curves", "parity", "calibration", "pareto"))
    assert "train" in tiny.dvc("dag", "--collapse-foreach-matrix", "--dot").stdout


def test_parameters_rerun_exactly_the_stages_of_the_table(tiny):
    """Every parameter reruns something; DVC is asked of one in each block, since it compares whole blocks."""
    stages = expanded_stages(tiny.root)
    original = (tiny.root / "params.yaml").read_text()
    tree = yaml.safe_load(original)
    blocks = {}
    for path, value in leaves(tree):
        if path[-1] == "path" or path in {("pretrained",), ("finetuned",), ("distilled",)}:
            continue  # a path is a dependency as well: another one must exist; a block would be a stage
        expected = frozenset(direct_stages(stages, ".".join(path)))
        assert expected > {CHECK}, f"{'.'.join(path)} changes nothing"
        blocks[path[0], expected] = path, value
    try:
        for (_, expected), (path, value) in blocks.items():
            changed = copy.deepcopy(tree)
            node = changed
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = another(value)
            (tiny.root / "params.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
            assert tiny.changed() == expected, ".".join(path)
    finally:
        (tiny.root / "params.yaml").write_text(original)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param("screening.top_k=3", {"screen", "relax", "report", "summarize"}, marks=pytest.mark.exhaustive),
        ("members.cgcnn.training.epochs=3", {"train@cgcnn", *AFTER_TRAINING}),
    ],
)
def test_an_experiment_runs_only_what_its_parameter_reaches(tiny, change, expected):
    output = tiny.dvc("exp", "run", "-S", change).stdout
    assert set(tiny.stages_run(output)) == expected | {CHECK}
    stages = expanded_stages(tiny.root)
    assert downstream(stages, direct_stages(stages, change.split("=")[0])) == expected | {CHECK}
    assert change.split("=")[0] in tiny.dvc("exp", "show", "--csv").stdout
    assert change in tiny.run("matscout", "compare").stdout
    tiny.run("git", "checkout", "-q", "--", ".")
    tiny.dvc("checkout")


def test_an_experiment_can_ask_a_service(tiny):
    rows = [row for page in sample_pages("aflow") for row in page][:30]
    with Aflux(rows) as service:
        changes = ("databases.aflow.origin=api", f"databases.aflow.endpoint={service.url}")
        options = [part for change in changes for part in ("-S", change)]
        output = tiny.dvc("exp", "run", "acquire@aflow", *options).stdout
        assert tiny.stages_run(output) == [CHECK, "acquire@aflow"]
        assert len(service.asked) >= 1
    manifest = json.loads((tiny.root / "data/raw/aflow/manifest.json").read_text())
    assert (manifest["origin"], manifest["n_rows"]) == ("api", 30)
    tiny.run("git", "checkout", "-q", "--", ".")
    tiny.dvc("checkout")


@pytest.mark.parametrize("stage", ["train@cgcnn", "propose", None])
def test_a_bad_value_is_refused_while_all_outputs_are_still_there(stage, copied):
    """In the workspace too, where DVC removes the outputs of a stage before it runs it."""
    outputs = sha256_of(copied.root / "data"), sha256_of(copied.root / "metrics")
    done = copied.dvc("exp", "run", *filter(None, [stage]), "-S", "model.lr=-1", check=False)
    assert done.returncode != 0
    assert "model.lr = -1: Input should be greater than 0" in done.stdout + done.stderr
    (copied.root / "data/checked/params.txt").write_text("Every value of params.yaml is allowed.\n")
    assert (sha256_of(copied.root / "data"), sha256_of(copied.root / "metrics")) == outputs
    copied.run("git", "checkout", "-q", "--", ".")
    assert copied.stages_run(copied.dvc("repro").stdout) == []


@pytest.mark.parametrize("command", ["repro", "exp run", "exp run --temp"])
def test_a_misspelt_parameter_fails_before_any_work(command, copied):
    outputs = sha256_of(copied.root / "data/screening")
    original = (copied.root / "params.yaml").read_text()
    (copied.root / "params.yaml").write_text(original.replace("top_k:", "top_kk:"))
    done = copied.dvc(*command.split(), check=False)
    assert done.returncode != 0
    assert "screening.top_kk: unknown key" in done.stdout + done.stderr
    assert sha256_of(copied.root / "data/screening") == outputs
