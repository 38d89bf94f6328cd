"""Compositions as arrays: one row a crystal, one column an element, that of atomic number z in column z - 1."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition

from matscout.crystal import ATOMIC_NUMBERS, N_ELEMENTS

Array = NDArray[np.float64]


def element_counts(species: Iterable[Sequence[str]]) -> NDArray[np.int64]:
    """(n, 118) atoms of each element, from n lists of element symbols; KeyError on a symbol that is no element."""
    species = list(species)
    n_atoms = np.array([len(symbols) for symbols in species], dtype=np.int64)
    columns = np.array([ATOMIC_NUMBERS[symbol] - 1 for symbols in species for symbol in symbols], dtype=np.int64)
    places = np.repeat(np.arange(len(species)) * N_ELEMENTS, n_atoms) + columns
    return np.bincount(places, minlength=len(species) * N_ELEMENTS).reshape(len(species), N_ELEMENTS)


def atomic_fractions(species: Iterable[Sequence[str]]) -> Array:
    """(n, 118) share of each element in the atoms, from n lists of element symbols."""
    counts = element_counts(species)
    return counts / counts.sum(axis=1, keepdims=True)


def fractions_of_formulas(formulas: Iterable[str]) -> Array:
    """(n, 118) share of each element in the atoms, from n formulas such as `SrTiO3`."""
    formulas = list(formulas)
    distinct = {formula: row for row, formula in enumerate(dict.fromkeys(formulas))}
    table = np.zeros((len(distinct), N_ELEMENTS))
    for formula, row in distinct.items():
        for symbol, fraction in Composition(formula).fractional_composition.as_dict().items():
            table[row, ATOMIC_NUMBERS[symbol] - 1] = fraction
    return table[[distinct[formula] for formula in formulas]]
