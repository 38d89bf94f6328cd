"""Checks shared by all parsers: text, numbers, flags and cells in rows from services or users."""

import json
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from matscout.crystal import ATOMIC_NUMBERS, Crystal
from matscout.crystal_checks import MAX_ATOMS_READ
from matscout.sources.record import RowError

NO_VALUE: Final = ("", "null", "None")  # as text: old AFLUX answers and CSV files
TRUE: Final = ("true", "1", "yes")
FALSE: Final = ("false", "0", "no", "")
FLAT: Final = 1e-12  # volume over the product of the lengths below which three vectors count as coplanar
MAX_TEXT: Final = 256  # characters of an identifier or a name
YEARS: Final = (1800, 2200)
ISOTOPES: Final = MappingProxyType({"D": "H", "T": "H"})  # one element: its crystals have one energy here


def required(row: Mapping[str, Any], key: str) -> Any:
    """Read a value that must be there and not null.

    Args:
        row: as the source gives it.
        key: key of the value.

    Returns:
        The value.

    Raises:
        RowError: it is absent or null.
    """
    value = row.get(key)
    if value is None:
        raise RowError("missing_field", f"{key!r} is absent or null; a material needs it")
    return value


def parse_json(text: str | bytes) -> Any:
    """Any JSON value.

    Args:
        text: one JSON value.

    Returns:
        The value.

    Raises:
        RowError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise RowError("invalid_json", "brackets nest too deeply to be read; write plain rows") from error
    except ValueError as error:
        raise RowError("invalid_json", f"{error!s:.200}") from error


def identifier(value: Any) -> str:
    """Read an id: a word or a whole number.

    Args:
        value: as the source gives it.

    Returns:
        The id as text.

    Raises:
        RowError: it is neither, or holds characters that cannot be written.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RowError("bad_id", f"material_id = {value!r:.80} must be text or a whole number")
    try:
        name = checked_text(str(value), "material_id").strip()
    except ValueError as error:  # more digits than Python writes
        raise RowError("bad_id", f"material_id has too many digits ({error!s:.80})") from error
    if not name:
        raise RowError("bad_id", "material_id is empty; give each row a name, or leave the column out")
    return name


def text(row: Mapping[str, Any], key: str) -> str | None:
    """Read a word such as `PBE`.

    Args:
        row: as the source gives it.
        key: key of the value.

    Returns:
        The word; None if absent, null or blank.

    Raises:
        RowError: it is not text, or holds characters that cannot be written.
    """
    value = row.get(key)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str):
        raise RowError("not_text", f"{key} = {value!r:.80} must be text or null")
    return checked_text(value, key).strip() or None


def checked_text(value: str, key: str) -> str:
    """Reject text that no table can hold: half characters, control characters, or more than `MAX_TEXT` characters.

    Args:
        value: the text.
        key: key for the message.

    Returns:
        The text as it is.

    Raises:
        RowError: the text is too long or holds such characters.
    """
    if len(value) > MAX_TEXT:
        raise RowError("not_text", f"{key} has {len(value)} characters; at most {MAX_TEXT} are taken")
    if any(ord(character) < 32 or 0xD800 <= ord(character) <= 0xDFFF or ord(character) == 127 for character in value):
        raise RowError("not_text", f"{key} = {value!r:.80} holds characters that cannot be written; rename it")
    return value


def flag(row: Mapping[str, Any], key: str) -> bool | None:
    """Read true or false.

    Args:
        row: as the source gives it.
        key: key of the value.

    Returns:
        The flag; None if absent, null or blank.

    Raises:
        RowError: it is something else.
    """
    value = row.get(key)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float) and math.isnan(value):
        return None
    word = str(value).strip().lower() if isinstance(value, str | int | float) else "?"
    word = word.removesuffix(".0")
    if word not in TRUE + FALSE:
        raise RowError("not_a_flag", f"{key} = {value!r:.40} must be true, false or absent")
    return None if not word else word in TRUE


def number(row: Mapping[str, Any], key: str) -> float | None:
    """A label as float; absent, null and empty are None; text is read; NaN is kept for curation to reject."""
    return to_number(row.get(key), key)


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The labels that are there, as `number` reads them."""
    found = {key: number(row, key) for key in row}
    return {key: value for key, value in found.items() if value is not None}


def to_number(value: Any, key: str) -> float | None:
    """See `number`.

    Args:
        value: as the source gives it.
        key: key for the message.

    Returns:
        The number; None if absent, null or blank; NaN is kept.

    Raises:
        RowError: it is not a number.
    """
    if value is None or (isinstance(value, str) and value.strip() in NO_VALUE):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float | np.number):
        raise RowError("not_a_number", f"{key} = {value!r:.80} must be a number or null")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RowError("not_a_number", f"{key} = {_short(value)} must be a number or null") from error


def _short(value: Any) -> str:
    return f"{value!r:.80}" if isinstance(value, str) else f"a {type(value).__name__} too large for a number"


def whole_number(row: Mapping[str, Any], key: str) -> int | None:
    """Read an integer such as an atom count.

    Args:
        row: as the source gives it.
        key: key of the value.

    Returns:
        The integer; None if absent.

    Raises:
        RowError: it is not a whole number.
    """
    value = number(row, key)
    if value is None or math.isnan(value):
        return None
    if math.isinf(value) or value != int(value):
        raise RowError("not_a_number", f"{key} = {value!r} must be a whole number or null")
    return int(value)


def year_of(row: Mapping[str, Any], key: str) -> int | None:
    """Read a year.

    Args:
        row: as the source gives it.
        key: key of the value.

    Returns:
        The year; None if absent.

    Raises:
        RowError: it is not a year of `YEARS`.
    """
    value = whole_number(row, key)
    if value is not None and not YEARS[0] <= value <= YEARS[1]:
        raise RowError("not_a_year", f"{key} = {value} must be a year between {YEARS[0]} and {YEARS[1]}, or null")
    return value


def to_element(symbol: str) -> str | None:
    """The element's symbol, hydrogen for its isotopes; None for what is not an element."""
    symbol = ISOTOPES.get(symbol, symbol)
    return symbol if symbol in ATOMIC_NUMBERS else None


