"""The crystal as arrays agrees with pymatgen and survives every conversion."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matscout.crystal import Crystal

PEROVSKITE = Structure(
    Lattice.cubic(3.905),
    ["Sr", "Ti", "O", "O", "O"],
    [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
)


def test_structure_and_row_round_trips():
    crystal = Crystal.from_structure(PEROVSKITE)
    assert crystal.to_structure() == PEROVSKITE
    again = Crystal.from_row(crystal.to_row())
    np.testing.assert_array_equal(again.lattice, crystal.lattice)
    np.testing.assert_array_equal(again.frac_coords, crystal.frac_coords)
    assert again.species == crystal.species


def test_derived_values_agree_with_pymatgen():
    crystal = Crystal.from_structure(PEROVSKITE)
    assert crystal.n_atoms == len(PEROVSKITE)
    assert crystal.atomic_numbers.tolist() == list(PEROVSKITE.atomic_numbers)
    assert crystal.volume == pytest.approx(PEROVSKITE.volume)
    assert crystal.reduced_formula == PEROVSKITE.composition.reduced_formula == "SrTiO3"


def test_partial_occupation_is_rejected():
    alloy = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    with pytest.raises(ValueError, match="partially occupied"):
        Crystal.from_structure(alloy)


def test_an_unknown_element_is_an_error():
    with pytest.raises(KeyError):
        _ = Crystal(np.eye(3), ("Xx",), np.zeros((1, 3))).atomic_numbers


def test_a_noble_gas_has_a_formula_without_a_warning():
    assert Crystal(4 * np.eye(3), ("Xe", "F", "F"), np.zeros((3, 3))).reduced_formula == "XeF2"
