"""Tables for a terminal: short forms of the wide tables that `matscout predict` and `matscout screen` write."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from matscout import columns

NARROWEST: Final = 80  # characters to which a table is cut; a wider terminal shows more of the last column
NAME: Final = 14  # characters of a crystal's name
ENERGY_ABOVE_HULL: Final = "above hull, eV/at."


def predicted_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The printed form of predictions: each value with its 90 % interval, as text."""
    rows = table.to_dict("records")
    shown = {
        "crystal": [_cut(str(row[columns.MATERIAL_ID]), NAME) for row in rows],
        "formula": table[columns.FORMULA],
    }
    if columns.BAND_GAP in table:
        shown["PBE gap, eV"] = [with_interval(row, columns.BAND_GAP) for row in rows]
    if columns.FORMATION_ENERGY in table:
        shown["formation, eV/at."] = [with_interval(row, columns.FORMATION_ENERGY) for row in rows]
    if columns.ENERGY_ABOVE_HULL in table:
        shown[ENERGY_ABOVE_HULL] = [energy_above_hull(row) for row in rows]
        shown["would decay to"] = [phases(row) for row in rows]
    shown["remarks"] = ["; ".join(remarks(row)) for row in rows]
    return pd.DataFrame(shown)


def screened_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Eight columns of a ranking: values as text, the probability of meeting the goal, and remarks."""
    shown = predicted_rows(table).drop(columns="would decay to", errors="ignore")
    shown.insert(0, "rank", table[columns.RANK].to_numpy())
    chance = [f"{100 * value:.0f} %" for value in table[columns.GOAL_PROBABILITY]]
    shown.insert(shown.shape[1] - 1, "meets goal", chance)
    return shown


def collected_rows(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The printed form of collected results."""
    shown = [
        {
            "candidate": row[columns.MATERIAL_ID],
            "functional": row[columns.FUNCTIONAL] + ("+U" if row[columns.IS_HUBBARD] else ""),
            "total, eV": f"{row['total_energy']:.3f}",
            "formation, eV/at.": _figure(row.get(columns.FORMATION_ENERGY)),
            "correction": _figure(row.get("correction_per_atom")),
            "gap, eV": _figure(row.get(columns.BAND_GAP)),
            "file": row["file"],
        }
        for row in rows
    ]
    return pd.DataFrame(shown)


def with_interval(row: Mapping[str, Any], target: str, digits: int = 2) -> str:
    """`1.31 (0.42 to 2.20)`: the estimate and its 90 % interval.

    Args:
        row: row of a prediction table.
        target: target whose column is shown, in its unit.
        digits: after the point.

    Returns:
        The text.
    """
    value, low, high = (f"{row[target + end]:z.{digits}f}" for end in ("", columns.LO90, columns.HI90))  # z: no -0.00
    return f"{value} ({low} to {high})"


def energy_above_hull(row: Mapping[str, Any]) -> str:
    """The energy above the hull; a lower limit if competing phases are missing, since they could only raise it."""
    if row[columns.STABILITY_JUDGED]:
        return with_interval(row, columns.ENERGY_ABOVE_HULL)
    least = row[columns.ENERGY_ABOVE_HULL]
    return f"{least:.2f} or more" if least > 0 else "not judged"


def phases(row: Mapping[str, Any]) -> str:
    """Competing phases without their ids: `0.60 SrO + 0.40 TiO2`."""
    parts = [part.split(" (")[0] for part in str(row[columns.COMPETING_PHASES]).split(" + ")]
    return parts[0].removeprefix("1.00 ") if len(parts) == 1 else " + ".join(parts)


def remarks(row: Mapping[str, Any]) -> list[str]:
    """Warnings about a row, most serious first."""
    found = []
    if symbols := str(row.get(columns.UNSEEN_ELEMENTS) or ""):
        found.append(f"never trained on {symbols}")
    if remark := str(row.get(columns.CELL_REMARK) or ""):
        found.append(remark)
    if row.get(columns.FAR_FROM_TRAINING):
        found.append("far from training")
    if not row.get(columns.STABILITY_JUDGED, True):
        found.append(f"stability not judged: {row[columns.STABILITY_REMARK]}")
    elif row.get(columns.STABILITY_REMARK):
        found.append(str(row[columns.STABILITY_REMARK]))
    if known := row.get(columns.KNOWN_FORMULA):
        found.append(f"known formula ({known})")
    return found


def table_lines(table: pd.DataFrame, width: int | None = None) -> list[str]:
    """Aligned lines for the terminal; the last column is cut, or put below its row if there is too little room.

    If the other columns do not fit either, intervals stand below their values, and units below the headings.

    Args:
        table: text and numbers.
        width: characters; None = of the terminal, at least `NARROWEST`.
    """
    width = width or max(NARROWEST, shutil.get_terminal_size((120, 24)).columns)
    *left, last = table.columns
    cells = {name: [_text(value) for value in table[name]] for name in table}
    widths = {name: max(len(name), *map(len, cells[name])) for name in left}
    used = sum(widths.values()) + 2 * len(left)
    if used > width + 2:
        return _narrow_lines(cells, last, width)
    head = "".join(f"{name:<{widths[name]}}  " for name in left)
    rows = ["".join(f"{cells[name][row]:<{widths[name]}}  " for name in left) for row in range(len(table))]
    if width - used >= max(20, len(last)):
        return [f"{head}{last}", *(row + _cut(cells[last][n], width - used) for n, row in enumerate(rows))]
    lines = [head.rstrip()]
    for number, row in enumerate(rows):
        lines.append(row.rstrip())
        if cells[last][number]:
            lines.append(_cut(f"    {cells[last][number]}", width))
    return lines


def _narrow_lines(cells: Mapping[str, Sequence[str]], last: str, width: int) -> list[str]:
    left = [name for name in cells if name != last]
    broken = [[_broken(text) for text in (name, *cells[name])] for name in left]
    widths = [max(len(part) for parts in column for part in parts) for column in broken]
    for place, name in enumerate(left):
        if name == "crystal":
            widths[place] = max(len(name), widths[place] - max(0, sum(widths) + 2 * len(left) - 2 - width))
    lines = []
    for number in range(len(broken[0])):
        for half in (0, 1):
            parts = (_cut(column[number][half], room) for column, room in zip(broken, widths, strict=True))
            lines.append("  ".join(f"{part:<{room}}" for part, room in zip(parts, widths, strict=True)).rstrip())
        if number and cells[last][number - 1]:
            lines.append(_cut(f"    {cells[last][number - 1]}", width))
    return [line for line in lines if line]


def _broken(text: str) -> tuple[str, str]:
    """A value and its interval, a heading and its unit, a mixture in two."""
    for mark, start, end in ((" (", "", ")"), (", ", "", ""), (" + ", "+ ", ""), ("meets ", "", "")):
        head, found, rest = text.partition(mark)
        if found:
            return head or mark.strip(), start + rest.removesuffix(end)
    return text, ""


def json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The table's rows as JSON: plain numbers, None if a figure is not finite."""
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return (
        [_plain(item) for item in value]
        if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
        else value
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:z.3f}"


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
