"""Compositions as arrays, against counting by hand and pymatgen."""

import numpy as np
import pytest
from pymatgen.core import Composition

from matscout.compositions import atomic_fractions, element_counts, fractions_of_formulas
from matscout.crystal import ATOMIC_NUMBERS, SYMBOLS

SPECIES = [["Na", "Cl"], ["Ti", "O", "O"], ["Og"], []]


def test_atoms_are_counted_by_element():
    counts = element_counts(SPECIES)
    assert counts.shape == (4, 118)
    assert {SYMBOLS[z + 1]: counts[1, z] for z in np.flatnonzero(counts[1])} == {"Ti": 1, "O": 2}
    assert counts.sum(axis=1).tolist() == [2, 3, 1, 0]


def test_no_crystals_have_no_rows():
    assert element_counts([]).shape == (0, 118)


def test_a_symbol_that_is_no_element_is_rejected():
    with pytest.raises(KeyError, match="Xx"):
        element_counts([["Xx"]])


@pytest.mark.parametrize("formula", ["SrTiO3", "Ba(OH)2", "Fe0.95O"])
def test_fractions_of_a_formula_are_pymatgens(formula):
    fractions = fractions_of_formulas([formula])[0]
    for symbol, z in ATOMIC_NUMBERS.items():
        assert fractions[z - 1] == pytest.approx(Composition(formula).get_atomic_fraction(symbol))


def test_a_formula_and_its_atoms_have_the_same_fractions_to_the_last_bit():
    formulas = ["SrTiO3", "Fe2O3", "SrTiO3"]
    species = [["O", "Sr", "O", "Ti", "O"] * 2, ["Fe", "Fe", "O", "O", "O"], ["Sr", "Ti", "O", "O", "O"]]
    np.testing.assert_array_equal(fractions_of_formulas(formulas), atomic_fractions(species))
