"""Compositions that are almost certainly metals, so that their gap of zero needs no calculation."""

from collections.abc import Mapping
from functools import cache
from itertools import combinations_with_replacement
from math import gcd
from typing import Final

from pymatgen.core import Element

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
