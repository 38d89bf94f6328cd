"""A distilled member: it learns the ensemble's answers, is as sure as the ensemble, and belongs to it alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_outputs
from small_outputs import ANIONS, CATIONS, binary, write_member

from matscout import columns
from matscout.ensemble.distill import distill
from matscout.ensemble.evaluate import evaluate
from matscout.ensemble.predictor import TEACHER_FILE, EnsemblePredictor, student
from matscout.errors import InputError, ParameterError, StoreError
from matscout.files import sha256_of
from matscout.graphs.graph_store import GraphStore
from matscout.params import Distilled

N_CANDIDATES, N_ASKED, N_OVERLAPPING = 400, 390, 2
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # MLflow's

GAP, ENERGY = "band_gap", "formation_energy_per_atom"
outputs, ensemble = small_outputs.outputs, small_outputs.ensemble


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distill")


@pytest.fixture(scope="module")
def crystals():
    rng = np.random.default_rng(2)
    made = [
        binary(str(rng.choice(CATIONS)), str(rng.choice(ANIONS)), rng.uniform(2.6, 4.5)) for _ in range(N_CANDIDATES)
    ]
    for row in range(N_OVERLAPPING):
        made[row].frac_coords[1] = made[row].frac_coords[0]  # two atoms in one place: no graph
    return {f"c-{row:04d}": crystal for row, crystal in enumerate(made)}


@pytest.fixture(scope="module")
def candidates(folder, crystals):
    path = folder / "candidates.parquet"
    rows = [{columns.CANDIDATE_ID: name, **crystal.to_row()} for name, crystal in crystals.items()]
    pq.write_table(pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False), path, row_group_size=150)
    return path


@pytest.fixture(scope="module")
def params(outputs):
    member = outputs.params.members["cgcnn"]
    training = member.training.model_copy(update={"epochs": 40, "seed": 5})
    encoder = member.encoder.model_copy(update={"hidden_dim": 16})
    block = Distilled(crystals=N_ASKED, member=member.model_copy(update={"training": training, "encoder": encoder}))
    return outputs.params.model_copy(update={"distilled": {"fast": block}})


@pytest.fixture(scope="module")
def arguments(outputs, ensemble, candidates, params):
    return {"params": params, "members": outputs.members, "ensemble": ensemble, "candidates": candidates}


@pytest.fixture(scope="module")
def taught(arguments, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(folder / "taught"))
        distill("fast", **arguments, destination=folder / "data" / "fast")
    return folder / "data" / "fast"


@pytest.fixture(scope="module")
def predictor(outputs, ensemble):
    return EnsemblePredictor.load(outputs.members, ensemble)


def test_every_candidate_that_was_asked_for_is_counted(taught):
    told = json.loads((taught / TEACHER_FILE).read_text())["crystals"]
    assert told["asked"] == N_ASKED
    reasons = {reason: n for reason, n in told.items() if reason not in {"asked", "taught"}}
    assert set(reasons) == {"atoms_overlap"}
    assert 0 < reasons["atoms_overlap"] <= N_OVERLAPPING
    assert told["taught"] == N_ASKED - sum(reasons.values())


def test_it_answers_as_the_ensemble_does_where_it_has_not_learnt(taught, predictor):
    """On new crystals of the same kind it follows the ensemble, though this one is sure of little."""
    rng = np.random.default_rng(77)
    new = [binary(str(rng.choice(CATIONS)), str(rng.choice(ANIONS)), rng.uniform(2.6, 4.5)) for _ in range(200)]
    store = GraphStore.from_crystals([str(row) for row in range(len(new))], new, predictor.graphs)
    asked, answered = predictor.predict(store), student(predictor, taught).predict(store)
    told = json.loads((taught / TEACHER_FILE).read_text())["differences"]
    for target in (GAP, ENERGY):
        difference = np.abs(asked[target] - answered[target]).mean()
        assert difference < 0.3 * asked[target + columns.STD].mean(), target
        assert difference == pytest.approx(told[target], rel=0.5), target
    assert asked[ENERGY].corr(answered[ENERGY], method="spearman") > 0.6


def test_it_is_about_as_sure_as_the_ensemble(taught, predictor, crystals):
    names = list(crystals)[N_OVERLAPPING:]
    store = GraphStore.from_crystals(names, [crystals[name] for name in names], predictor.graphs)
    asked, answered = predictor.predict(store), student(predictor, taught).predict(store)
    for target in (GAP, ENERGY):
        ratio = answered[target + columns.STD].mean() / asked[target + columns.STD].mean()
        assert 0.6 < ratio < 1.7, target


def test_a_temperature_puts_back_the_tails_that_three_quantiles_leave_out(taught):
    content = json.loads((taught / TEACHER_FILE).read_text())
    assert all(value > 1.02 for value in content["temperatures"].values())


def test_other_runs_give_the_same_bytes_also_one_that_was_killed(taught, arguments, tmp_path):
    again = tmp_path / "data" / "fast"
    script = f"""
