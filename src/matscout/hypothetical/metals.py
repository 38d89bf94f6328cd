"""Which compositions are metals beyond reasonable doubt: what the gap can be taught without a calculation."""

from collections.abc import Mapping
from functools import cache
from itertools import combinations_with_replacement
from math import gcd
from typing import Final

from pymatgen.core import Element

MOST_STATES: Final = 2  # different oxidation states of one element in one formula


def is_surely_metal(counts: Mapping[str, int]) -> bool:
    """Whether no oxidation states balance a compound, not even mixed ones.

    A gap needs filled shells: electrons that no oxidation state accounts for stand in a band. Of the known compounds
    of which this holds most are metals, and of hypothetical ones nearly all, since what would open a gap at such a
    composition (clusters, Zintl anions) is rarely hit by an exchange of elements.

    Args:
        counts: atoms by element symbol, of a cell or a formula.
    """
    divisor = gcd(*counts.values())
    return len(counts) > 1 and not _balances(tuple((symbol, counts[symbol] // divisor) for symbol in sorted(counts)))


@cache
def _balances(formula: tuple[tuple[str, int], ...]) -> bool:
    """Whether oxidation states of the ICSD add up to zero, each element in one state or, of several atoms, in two."""
    totals = {0}
    for symbol, count in formula:
        totals = {total + own for total in totals for own in _charges(symbol, count)}
    return 0 in totals


@cache
def _charges(symbol: str, count: int) -> frozenset[int]:
    """Charges that `count` atoms of an element can have together."""
    element = Element(symbol)
    states = element.icsd_oxidation_states or element.common_oxidation_states
    if not states:
        return frozenset({0})
    pairs = combinations_with_replacement(states, MOST_STATES)
    return frozenset(n * first + (count - n) * second for first, second in pairs for n in range(count + 1))
