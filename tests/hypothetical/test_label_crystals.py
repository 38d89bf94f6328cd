"""Labelling goes on where it was killed, and starts over for other arguments."""

import itertools

import numpy as np
import pandas as pd
import pytest

from matscout import columns
from matscout.crystal import ATOMIC_NUMBERS, Crystal
from matscout.files import sha256_of, write_parquet
from matscout.hypothetical import label_crystals
from matscout.hypothetical.draw_crystals import EXCHANGE
from matscout.hypothetical.potential_labels import ROUTE, Labels
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


def test_similar_crystals_follow_the_others_and_exchange_elements_alone(inputs, well, tmp_path):
    label(inputs, tmp_path / "broad")
    label(inputs, tmp_path / "both", n_similar=12)
    broad, both = (Labels.read(tmp_path / name).table for name in ("broad", "both"))
    pd.testing.assert_frame_equal(both.iloc[: len(broad)].astype(broad.dtypes), broad)
    assert 0 < len(both) - len(broad) <= 12
    assert set(both[ROUTE].iloc[len(broad) :]) == {EXCHANGE}
