"""Labelling goes on where it was killed, and starts over for other arguments."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from matscout import columns
from matscout.crystal import ATOMIC_NUMBERS, Crystal
from matscout.errors import InputError
from matscout.files import sha256_of, write_parquet
from matscout.hypothetical import label_crystals
from matscout.hypothetical.draw_crystals import SIMILAR_EXCHANGE
from matscout.hypothetical.least_energies import LikelyMinima
from matscout.hypothetical.potential_labels import EXCHANGED, MINIMUM, POINTS, ROUTE, Labels
from matscout.params import Hypothetical
from matscout.potentials.potential import Facts

METALS = ("Li", "Na", "K", "Mg", "Ca", "Sr", "Ba", "Ti")
ANIONS = ("O", "S", "F", "Cl", "N", "Se")


class Well:
    """A potential whose energy is a parabola in the logarithm of the volume per atom; it counts its calls."""

    facts = Facts("well", "1", "0" * 64, "PBE", columns.UNCORRECTED, "MIT", "nobody")

    def __init__(self):
        self.calls = 0

    def energies(self, crystals):
        self.calls += 1
        logs = np.array([np.log(crystal.volume / crystal.n_atoms / 20) for crystal in crystals])
        return (2 * logs**2 - 3) * [crystal.n_atoms for crystal in crystals]


@pytest.fixture
def inputs(tmp_path):
    fcc = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    rows = []
    for a, x in itertools.product(METALS, ANIONS):
        edge = 4 + 0.02 * (ATOMIC_NUMBERS[a] + ATOMIC_NUMBERS[x])
        crystal = Crystal(edge * fcc, (a, x), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
        described = {columns.FORMULA: a + x, columns.SPACE_GROUP: 225, columns.N_ATOMS: 2, columns.SYNTHETIC: False}
        known = {columns.FORMATION_ENERGY: -1.0, columns.N_ATOMS_PRIMITIVE: 2}
        rows.append({columns.MATERIAL_ID: f"mp-{a}{x}", **crystal.to_row(), **described, **known})
    table = pd.DataFrame(rows)
    write_parquet(tmp_path / "materials.parquet", table)
    split = pd.DataFrame({columns.MATERIAL_ID: table[columns.MATERIAL_ID], columns.FOLD: columns.TRAIN})
    write_parquet(tmp_path / "split.parquet", split)
    return tmp_path / "materials.parquet", tmp_path / "split.parquet"


@pytest.fixture
def well(monkeypatch, tmp_path):
    potential = Well()
    monkeypatch.setattr(label_crystals, "PART", 8)
    monkeypatch.setattr(label_crystals, "load_potential", lambda _: potential)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    return potential


def label(inputs, destination, seed=3, n_similar=0):
    label_crystals.build_labels(
        *inputs, destination, n=20, n_similar=n_similar, seed=seed, potential="well", second="well", workers=1
    )
    return sha256_of(destination)


def test_killed_after_a_part_it_goes_on_and_ends_in_the_same_bytes(inputs, well, tmp_path, monkeypatch):
    whole = label(inputs, tmp_path / "whole")
    calls, well.calls = well.calls, 0
    save, saved = label_crystals.Parts.save_arrays, []

    def save_and_die(parts, name, arrays):
        save(parts, name, arrays)
        saved.append(name)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(label_crystals.Parts, "save_arrays", save_and_die)
        label(inputs, tmp_path / "killed")
    before = well.calls
    assert not (tmp_path / "killed").exists()
    assert label(inputs, tmp_path / "killed") == whole
    assert well.calls == calls, "what was labelled before the kill is not labelled again"
    assert before > 0


def test_other_arguments_start_over(inputs, well, tmp_path, monkeypatch):
    other = label(inputs, tmp_path / "other", seed=4)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(label_crystals, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        label(inputs, tmp_path / "killed", seed=3)
    assert label(inputs, tmp_path / "again", seed=4) == other


def test_more_crystals_keep_what_a_killed_run_has_labelled(inputs, well, tmp_path, monkeypatch):
    whole = label(inputs, tmp_path / "whole", n_similar=24)
    calls = well.calls
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(label_crystals, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        label(inputs, tmp_path / "more", n_similar=16)
    well.calls = 0
    assert label(inputs, tmp_path / "more", n_similar=24) == whole
    assert well.calls < calls / 2


def test_crystals_of_similar_elements_follow_the_others(inputs, well, tmp_path):
    label(inputs, tmp_path / "broad")
    label(inputs, tmp_path / "both", n_similar=12)
    broad, both = (Labels.read(tmp_path / name).table for name in ("broad", "both"))
    pd.testing.assert_frame_equal(both.iloc[: len(broad)].astype(broad.dtypes), broad)
    assert 0 < len(both) - len(broad) <= 12
    assert set(both[ROUTE].iloc[len(broad) :]) == {SIMILAR_EXCHANGE}


def test_with_a_network_of_volumes_one_energy_is_a_label(inputs, well, tmp_path):
    label(inputs, tmp_path / "searched")
    searched, well.calls = well.calls, 0

    class AllSure:
        fingerprint = "all sure"

        def __call__(self, crystals):
            return LikelyMinima(np.full(len(crystals), 0.1), np.ones(len(crystals), dtype=bool))

    arguments = {"n": 20, "n_similar": 0, "seed": 3, "potential": "well", "second": None, "workers": 1}
    label_crystals.build_labels(*inputs, tmp_path / "known", **arguments, volumes=AllSure())
    assert well.calls < searched
    table, before = (Labels.read(tmp_path / name).table for name in ("known", "searched"))
    assert table[POINTS].tolist() == [1] * len(table)
    assert table[MINIMUM].tolist() == pytest.approx([np.exp(0.1)] * len(table))
    assert before[POINTS].tolist() == [3] * len(before)
    both = before.merge(table, on=[columns.PARENT_ID, EXCHANGED])
    assert len(both) == len(before)
    excess = 2 * (0.1 - np.log(both[f"{MINIMUM}_x"])) ** 2
    np.testing.assert_allclose(both["energy_y"] - both["energy_x"], excess, atol=1e-5)


def test_own_elements_alone_are_drawn(inputs, well, tmp_path):
    own = {"n": 12, "elements": ["Li", "Na", "K", "Rb", "O", "S", "N"], "potential": "well", "seed": 1}
    other = {"path": str(tmp_path / "broad"), "n": 5, "per_epoch": 1, "calibration": 0.1, "own": own}
    label(inputs, tmp_path / "broad")
    well.calls = 0
    label_crystals.label_own_crystals(*inputs, Hypothetical(**other), tmp_path / "own", workers=1)
    mine = Labels.read(tmp_path / "own")
    elements = {part.partition(">")[2] for text in mine.table[EXCHANGED] for part in text.split()}
    assert elements
    assert elements <= set(own["elements"])
    assert mine.known.equals(Labels.read(tmp_path / "broad").known), (
        "the same potential's known energies are taken over"
    )
    own["elements"] = ["Xe", "Kr"]
    with pytest.raises(InputError, match="no hypothetical crystal of the elements Kr, Xe"):
        label_crystals.label_own_crystals(*inputs, Hypothetical(**other), tmp_path / "none", workers=1)
    assert not (tmp_path / "none").exists()


def test_without_own_labels_the_stage_leaves_a_folder_that_holds_none(inputs, tmp_path):
    own = {"n": 0, "elements": None, "potential": "well", "seed": 1}
    settings = Hypothetical(path="absent", n=5, per_epoch=1, calibration=0.1, own=own)
    label_crystals.label_own_crystals(*inputs, settings, tmp_path / "own", workers=1)
    assert [path.name for path in (tmp_path / "own").iterdir()] == [label_crystals.COUNT_NAME]


def test_labels_join_others_of_the_same_potential(inputs, well, tmp_path):
    label(inputs, tmp_path / "broad")
    label(inputs, tmp_path / "both", n_similar=12)
    one, both = Labels.read(tmp_path / "broad"), Labels.read(tmp_path / "both")
    joined = one.joined(both)  # the first labels are there twice
    assert len(joined.table) == len(both.table.drop_duplicates([columns.PARENT_ID, EXCHANGED]))
    joined.write(tmp_path / "joined")
    assert set(Labels.read(tmp_path / "joined").parents) == set(both.parents)
    other = replace(both, potential=replace(both.potential, weights_sha256="1" * 64))
    with pytest.raises(InputError, match="two scales"):
        one.joined(other)
