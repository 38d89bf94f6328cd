"""Tables of the page: cells with a text and a value to sort by."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from matscout.report import wording


@dataclass(frozen=True)
class Column:
    """A table column: its heading, the unit below it, and whether it holds numbers."""

    head: str
    unit: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and the value to sort by if it differs."""

    html: Markup | str
    value: str | float | None = None

    @property
    def sort_value(self) -> str | None:
        """The `data-value` of the cell; empty for a missing number, None if the text itself is the sort key."""
        if self.value is None or isinstance(self.value, str):
            return self.value
        return f"{self.value:.6g}" if math.isfinite(self.value) else ""


@dataclass(frozen=True)
class Row:
    """A row: its cells, the candidate that a click selects, what the filter searches, and marks."""

    cells: tuple[Cell, ...]
    candidate: str | None = None
    words: str | None = None
    best: bool = False
    elements: str = ""
    repeats: bool = False  # another structure of a formula further up


@dataclass(frozen=True)
class Table:
    """A sortable table; with `csv` it has a button that saves it."""

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    filter_hint: str = ""
    csv: str = ""


@dataclass(frozen=True)
class Scale:
    """The common axis of a column of interval glyphs."""

    low: float
    high: float
    wanted: tuple[float | None, float | None] | None = None

    def at(self, value: float, width: float) -> float:
        """Position of `value` on an axis `width` px long, kept inside it."""
        return width * min(1.0, max(0.0, (value - self.low) / (self.high - self.low or 1.0)))


def number_cell(value: float | None, digits: int = 3) -> Cell:
    """A number with `digits` decimals, or a dash."""
    return Cell(wording.number(value, digits), math.nan if value is None else float(value))


def count_cell(value: int | None) -> Cell:
    """A whole number with thousands separated."""
    return Cell(wording.count(value), math.nan if value is None else float(value))


def estimate_cell(figure: Mapping[str, float | None] | None, digits: int = 3) -> Cell:
    """A {"value", "low", "high"} with its 95 % interval in small type below."""
    if figure is None or figure.get("value") is None:
        return Cell(wording.DASH, math.nan)
    value, low, high = (figure.get(key) for key in ("value", "low", "high"))
    text = wording.number(value, digits)
    if low is not None and high is not None:
        text += f' <span class="sub">{wording.number(low, digits)} to {wording.number(high, digits)}</span>'
    return Cell(Markup(text), float(value or 0.0))  # noqa: S704 -- numbers only


def interval_cell(value: float, low: float, high: float, scale: Scale, digits: int = 2) -> Cell:
    """A prediction with its 90 % interval, as numbers and as a glyph on the common axis of the column.

    Args:
        value: the prediction.
        low: lower end of its interval.
        high: upper end of its interval.
        scale: the column's axis.
        digits: decimals.

    Returns:
        The cell.
    """
    width, middle = 110, 7
    x1, x2, x = (scale.at(v, width - 6) + 3 for v in (low, high, value))
    want = ""
    if scale.wanted:
        bounds = [
            scale.low if scale.wanted[0] is None else scale.wanted[0],
            scale.high if scale.wanted[1] is None else scale.wanted[1],
        ]
        left, right = (scale.at(bound, width - 6) + 3 for bound in bounds)
        want = f'<rect class="want" x="{left:.1f}" y="1" width="{right - left:.1f}" height="12" rx="2"/>'
    glyph = (
        f'<svg class="interval" viewBox="0 0 {width} 14" aria-hidden="true">{want}'
        f'<line class="axis" x1="0" y1="{middle}" x2="{width}" y2="{middle}"/>'
        f'<line class="range" x1="{x1:.1f}" y1="{middle}" x2="{x2:.1f}" y2="{middle}"/>'
        f'<circle class="point" cx="{x:.1f}" cy="{middle}" r="3.5"/></svg>'
    )
    shown, lower, upper = (wording.number(v, digits) for v in (value, low, high))
    return Cell(Markup(f'{shown} <span class="sub">{lower} to {upper}</span>{glyph}'), float(value))  # noqa: S704 -- numbers


def share_cell(share: float | None) -> Cell:
    """A probability or share, as per cent and as a bar."""
    if share is None or not math.isfinite(share):
        return Cell(wording.DASH, math.nan)
    bar = f'<span class="meter"><i style="--share:{share:.3f}"></i>{wording.percent(share)}</span>'
    return Cell(Markup(bar), float(share))  # noqa: S704 -- numbers only


def text_cell(text: str | Markup, note: str | Markup = "") -> Cell:
    """Text, with a smaller note below."""
    shown = Markup("{}").format(text) + (
        Markup('<br><span class="sub note">{}</span>').format(note) if note else Markup()
    )
    return Cell(shown, str(text))


def span_of(values: Sequence[float], wanted: tuple[float | None, float | None] | None = None) -> Scale:
    """An axis that contains all `values` and the wanted window, with a margin."""
    ends = [v for v in (*values, *(wanted or ())) if v is not None and math.isfinite(v)]
    air = 0.04 * (max(ends) - min(ends) or 1.0)
    return Scale(min(ends) - air, max(ends) + air, wanted)
