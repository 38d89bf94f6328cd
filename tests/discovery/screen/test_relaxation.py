"""Relaxing with the real CHGNet, where the extra `relax` is installed."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from matscout.crystal import Crystal
from matscout.discovery.screen import relaxation
from matscout.discovery.screen.candidate_scores import Judge
from matscout.errors import InputError
from matscout.params import Relaxation

is_installed = importlib.util.find_spec("chgnet") is not None


class Volumes(Judge):
    """A judge that reads volumes: what it says of a cell shows which cell it saw."""

    def judge(self, ids, crystals):
        return pd.DataFrame({"material_id": ids, "seen": [crystal.volume for crystal in crystals]})


@pytest.mark.skipif(not is_installed, reason="the extra `relax` is not installed")
def test_a_swollen_salt_shrinks_to_its_volume_and_both_are_kept():
    swollen = Crystal.from_structure(
        Structure(Lattice.from_parameters(4.4, 4.4, 4.4, 60, 60, 60), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])
    )
    best = pd.DataFrame([{"candidate_id": "ms-0", "seen": swollen.volume, **swollen.to_row()}])
    told = relaxation.relax(best, Volumes(None, None, None), Relaxation(model="chgnet", force=0.05, steps=100))
    row = told.iloc[0]
    assert row["converged"]
    assert 0 < row["steps"] <= 100
    assert row["potential_energy_after"] < row["potential_energy_before"]
    np.testing.assert_allclose(row["lattice_before"], swollen.lattice.reshape(-1))
    assert row["volume_per_atom_after"] == pytest.approx(22.6, rel=0.05)  # PBE: 5.65 to 5.70 Å
    assert row["seen_after"] == pytest.approx(2 * row["volume_per_atom_after"], rel=1e-6)
    assert (row["space_group_before"], row["space_group_after"]) == (225, 225)


@pytest.mark.skipif(not is_installed, reason="the extra `relax` is not installed")
def test_what_did_not_converge_is_told():
    salt = Crystal.from_structure(Structure(Lattice.cubic(3.0), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.45, 0.5]]))
    best = pd.DataFrame([{"candidate_id": "ms-0", "seen": salt.volume, **salt.to_row()}])
    told = relaxation.relax(best, Volumes(None, None, None), Relaxation(model="chgnet", force=0.01, steps=3))
    assert not told["converged"].iloc[0]
    assert told["steps"].iloc[0] == 3


def test_a_potential_that_is_not_there_is_told_before_any_work(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"'chgnet' is not installed: pip install -e '\.\[relax\]'"):
        relaxation.check_relaxation(Relaxation(model="chgnet", force=0.1, steps=10))
    relaxation.check_relaxation(Relaxation(model=None, force=0.1, steps=10))