def make_crystal(lattice: Any, species: Sequence[str], frac_coords: Any) -> Crystal:
    """Check a cell's parts and put them together; the unit of its lengths is not known yet.

    Args:
        lattice: (3, 3) rows are lattice vectors; nine numbers in a row are read as that.
        species: n_atoms element symbols; D and T are hydrogen.
        frac_coords: (n_atoms, 3), fractional.

    Returns:
        The cell, in the unit that it was given in.

    Raises:
        RowError: an element is unknown, a number is absent or not finite, counts differ, the volume vanishes.
    """
    matrix = _array(lattice, "lattice")
    if matrix.shape == (9,):
        matrix = matrix.reshape(3, 3)
    if matrix.shape != (3, 3):
        raise RowError(
            "lattice_malformed", f"lattice has the shape {matrix.shape}; it must be three rows of three numbers"
        )
    symbols = _symbols(species)
    coordinates = _array(frac_coords, "coordinates")
    if coordinates.ndim != 2 or coordinates.shape[1] != 3:
        detail = f"coordinates have the shape {coordinates.shape}; they must be one row of three numbers per atom"
        raise RowError("coordinates_malformed", detail)
    if len(coordinates) != len(symbols):
        message = f"{len(symbols)} species and {len(coordinates)} positions; they must be equal in number"
        raise RowError("count_mismatch", message)
    crystal = Crystal(matrix, symbols, coordinates)
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(matrix, axis=1)
        spans = math.isfinite(crystal.volume) and crystal.volume > FLAT * lengths.prod()
    if not spans:
        message = (
            f"a volume of {crystal.volume:.4g} for {crystal.n_atoms} atoms; the lattice vectors must span a volume"
        )
        raise RowError("zero_volume", message)
    return crystal


def _symbols(species: Any) -> tuple[str, ...]:
    if isinstance(species, str | Mapping) or not hasattr(species, "__len__"):
        raise RowError("species_malformed", f"species = {species!r:.60} must be a list of element symbols")
    if len(species) > MAX_ATOMS_READ:
        raise RowError("too_many_atoms", f"{len(species)} atoms; at most {MAX_ATOMS_READ} are read")
    if not len(species):
        raise RowError("no_atoms", "the cell holds no atom")
    symbols = tuple(ISOTOPES.get(symbol, symbol) if isinstance(symbol, str) else symbol for symbol in species)
    unknown = sorted(
        {f"{symbol!s:.20}" for symbol in symbols if not isinstance(symbol, str) or symbol not in ATOMIC_NUMBERS}
    )
    if unknown:
        raise RowError("unknown_element", f"{', '.join(unknown)[:80]}: symbols H to Og are known")
    return tuple(str(symbol) for symbol in symbols)


def to_fractional(cartesian: Any, lattice: Any) -> NDArray[np.float64]:
    """Turn Cartesian positions into fractional ones.

    Args:
        cartesian: (n_atoms, 3), in the unit of the lattice.
        lattice: (3, 3) lattice vectors in rows.

    Returns:
        (n_atoms, 3).

    Raises:
        RowError: a shape is wrong, a number is missing, or the lattice spans no volume.
    """
    matrix, positions = _array(lattice, "lattice"), _array(cartesian, "coordinates")
    if matrix.shape != (3, 3) or positions.ndim != 2 or positions.shape[1] != 3:
        detail = f"lattice {matrix.shape} and positions {positions.shape} must be (3, 3) and (n, 3)"
        raise RowError("coordinates_malformed", detail)
    try:
        return positions @ np.linalg.inv(matrix)
    except np.linalg.LinAlgError as error:
        raise RowError("zero_volume", "the lattice vectors are linearly dependent; they must span a volume") from error


def _array(values: Any, what: str) -> NDArray[np.float64]:
    if values is None:
        raise RowError(f"{what}_missing", f"{what} absent or null")
    if hasattr(values, "__len__") and len(values) > 3 * MAX_ATOMS_READ:
        raise RowError("too_many_atoms", f"{len(values)} {what}; at most {MAX_ATOMS_READ} atoms are read")
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RowError(f"{what}_malformed", f"{what} must be numbers in rows of three ({error!s:.120})") from error
    if not array.size:
        raise RowError("no_atoms" if what == "coordinates" else f"{what}_missing", f"{what} hold no number")
    if not np.isfinite(array).all():
        raise RowError(f"{what}_not_finite", f"{what} hold NaN or infinity; give finite numbers")
    return array
