"""AFLOW: rows of AFLUX answers to records (Rose et al., Comput. Mater. Sci. 137, 362, 2017).

Today's answer is a list of objects with native types; that of 2017 to 2020 a dict keyed `"1 of 912"` whose
values are all text. Both are read.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pymatgen.core import Lattice

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import MAX_ATOMS_READ
from matscout.sources.fields import flag, make_crystal, number, parse_json, required
from matscout.sources.record import Record, RowError

NAME: Final = "aflow"
FORMAT: Final = "aflow_aflux"
FUNCTIONAL: Final = "PAW_PBE"  # `dft_type` names the family of pseudopotentials and with it the functional
UNSET: Final = (None, "", "0", 0)  # written where there is no Hubbard U
SEPARATORS: Final = re.compile(r"[,;:\s]+")
YEAR: Final = re.compile(r"(19|20)\d\d")


def rows_of(page: Any) -> Iterator[Any]:
    """The objects of one answer, in the order of their numbers where it is keyed by them."""
    if isinstance(page, Mapping):
        yield from (page[key] for key in sorted(page, key=_place))
    else:
        yield from page


def _place(key: str) -> tuple[int, str]:
    """The number in `"1 of 912"`."""
    first = key.split(maxsplit=1)[0] if key.strip() else ""
    return (int(first) if first.isascii() and first.isdigit() and len(first) < 10 else 0), key


def parse_row(row: Mapping[str, Any], source: str) -> Record:
    """One object of an AFLUX answer as a record.

    Args:
        row: of AFLUX.
        source: name of the database.

    Returns:
        The record, in our units.

    Raises:
        RowError: another functional than PBE, no usable cell, or a label that is no number.
    """
    functionals = _texts(row, "dft_type")
    if functionals != [FUNCTIONAL]:
        message = f"dft_type = {functionals}; only [{FUNCTIONAL!r}] is comparable with the other databases"
        raise RowError("other_functional", message)
    gap = number(row, "Egap")
    return Record(
        material_id=str(required(row, "auid")),
        source=source,
        functional="PBE",
        is_hubbard=any(row.get(key) not in UNSET for key in ("ldau_TLUJ", "ldau_type")),
        pseudopotentials=FUNCTIONAL,
        energy_corrections=columns.UNCORRECTED,
        synthetic=bool(flag(row, "synthetic")),
        crystal=parse_cell(row),
        band_gap=None if gap is not None and gap < 0 else gap,  # AFLOW writes a negative gap for none computed
        formation_energy_per_atom=number(row, "enthalpy_formation_atom"),
        energy_above_hull=None,
        bulk_modulus=number(row, "ael_bulk_modulus_vrh"),
        shear_modulus=None,
        year=_year(row),
    )


def parse_cell(row: Mapping[str, Any]) -> Crystal:
    """`geometry` (a, b, c in Å, angles in degrees), `species` times `composition`, `positions_fractional`."""
    geometry = _numbers(row, "geometry")
    if len(geometry) != 6:
        message = f"geometry has {len(geometry)} numbers; it must hold three lengths and three angles"
        raise RowError("lattice_malformed", message)
    species, numbers = _texts(row, "species"), _numbers(row, "composition")
    if not all(number >= 0 and number.is_integer() for number in numbers):
        raise RowError("not_a_number", f"composition = {numbers!s:.60} must hold whole numbers of atoms")
    counts = [int(number) for number in numbers]
    if len(species) != len(counts):
        message = f"{len(species)} species and {len(counts)} entries in composition; they must be equal in number"
        raise RowError("count_mismatch", message)
    if min(counts, default=0) < 0 or sum(counts) > MAX_ATOMS_READ:
        raise RowError(
            "too_many_atoms",
            f"composition {counts!s:.60} asks for {sum(counts)} atoms; at most {MAX_ATOMS_READ} are read",
        )
    symbols = [symbol for symbol, count in zip(species, counts, strict=True) for _ in range(count)]
    positions = _numbers(row, "positions_fractional")
    if len(positions) % 3:
        message = f"positions_fractional holds {len(positions)} numbers, no multiple of three"
        raise RowError("coordinates_malformed", message)
    triples = [positions[start : start + 3] for start in range(0, len(positions), 3)]
    return make_crystal(_lattice(geometry), symbols, triples)


def _lattice(geometry: list[float]) -> Any:
    try:
        return Lattice.from_parameters(*geometry).matrix
    except (ValueError, ZeroDivisionError) as error:
        raise RowError("zero_volume", f"geometry {geometry} spans no cell ({error})") from error


def _numbers(row: Mapping[str, Any], key: str) -> list[float]:
    """A flat list of numbers from a list, nested lists or text such as `"1,2,3;4,5,6"`."""
    value = required(row, key)
    try:
        if isinstance(value, str):
            return [float(part) for part in SEPARATORS.split(value.strip(" []")) if part]
        return [float(part) for item in value for part in (item if isinstance(item, list) else [item])]
    except (TypeError, ValueError) as error:
        raise RowError("not_a_number", f"{key} = {value!r:.80} must hold numbers ({error})") from error


def _texts(row: Mapping[str, Any], key: str) -> list[str]:
    """A list of words from a list, JSON text or `"Cl,Na"`."""
    value = required(row, key)
    if isinstance(value, str):
        value = parse_json(value) if value.startswith("[") else value.split(",")
    return [str(part).strip() for part in value]


def _year(row: Mapping[str, Any]) -> int | None:
    """First year in `aflowlib_date`, which is text or a list of text."""
    date = row.get("aflowlib_date")
    text = date[0] if isinstance(date, list) and date else date
    found = YEAR.match(text) if isinstance(text, str) else None
    return int(found.group()) if found else None
