"""Whether a file's or service's numbers can be in the units that they are taken for."""

from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Final

import numpy as np

from matscout import columns
from matscout.errors import InputError
from matscout.sources.record import Record, Rejection

# No database has half of its rows outside: a median there means another unit, not odd materials.
MEDIAN_WINDOWS: Final = MappingProxyType(
    {
        columns.BAND_GAP: (0.0, 12.0),
        columns.FORMATION_ENERGY: (-6.0, 6.0),
        columns.ENERGY_ABOVE_HULL: (-1.0, 6.0),
        columns.BULK_MODULUS: (0.5, 800.0),
        columns.SHEAR_MODULUS: (0.2, 800.0),
    }
)
VOLUME_WINDOW: Final = (3.0, 120.0)  # Å³/atom
MIN_ROWS: Final = 20
SAMPLE_ROWS: Final = 5000


def checked(items: Iterable[Record | Rejection], *, source: str) -> Iterator[Record | Rejection]:
    """Pass everything on; judge the medians of the first `SAMPLE_ROWS` records.

    Raises:
        InputError: a median is impossible in our unit; the message names the parameter that states the unit.
    """
    seen: list[Record] | None = []
    for item in items:
        yield item
        if seen is not None and isinstance(item, Record):
            seen.append(item)
            if len(seen) == SAMPLE_ROWS:
                judge(seen, source)
                seen = None
    if seen:
        judge(seen, source)


def judge(records: list[Record], source: str) -> None:
    """See `checked`."""
    volumes = [record.crystal.volume / record.crystal.n_atoms for record in records]
    _judge(volumes, columns.LATTICE, VOLUME_WINDOW, "Å³/atom", source)
    for name, window in MEDIAN_WINDOWS.items():
        values = [value for record in records if (value := getattr(record, name)) is not None]
        _judge(values, name, window, columns.UNITS[name], source)


def _judge(values: list[float], name: str, window: tuple[float, float], unit: str, source: str) -> None:
    finite = np.array(values)[np.isfinite(values)] if values else np.empty(0)
    if len(finite) < MIN_ROWS:
        return
    median = float(np.median(finite))
    if not window[0] <= median <= window[1]:
        message = (
            f"{source}: the median {name} is {median:.4g}, outside {list(window)} {unit}; the rows are in another "
            f"unit, state it in databases.{source}.file.units.{name} (or the service changed its answers)"
        )
        raise InputError(message)
