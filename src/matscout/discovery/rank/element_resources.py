"""Resources: price and abundance of a crystal's elements, and how few countries supply them.

The tables are those of libraries, and as old as their sources: prices of pure elements by pymatgen
(`costdb_elements.csv`, each with its reference, 2013 and 2019), Herfindahl-Hirschman indices by pymatgen (Gaultois et
al., "Data-driven review of thermoelectric materials", Chem. Mater. 25, 2911, 2013), abundances in the Earth's crust by
smact (CRC Handbook of Chemistry and Physics, 92nd edition, 2011). No library offers a cited table of toxicity: goals
deny elements instead.
"""

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis import hhi
from pymatgen.core import Element
from smact.data_loader import lookup_element_data

from matscout import columns
from matscout.compositions import element_counts
from matscout.crystal import ATOMIC_NUMBERS, SYMBOLS

Array = NDArray[np.float64]


def resource_columns(species: Sequence[Sequence[str]]) -> dict[str, Array]:
    """(n,) each, by column name; NaN where the table lacks an element of the crystal.

    Price ($/kg) and both indices are means over the elements by mass; the abundance (mg/kg) is that of the
    rarest element, which limits how much can be made.
    """
    fractions = _mass_fractions(species)
    present = fractions > 0
    figures = element_figures()
    averaged = {
        name: np.where(present, fractions * figures[name], 0.0).sum(axis=1)
        for name in (columns.ELEMENTAL_COST, columns.HHI_PRODUCTION, columns.HHI_RESERVE)
    }
    rarest = np.where(present, figures[columns.CRUSTAL_ABUNDANCE], np.inf).min(axis=1, initial=np.inf)
    rarest[(present & np.isnan(figures[columns.CRUSTAL_ABUNDANCE])).any(axis=1)] = np.nan
    return {**averaged, columns.CRUSTAL_ABUNDANCE: rarest}


@cache
def element_figures() -> dict[str, Array]:
    """(119,) of each column by atomic number; NaN where the source has no value."""
    figures = {name: np.full(len(SYMBOLS), np.nan) for name in columns.RESOURCES}
    prices, indices = _prices(), hhi.HHIModel().symbol_hhip_hhir
    for number, symbol in enumerate(SYMBOLS[1:], start=1):
        figures[columns.ELEMENTAL_COST][number] = prices.get(symbol, np.nan)
        if symbol in indices:
            figures[columns.HHI_PRODUCTION][number], figures[columns.HHI_RESERVE][number] = indices[symbol]
        if abundance := _crustal_abundance(symbol):
            figures[columns.CRUSTAL_ABUNDANCE][number] = abundance
    return figures


def _prices() -> dict[str, float]:
    """$/kg by element, from the table of `pymatgen.analysis.cost`, whose import takes seconds."""
    with (Path(hhi.__file__).parent / "costdb_elements.csv").open(encoding="utf-8") as table:
        rows = [(formula, float(price)) for formula, price, *_ in csv.reader(table, quotechar="|")]
    return {formula: price for formula, price in reversed(rows) if formula in ATOMIC_NUMBERS}  # the first row counts


def _crustal_abundance(symbol: str) -> float | None:
    """From the table behind `smact.Element`, whose constructor reads seven others; None if it lacks the element."""
    row = lookup_element_data(symbol, copy=False)
    return None if row is None else row["Abundance"]


def _mass_fractions(species: Sequence[Sequence[str]]) -> Array:
    """(n, 119) share of each element in the mass."""
    masses = np.pad(element_counts(species), ((0, 0), (1, 0))) * _atomic_masses()  # by atomic number, from 0
    return masses / masses.sum(axis=1, keepdims=True)


@cache
def _atomic_masses() -> Array:
    return np.array([0.0, *(float(Element(symbol).atomic_mass) for symbol in SYMBOLS[1:])])
