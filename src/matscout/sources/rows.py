"""Checks that every parser shares: numbers, flags and cells out of rows that services or people wrote."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matscout.crystal import ATOMIC_NUMBERS, Crystal
from matscout.sources.record import RowError

NO_VALUE = ("", "null", "None")  # as text: old AFLUX answers and CSV files
MIN_VOLUME_PER_ATOM = 0.1  # Å³/atom: below this a cell is degenerate, not dense


def required(row: Mapping[str, Any], key: str) -> Any:
    """The value of `key`, which must be there and not null."""
    value = row.get(key)
    if value is None:
        raise RowError("missing_field", f"{key!r} is absent or null; a material needs it")
    return value


def number(row: Mapping[str, Any], key: str) -> float | None:
    """A label as float; absent, null and empty are None; text is read; NaN is kept for curation to reject."""
    return to_number(row.get(key), key)


def to_number(value: Any, key: str) -> float | None:
    """See `number`."""
    if value is None or (isinstance(value, str) and value.strip() in NO_VALUE):
        return None
    if isinstance(value, bool):
        raise RowError("not_a_number", f"{key} = {value!r} must be a number or null")
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise RowError("not_a_number", f"{key} = {value!r:.80} must be a number or null") from error


def whole_number(row: Mapping[str, Any], key: str) -> int | None:
    """An integer such as a year; None where absent."""
    value = number(row, key)
    if value is None or math.isnan(value):
        return None
    if value != int(value):
        raise RowError("not_a_number", f"{key} = {value!r} must be a whole number or null")
    return int(value)


def make_crystal(lattice: Any, species: Sequence[str], frac_coords: Any) -> Crystal:
    """Check a cell's parts and put them together.

    Args:
        lattice: (3, 3) rows are lattice vectors, Å.
        species: n_atoms element symbols.
        frac_coords: (n_atoms, 3), fractional.

    Raises:
        RowError: an element is unknown, a number is absent or not finite, counts differ, the volume vanishes.
    """
    matrix = _array(lattice, (3, 3), "lattice")
    symbols = tuple(str(symbol) for symbol in species)
    if not symbols:
        raise RowError("no_atoms", "the cell holds no atom")
    if unknown := sorted({symbol for symbol in symbols if symbol not in ATOMIC_NUMBERS}):
        raise RowError("unknown_element", f"{', '.join(unknown)[:80]}: symbols H to Og are known")
    coordinates = _array(frac_coords, (-1, 3), "coordinates")
    if len(coordinates) != len(symbols):
        message = f"{len(symbols)} species and {len(coordinates)} positions; they must be equal in number"
        raise RowError("count_mismatch", message)
    crystal = Crystal(matrix, symbols, coordinates)
    if crystal.volume < MIN_VOLUME_PER_ATOM * crystal.n_atoms:
        message = f"{crystal.volume:.4g} Å³ for {crystal.n_atoms} atoms; the lattice vectors must span a volume"
        raise RowError("zero_volume", message)
    return crystal


def to_fractional(cartesian: Any, lattice: Any) -> NDArray[np.float64]:
    """(n_atoms, 3) Cartesian positions in Å as fractional ones."""
    matrix = _array(lattice, (3, 3), "lattice")
    positions = _array(cartesian, (-1, 3), "coordinates")
    try:
        return positions @ np.linalg.inv(matrix)
    except np.linalg.LinAlgError as error:
        raise RowError("zero_volume", "the lattice vectors are linearly dependent; they must span a volume") from error


def _array(values: Any, shape: tuple[int, int], what: str) -> NDArray[np.float64]:
    if values is None:
        raise RowError(f"{what}_missing", f"{what} absent or null")
    try:
        array = np.array(values, dtype=np.float64)
        array = array.reshape(shape) if array.size else np.empty((0, 3))
    except (TypeError, ValueError) as error:
        raise RowError(f"{what}_malformed", f"{what} must be numbers in rows of three ({error})") from error
    if not np.isfinite(array).all():
        raise RowError(f"{what}_not_finite", f"{what} hold NaN or infinity; give finite numbers")
    return array
