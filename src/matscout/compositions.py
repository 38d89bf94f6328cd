"""Compositions: as arrays, and those that are almost certainly metals.

Arrays have one row a crystal and one column an element, that of atomic number z in column z - 1. The gap of a certain
metal is zero and needs no calculation.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import combinations_with_replacement
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition, Element

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


MOST_STATES: Final = 2  # oxidation states that one element has in one formula


def is_surely_metal(counts: Mapping[str, int]) -> bool:
    """Whether a compound is a metal because no oxidation states balance it, not even mixed ones.

    A gap needs filled shells: electrons that no oxidation state accounts for occupy a band. Most known compounds of
    this kind are metals. Nearly all hypothetical ones are, since an exchange of elements rarely gives the structures
    that open a gap at such a composition (clusters, Zintl anions). Pure elements never count.

    Args:
        counts: number of atoms by element symbol, of a cell or a formula.
    """
    divisor = gcd(*counts.values())
    return len(counts) > 1 and not _balances(tuple((symbol, counts[symbol] // divisor) for symbol in sorted(counts)))


@cache
def _balances(formula: tuple[tuple[str, int], ...]) -> bool:
    """Whether oxidation states seen in the ICSD can add up to zero, with at most two states of each element."""
    totals = {0}
    for symbol, count in formula:
        totals = {total + own for total in totals for own in _charges(symbol, count)}
    return 0 in totals


@cache
def _charges(symbol: str, count: int) -> frozenset[int]:
    """Total charges that `count` atoms of an element can have."""
    element = Element(symbol)
    states = element.icsd_oxidation_states or element.common_oxidation_states
    if not states:
        return frozenset({0})
    pairs = combinations_with_replacement(states, MOST_STATES)
    return frozenset(n * first + (count - n) * second for first, second in pairs for n in range(count + 1))