import os, signal
from tests_arguments import arguments
from matscout.ensemble.distill import distill
from matscout.training import fitting

def kill(run, record):
    if record.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)

fitting.track = kill
distill("fast", **arguments, destination={str(again)!r})
"""
    (tmp_path / "tests_arguments.py").write_text(
        "from pathlib import Path\nfrom matscout.params import check_params\n"
        f"arguments = {{key: Path(value) for key, value in "
        f"{ {key: str(value) for key, value in arguments.items() if key != 'params'}!r}.items()}}\n"
        f"arguments['params'] = check_params({arguments['params'].model_dump(mode='json')!r})\n"
    )
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "DVC_ROOT": str(tmp_path), "PYTHONPATH": paths}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not again.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(tmp_path))
        distill("fast", **arguments, destination=again)
    assert sha256_of(again) == sha256_of(taught)
    assert [path.name for path in (tmp_path / ".checkpoints" / "distill-fast").iterdir()] == ["lock"]


def test_an_unknown_block_is_refused_with_the_known_ones(arguments, tmp_path):
    with pytest.raises(ParameterError, match=r"distilled\.slow is not in params\.yaml; choose one of \['fast'\]"):
        distill("slow", **arguments, destination=tmp_path / "slow")


def test_too_few_candidates_are_rejected(arguments, params, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    few = params.distilled["fast"].model_copy(update={"crystals": 4})
    few = params.model_copy(update={"distilled": {"fast": few}})
    with pytest.raises(
        InputError, match=r"4 of 4 candidates .* too few to learn from; raise distilled\.fast\.crystals"
    ):
        distill("fast", **{**arguments, "params": few}, destination=tmp_path / "fast")
    assert not (tmp_path / "fast").exists()


def test_a_file_of_candidates_that_is_cut_off_is_rejected(arguments, candidates, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    broken = tmp_path / "candidates.parquet"
    broken.write_bytes(candidates.read_bytes()[:-20])
    with pytest.raises(
        InputError, match=r"candidates\.parquet is not a complete parquet file .*run `dvc repro propose`"
    ):
        distill("fast", **{**arguments, "candidates": broken}, destination=tmp_path / "fast")
    assert not (tmp_path / "fast").exists()


def test_another_ensemble_refuses_it(taught, predictor, outputs, ensemble, tmp_path):
    materials = pd.read_parquet(outputs.materials)
    params = outputs.params.model_copy(update={"members": {**outputs.params.members}})
    write_member(tmp_path / "members", "cgcnn", params, materials.iloc[::2])
    write_member(tmp_path / "members", "composition", params, materials)
    evaluate(tmp_path / "members", **outputs.arguments(), destination=tmp_path / "ensemble")
    other = EnsemblePredictor.load(tmp_path / "members", tmp_path / "ensemble")
    with pytest.raises(StoreError, match=r"'fast' was trained on another ensemble \(its member\(s\) cgcnn differ\)"):
        student(other, taught)
    assert student(predictor, taught).members[0].name == "fast"


@pytest.mark.parametrize("content", ["{", '{"members": {}}', None])
def test_a_broken_teacher_file_is_named_with_the_remedy(taught, predictor, tmp_path, content):
    broken = tmp_path / "fast"
    broken.mkdir()
    for file in taught.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    if content is None:
        (broken / TEACHER_FILE).unlink()
    else:
        (broken / TEACHER_FILE).write_text(content)
    with pytest.raises(StoreError, match=r"teacher\.json .*run `dvc repro distill@fast`"):
        student(predictor, Path(broken))
