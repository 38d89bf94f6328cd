"""`matscout add-data`: odd column names are found, counts told, two files written, all else left alone."""

import csv
import shutil

import pytest
import yaml
from imports import ROOT
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from typer.testing import CliRunner

from matscout.cli import app
from matscout.commands.add_data import add_data, with_database
from matscout.errors import InputError, ParameterError
from matscout.params import check_params, load_params
from matscout.sources.acquire import acquire
from matscout.sources.snapshots.snapshot import read_snapshot
from matscout.sources.snapshots.snapshot_files import read_manifest

N = 30
HEADER = ("Sample No.", "CIF (P1)", "E_g (meV)", "ΔH_f [kJ/mol]", "who", "XRD file")


def write_lab(path, header=HEADER, gap=lambda i: 1500 + i, energy=lambda _i: -96.485332):
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        for i in range(N):
            salt = Structure.from_spacegroup(
                "Fm-3m", Lattice.cubic(5.6 + i / 100), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3]
            )
            writer.writerow([f"S-{i}", str(CifWriter(salt)), gap(i), energy(i) if i % 3 else "", "me", f"{i}.xy"])
    return path


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(**changes):
    return {"mapping": {}, "units": {}, "functional": "PBE", "licence": "Lab of solids, CC BY 4.0"} | changes


def test_thirty_rows_with_odd_column_names_are_added_in_one_command(repository):
    write_lab(repository / "lab.csv")
    before = {name: (repository / name).read_text() for name in ("params.yaml", "dvc.yaml")}
    command = ["add-data", "lab.csv", "--name", "lab", "--licence", "Lab of solids, CC BY 4.0"]
    told = CliRunner().invoke(app, command, catch_exceptions=False)
    assert told.exit_code == 0
    assert "30 rows (PBE), labels:" in told.output
    assert "band_gap: column 'E_g (meV)', in meV" in told.output
    assert "formation_energy_per_atom 20" in told.output
    block = load_params().databases["lab"]
    assert block.file.units == {"band_gap": "meV", "formation_energy_per_atom": "kJ/mol/atom"}
    acquire("lab", block, repository / "data/raw/lab")
    records = list(read_snapshot(repository / "data/raw/lab"))
    assert [record.material_id for record in records[:2]] == ["S-0", "S-1"]
    assert records[1].band_gap == pytest.approx(1.501)
    assert records[1].formation_energy_per_atom == pytest.approx(-1.0)
    assert read_manifest(repository / "data/raw/lab").licence == "Lab of solids, CC BY 4.0"
    for name, text in before.items():  # everything that stood there stands there, comments too
        lines = iter((repository / name).read_text().splitlines())
        assert name == "dvc.yaml" or all(line in lines for line in text.splitlines())
    stages = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    assert "--raw data/raw/oqmd --raw data/raw/lab" in stages["curate"]["cmd"]
    assert all("data/raw/lab" in stages[name]["deps"] for name in ("curate", "report", "summarize"))
    with pytest.raises(ParameterError, match="none of aflow, lab"):
        add_data(repository / "lab.csv", "lab", **arguments())


def test_a_column_that_is_named_goes_before_a_guess(repository):
    write_lab(repository / "lab.csv", header=("id", "structure", "gap (calc)", "hf", "gap (opt)", "note"))
    found = add_data(repository / "lab.csv", "lab", **arguments(mapping={"band_gap": "gap (calc)"}))
    assert found.mapping == {"band_gap": "gap (calc)", "formation_energy_per_atom": "hf"}
    with pytest.raises(ParameterError, match="'Eg' is not a column of"):
        add_data(repository / "lab.csv", "more", **arguments(mapping={"band_gap": "Eg"}))


def test_a_label_of_one_s_own_is_named_kept_and_a_target_at_once(repository):
    write_lab(
        repository / "lab.csv", header=("id", "cif", "Eg (opt)", "hardness", "who", "x"), gap=lambda i: 1.5 + i / 9
    )
    command = [
        "add-data",
        "lab.csv",
        "--name",
        "lab",
        "--label",
        "band_gap_exp=Eg (opt)",
        "--label",
        "vickers=hardness",
    ]
    told = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "labels: band_gap_exp 30, vickers 20" in told.output
    tree = yaml.safe_load((repository / "params.yaml").read_text())
    assert tree["databases"]["lab"]["file"]["labels"] == {"band_gap_exp": "Eg (opt)", "vickers": "hardness"}
    tree["targets"]["band_gap_exp"] = {"label": "band_gap_exp", "noise": None, "head": "laplace", "weight": 0.3}
    block = check_params(tree).databases["lab"]
    acquire("lab", block, repository / "data/raw/lab")
    own = [record.own_labels for record in read_snapshot(repository / "data/raw/lab")]
    assert own[0] == {"band_gap_exp": 1.5}  # the hardness of every third row is empty
    assert own[1] == {"band_gap_exp": pytest.approx(1.5 + 1 / 9), "vickers": pytest.approx(-96.485332)}
    absent = block.model_copy(update={"file": block.file.model_copy(update={"labels": {"vickers": "Hv"}})})
    with pytest.raises(InputError, match=r"databases\.lab\.file\.labels\.vickers = 'Hv': none of 30 rows"):
        acquire("lab", absent, repository / "data/raw/other")


@pytest.mark.parametrize(
    ("label", "error", "words"),
    [
        ({"band_gap": "E_g (meV)"}, ParameterError, "'band_gap' is no name for a label"),
        ({"hardness": "Hv"}, ParameterError, "--label: 'Hv' is not a column of"),
        ({"hardness": "who"}, InputError, "none of 30 row"),
    ],
)
def test_a_label_that_cannot_be_one_is_refused(repository, label, error, words):
    write_lab(repository / "lab.csv")
    with pytest.raises(error, match=words):
        add_data(repository / "lab.csv", "lab", **arguments(own_labels=label))


def test_rows_without_a_label_are_an_error_here_and_in_acquire(repository):
    write_lab(repository / "lab.csv", header=("id", "cif", "x1", "x2", "x3", "x4"))
    before = (repository / "params.yaml").read_bytes()
    with pytest.raises(InputError, match=r"none of 30 rows .* has a label; its columns are \['id', 'cif', 'x1'"):
        add_data(repository / "lab.csv", "lab", **arguments())
    assert (repository / "params.yaml").read_bytes() == before
    block = load_params().databases["oqmd"].model_copy(update={"origin": "file", "path": "lab.csv"})
    with pytest.raises(InputError, match="none of 30 rows has a label"):
        acquire("oqmd", block, repository / "data/raw/oqmd")
    assert not (repository / "data/raw/oqmd").exists()


@pytest.mark.parametrize("name", ["Lab", "oqmd", "a b", "../x"])
def test_a_name_that_cannot_be_one_is_rejected(repository, name):
    write_lab(repository / "lab.csv")
    with pytest.raises(ParameterError, match="small letters"):
        add_data(repository / "lab.csv", name, **arguments())


def test_a_pipeline_that_lists_other_snapshots_is_left_alone():
    with pytest.raises(ParameterError, match="lists no data/raw/oqmd"):
        with_database("stages: {}\n", "oqmd", "lab")
