"""The release: whole, that of dvc.lock, and what answers where nothing was trained."""

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import yaml
from newcomer import write_cifs
from pymatgen.core import Lattice, Structure
from small_outputs import ROOT, make_outputs
from typer.testing import CliRunner

import matscout
from matscout.cli import app
from matscout.ensemble.calibration.ensemble_calibration import EnsembleCalibration
from matscout.ensemble.evaluate import evaluate
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.ensemble.release import RELEASE, answering, card, folder_md5, lowest_rows, machine_kind, make_release
from matscout.errors import StoreError
from matscout.files import sha256_of


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A repository with a trained ensemble of two members."""
    root = tmp_path_factory.mktemp("own")
    made = make_outputs(root)
    evaluate(made.members, destination=root / "data" / "ensemble", **made.arguments())
    shutil.copytree(made.members, root / "data" / "members")
    (root / "data" / "curated").mkdir()
    shutil.copy(made.materials, root / "data" / "curated" / "materials.parquet")
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    return root, made


def locked_members():
    """Hashes of the members' folders by name, in dvc.lock as it lies here and as it was committed."""
    texts = [(ROOT / "dvc.lock").read_text()]
    shown = subprocess.run(["git", "show", "HEAD:./dvc.lock"], cwd=ROOT, capture_output=True, text=True, check=False)
    texts += [shown.stdout] if shown.returncode == 0 else []
    for text in texts:
        stages = yaml.safe_load(text)["stages"]
        yield {
            name.removeprefix("train@"): stage["outs"][0]["md5"]
            for name, stage in stages.items()
            if name.startswith("train@")
        }


def test_shipped_weights_are_those_of_dvc_lock():
    """Files only, so that the processor of the test does not matter; that of the last training does."""
    shipped = {name: folder_md5(files) for name, files in card()["members"].items()}
    if any(shipped == locked for locked in locked_members()):
        return
    if card()["made_on"] != machine_kind():
        pytest.skip(f"trained again on another kind of machine than the release's ({card()['made_on']})")
    pytest.fail("dvc.lock has other members than the release: python -m matscout.ensemble.release, and commit both")


def test_the_release_is_whole():
    """Each shipped file is the one that was listed, and the calibration was fitted on these weights."""
    import hashlib

    for name, files in card()["members"].items():
        for file in ("weights.safetensors", "member.json"):
            content = (RELEASE / "members" / name / file).read_bytes()
            assert hashlib.md5(content, usedforsecurity=False).hexdigest() == files[file], f"{name}/{file}"
    calibration = EnsembleCalibration.load(RELEASE / "calibration.json")
    for name, sha256 in calibration.members.items():
        assert sha256_of(RELEASE / "members" / name / "weights.safetensors") == sha256
    assert sum(path.stat().st_size for path in RELEASE.rglob("*") if path.is_file()) < 11e6


def test_prediction_works_in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])
    table = matscout.predict({"salt": salt})
    assert "the release" in table.attrs["answered_by"]
    row = table.iloc[0]
    assert row["band_gap"] == pytest.approx(5.0, abs=1.0)  # PBE: 5.0 eV (mp-22862)
    assert row["formation_energy_per_atom"] == pytest.approx(-2.1, abs=0.2)
    assert row["known_formula"] == "mp-22862"
    assert row["competing_phases"] == "1.00 NaCl (mp-22862)"
    alone = matscout.predict(salt)  # which is a sequence of sites
    assert alone["formula"].tolist() == ["NaCl"]
    salt.to(filename="salt.cif")
    from_file = matscout.predict("salt.cif")
    np.testing.assert_allclose(from_file["band_gap"], table["band_gap"], atol=1e-4)
    ranked = matscout.screen_materials({"salt": salt}, goal="battery")
    assert ranked["energy_above_hull"].notna().all()


def test_a_newcomer_s_folder_is_answered_on_the_command_line(tmp_path, monkeypatch):
    """Ten files: salts, an element, slabs, a molecule in a box, an alloy: a row with remarks, or the reason why not."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    write_cifs(tmp_path / "cifs")
    told = CliRunner().invoke(app, ["predict", "cifs"], catch_exceptions=False)
    assert told.exit_code == 0
    head, *lines = told.stdout.splitlines()
    assert all(
        word in head for word in ("formula", "PBE gap, eV", "formation, eV/at.", "above hull, eV/at.", "would decay to")
    )
    assert sum(line.startswith(("NaCl", "KBr", "MgO", "LiF", "si ")) for line in lines) == 5
    assert "known formula (mp-22862)" in told.stdout
    assert "a layer in vacuum? no atom in 8.0 Å along c" in told.stdout
    assert "2.8 times the volume that its atoms fill in known crystals" in told.stdout
    assert "answered by the release" in told.stderr
    assert "crystal/s" not in told.stderr  # no bars for work of a second
    for name, reason in (("slab", "not_bulk"), ("water", "not_bulk"), ("alloy", "disordered")):
        assert f"left out cifs/{name}.cif row 0: {reason}" in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["cifs"]  # nothing is written unless asked for
    answer = json.loads(CliRunner().invoke(app, ["predict", "cifs/si.cif", "--json"], catch_exceptions=False).stdout)
    assert answer["rows"][0]["formula"] == "Si"
    assert answer["answered_by"].startswith("the release")


def test_a_repository_s_own_ensemble_comes_first_and_an_unfinished_one_is_told(own, tmp_path, monkeypatch):
    root, made = own
    monkeypatch.chdir(root)
    found = answering()
    assert not found.is_release
    assert "this repository's ensemble" in found.told
    assert found.materials is not None
    assert found.limits == made.params.curation.validity
    assert "elsewhere" in answering(members=root / "elsewhere").told
    monkeypatch.chdir(tmp_path)
    assert answering().is_release
    (tmp_path / "params.yaml").write_text("learning_rate: 0.1\n")  # another project's
    assert "battery" in answering().goals
    (tmp_path / "data" / "members" / "cgcnn").mkdir(parents=True)
    assert "not calibrated yet" in answering().told


def test_a_release_predicts_what_its_run_predicts(own, tmp_path):
    root, made = own
    params = made.params.model_copy(update={"members": {n: made.params.members[n] for n in members_of(made)}})
    content = make_release(params, root=root, destination=tmp_path / "release")
    assert set(content["members"]) == members_of(made)
    ours = EnsemblePredictor.load(root / "data/members", root / "data/ensemble")
    theirs = EnsemblePredictor.load(tmp_path / "release" / "members", tmp_path / "release")
    from matscout.graphs.graph_store import GraphStore

    store = GraphStore.open(made.graphs)
    rows = np.arange(40)
    pd.testing.assert_series_equal(theirs.predict(store, rows)["band_gap"], ours.predict(store, rows)["band_gap"])
    hull = pd.read_parquet(tmp_path / "release" / "hull.parquet")
    assert json.loads((tmp_path / "release" / "release.json").read_text())["goals"]["battery"]["require_elements"]
    pd.testing.assert_frame_equal(hull, lowest_rows(made.materials), check_dtype=False)
    full = pd.read_parquet(made.materials)
    assert hull["formation_energy_aligned"].min() == full["formation_energy_aligned"].min()
    assert len(hull) == full["species"].map(lambda species: tuple(sorted(species))).nunique()


def test_a_run_that_is_not_finished_makes_no_release(own, tmp_path):
    with pytest.raises(StoreError, match=r"calibration\.json.*not found; run `make repro` first"):
        make_release(own[1].params, root=tmp_path, destination=tmp_path / "release")


def members_of(made):
    return {path.name for path in made.members.iterdir()}
