"""Rows that break a physical rule are rejected, each with its own reason."""

import math

import numpy as np
import pytest
from crystals import perovskite, record, rewrite, rock_salt

from matscout.crystal import Crystal
from matscout.curation.row_checks import reject_unphysical, shortest_distance
from matscout.params import load_params

LIMITS = load_params().curation.validity


def reason(**changes):
    rejection = reject_unphysical(record("mp-1", **changes), LIMITS)
    return None if rejection is None else rejection.reason


def test_a_sound_row_is_not_rejected():
    assert reason() is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"band_gap": math.nan}, "label_not_finite"),
        ({"bulk_modulus": math.inf}, "label_not_finite"),
        ({"band_gap": -0.5}, "band_gap_out_of_range"),
        ({"bulk_modulus": -12.0}, "bulk_modulus_out_of_range"),
        ({"shear_modulus": 4.2e4}, "shear_modulus_out_of_range"),
        ({"formation_energy_per_atom": 25.4}, "formation_energy_per_atom_out_of_range"),
    ],
)
def test_bad_labels(changes, expected):
    assert reason(**changes) == expected


def cell(lattice=None, species=("Na", "Cl"), frac=((0, 0, 0), (0.5, 0.5, 0.5))):
    return Crystal(
        np.diag([4.0, 4, 4]) if lattice is None else np.array(lattice, float), species, np.array(frac, float)
    )


@pytest.mark.parametrize(
    ("crystal", "expected"),
    [
        (cell(species=(), frac=np.empty((0, 3))), "no_atoms"),
        (cell(species=("Na", "Xx")), "unknown_element"),
        (cell(frac=((0, 0, 0),)), "shapes_disagree"),
        (cell(frac=((0, 0, math.nan), (0.5, 0.5, 0.5))), "cell_not_finite"),
        (cell(lattice=[[4, 0, 0], [0, 4, 0], [4, 4, 0]]), "zero_volume"),
        (cell(lattice=[[4, 0, 0], [6e4, 4, 0], [0, 0, 4]]), "lattice_too_skewed"),
        (cell(frac=((0, 0, 2e6), (0.5, 0.5, 0.5))), "cell_too_large"),
        (cell(lattice=np.diag([40, 40, 40])), "volume_per_atom_out_of_range"),
        (cell(frac=((0, 0, 0), (0.05, 0, 0))), "atoms_overlap"),
        (cell(frac=((0, 0, 0.01), (0, 0, 0.99))), "atoms_overlap"),
        (cell(lattice=np.diag([0.5, 8, 8]), species=("Na",), frac=((0, 0, 0),)), "atoms_overlap"),
        (Crystal(np.diag([4.0, 4, 4 * 201]), ("Na",) * 201, np.zeros((201, 3))), "too_many_atoms"),
    ],
)
def test_bad_cells(crystal, expected):
    assert reason(crystal=crystal) == expected


def test_the_smallest_distance_of_a_graph_holds_whatever_the_limits_say():
    lax = LIMITS.model_copy(update={"min_distance": 0.1})
    rejection = reject_unphysical(record("mp-1", crystal=cell(frac=((0, 0, 0), (0.1, 0, 0)))), lax)
    assert rejection.reason == "atoms_overlap"
    assert "0.5 Å" in rejection.detail


def test_a_rejection_names_the_row_its_value_and_the_remedy():
    rejection = reject_unphysical(record("mp-1", band_gap=-0.5), LIMITS)
    assert rejection.material_id == "mp-1"
    assert "-0.5" in rejection.detail
    assert "[0, 20]" in rejection.detail
    assert "check the unit" in rejection.detail


@pytest.mark.parametrize("seed", range(8))
def test_shortest_distance_agrees_with_brute_force_in_a_skewed_cell(seed):
    rng = np.random.default_rng(seed)
    crystal = Crystal(np.eye(3) * 4 + rng.normal(size=(3, 3)), ("Na",) * 4, rng.random((4, 3)))
    skewed = Crystal(
        np.array([[1, 0, 0], [7, 1, 0], [-5, 9, 1.0]]) @ crystal.lattice, crystal.species, np.zeros((4, 3))
    )
    same = Crystal(
        skewed.lattice, crystal.species, crystal.frac_coords @ crystal.lattice @ np.linalg.inv(skewed.lattice)
    )
    brute = brute_force_distance(crystal)
    found = shortest_distance(same, limit=brute + 0.1)
    assert found == pytest.approx(brute, abs=1e-9)


def brute_force_distance(crystal, reach=4):
    shifts = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3), axis=-1).reshape(-1, 3)
    best = math.inf
    for i in range(crystal.n_atoms):
        for j in range(crystal.n_atoms):
            vectors = (crystal.frac_coords[j] - crystal.frac_coords[i] + shifts) @ crystal.lattice
            lengths = np.linalg.norm(vectors, axis=1)
            best = min(best, lengths[lengths > 1e-9].min())
    return best


def test_shortest_distance_does_not_depend_on_the_cell():
    expected = shortest_distance(rock_salt(), 3.0)
    assert expected == pytest.approx(5.64 / 2)
    assert shortest_distance(rewrite(rock_salt(), times=(2, 1, 2)), 3.0) == pytest.approx(expected)
    assert shortest_distance(perovskite(), 3.0) == pytest.approx(2.0)
