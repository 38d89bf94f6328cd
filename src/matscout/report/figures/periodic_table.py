"""Periodic-table heat maps as plain HTML: one coloured cell an element, readable without scripts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pymatgen.core import Element

from matscout.report.figures.palette import mix, readable_on

LAST_ELEMENT = 94
F_BLOCK_GAP = 1  # rows between the seventh period and the f block


@dataclass(frozen=True)
class Cell:
    """One element of the table; `value` None means that there is nothing to show."""

    symbol: str
    row: int
    column: int
    value: float | None
    text: str
    style: str


def heat_map(
    values: Mapping[str, float], *, ramp: tuple[tuple[str, str], tuple[str, str]], log: bool, text: str
) -> list[Cell]:
    """Cells of the elements up to plutonium, coloured by `values`.

    Args:
        values: by element symbol; absent elements stay empty.
        ramp: (low, high) colours on the light page, and on the dark page.
        log: colour by the logarithm (counts over decades); values must then be positive.
        text: format of a value, such as `"{:,.0f} crystals"`.

    Returns:
        One cell an element, by atomic number.
    """
    scaled = {symbol: math.log(value) if log else value for symbol, value in values.items()}
    low, high = (min(scaled.values()), max(scaled.values())) if scaled else (0.0, 1.0)
    cells = []
    for number in range(1, LAST_ELEMENT + 1):
        element = Element.from_Z(number)
        symbol = element.symbol
        row, column = _place(element)
        share = (scaled[symbol] - low) / (high - low or 1.0) if symbol in scaled else None
        value = values.get(symbol)
        label = f"{element.long_name}: " + ("none" if value is None else text.format(value))
        cells.append(Cell(symbol, row, column, value, label, "" if share is None else _style(share, ramp)))
    return cells


def _place(element: Element) -> tuple[int, int]:
    if element.is_lanthanoid or element.is_actinoid:
        first = 57 if element.is_lanthanoid else 89
        return (8 if element.is_lanthanoid else 9) + F_BLOCK_GAP, element.Z - first + 3
    return element.row, element.group


def _style(share: float, ramp: tuple[tuple[str, str], tuple[str, str]]) -> str:
    light, dark = (mix(low, high, share) for low, high in ramp)
    return f"--l:{light};--li:{readable_on(light)};--d:{dark};--di:{readable_on(dark)}"
