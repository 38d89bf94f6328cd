"""Names, units and numbers as text, written the same everywhere on the page."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup, escape

from matscout import columns
from matscout.columns import name_of

DASH: Final = "–"


def unit_of(column: str) -> str:
    """The unit of the column, or an empty text."""
    return columns.UNITS.get(column, "")


def capital(text: str) -> str:
    """The text with a capital first letter; the rest is unchanged."""
    return text[:1].upper() + text[1:]


def titled(column: str) -> str:
    """`band gap (eV)`: an axis title or a table heading."""
    unit = unit_of(column)
    return f"{name_of(column)} ({unit})" if unit else name_of(column)


def number(value: Any, digits: int = 3) -> str:
    """A number with fixed decimals and a true minus sign; a dash if there is no value."""
    if value is None or not math.isfinite(float(value)):
        return DASH
    text = f"{float(value):,.{digits}f}"
    return "0" + text[2:] if text.strip("-0.") == "" and text.startswith("-") else text.replace("-", "−")


def count(value: Any) -> str:
    """A whole number with thousands separators."""
    return DASH if value is None else f"{int(value):,}"


def percent(value: Any, digits: int = 0) -> str:
    """A share as per cent; a dash if there is no value."""
    return DASH if value is None or not math.isfinite(float(value)) else f"{100 * float(value):.{digits}f} %"


def formula(text: str) -> Markup:
    """`SrTiO3` with its numbers as subscripts, as safe HTML."""
    return Markup(re.sub(r"(\d+(?:\.\d+)?)", r"<sub>\1</sub>", str(escape(text))))  # noqa: S704 -- escaped just before


def substitution(text: str) -> Markup:
    """`Sr2+>Ba2+ O2->O2-` as `Sr²⁺ → Ba²⁺`; unchanged ions are left out."""
    pairs = [pair.partition(">")[::2] for pair in text.split()]
    return Markup(", ").join(
        Markup("{} → {}").format(_ion(old), _ion(new)) for old, new in pairs if new and old != new
    ) or Markup("nothing")


def _ion(name: str) -> Markup:
    match = re.fullmatch(r"([A-Z][a-z]?)(\d*(?:\.\d+)?[+-])", name)
    if match is None:
        return escape(name)
    return Markup("{}<sup>{}</sup>").format(match[1], match[2].replace("-", "−"))


def window(bounds: tuple[float | None, float | None], unit: str) -> str:
    """`1.0 to 1.8 eV`, `at least 3.1 eV` or `at most 0.1 eV/atom`."""
    low, high = bounds
    if low is None:
        return f"at most {high:g} {unit}"
    return f"at least {low:g} {unit}" if high is None else f"{low:g} to {high:g} {unit}"


def plural(n: int, noun: str) -> str:
    """`1 crystal`, `1,204 crystals`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


PAGES: Final = (  # the page of a material at its database
    ("mp-", "https://next-gen.materialsproject.org/materials/{}"),
    ("oqmd-", "https://oqmd.org/materials/entry/{}"),
    ("aflow:", "https://aflow.org/material/?id={}"),
)


def linked(material_id: str) -> Markup:
    """A material's id as a link to its page at its database; ids of other databases unchanged."""
    for prefix, address in PAGES:
        if material_id.startswith(prefix):
            place = address.format(material_id.removeprefix("oqmd-") if prefix == "oqmd-" else material_id)
            return Markup('<a href="{}" rel="noreferrer">{}</a>').format(place, material_id)
    return escape(material_id)


def sentence_list(items: Mapping[str, Any] | list[str] | tuple[str, ...]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    words = list(items)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
