"""A record: one material of one database, with published labels. Also lost rows by database, and a check of units."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection, find_rejection
from matscout.errors import InputError

# Errors of parsers on a row whose fields have types other than the format requires.
MALFORMED: Final = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
LOUD_SHARE: Final = 0.1  # share of a source's rows; a larger loss is reported on the console
RECORD_SCHEMA: Final = pa.schema(
    [
        (columns.MATERIAL_ID, pa.string()),
        (columns.SOURCE, pa.string()),
        (columns.FUNCTIONAL, pa.string()),
        (columns.IS_HUBBARD, pa.bool_()),
        (columns.PSEUDOPOTENTIALS, pa.string()),
        (columns.ENERGY_CORRECTIONS, pa.string()),
        (columns.SYNTHETIC, pa.bool_()),
        (columns.YEAR, pa.int32()),
        (columns.IS_EXPERIMENTAL, pa.bool_()),
        (columns.BAND_GAP_FUNCTIONAL, pa.string()),
        (columns.YTTERBIUM, pa.string()),
        (columns.LATTICE, pa.list_(pa.float64())),
        (columns.SPECIES, pa.list_(pa.string())),
        (columns.FRAC_COORDS, pa.list_(pa.float64())),
        *((label, pa.float64()) for label in columns.LABELS),
    ]
)


@dataclass(frozen=True)
class Record:
    """One material as its database publishes it.

    Attributes:
        material_id: unique in its database: `mp-149`, `aflow:0123...`, `oqmd-12345`.
        source: name of the database in `params.databases`.
        functional: functional of every label: `PBE` (GGA and GGA+U alike), `r2SCAN`, `OptB88vdW`, ...
        is_hubbard: whether a Hubbard U was used; None = not stated.
        pseudopotentials: their family, such as `PAW_PBE`; None = not known.
        energy_corrections: scheme of the formation energy: `mp2020`, `none`, ...; None = not known.
        synthetic: whether it is a synthetic stand-in, which is never tested on.
        crystal: the relaxed cell.
        band_gap: eV; None = not published. Any label may be NaN: curation rejects it.
        formation_energy_per_atom: eV/atom.
        energy_above_hull: eV/atom.
        bulk_modulus: Voigt-Reuss-Hill average, GPa.
        shear_modulus: Voigt-Reuss-Hill average, GPa.
        year: year of the calculation or its entry; None = not stated.
        is_experimental: whether it has been made, as its database states; None = not stated.
        band_gap_functional: functional of the published gap; None = not stated. Where it is not `functional`,
            `band_gap` is None.
        ytterbium_potential: `Yb_2` or `Yb_3`; None = no Yb, or not known.
        own_labels: further labels of a lab's own file, in its units, by the names that `databases.<name>.file.labels`
            gives them; a label that is absent has no key.
        file: page or file that held the row, for the quarantine.
        row: its number in that file, from 0; -1 = not known.
    """

    material_id: str
    source: str
    functional: str
    is_hubbard: bool | None
    pseudopotentials: str | None
    energy_corrections: str | None
    synthetic: bool
    crystal: Crystal
    band_gap: float | None
    formation_energy_per_atom: float | None
    energy_above_hull: float | None
    bulk_modulus: float | None
    shear_modulus: float | None
    year: int | None
    is_experimental: bool | None = None
    band_gap_functional: str | None = None
    ytterbium_potential: str | None = None
    own_labels: Mapping[str, float] = field(default_factory=dict)
    file: str = field(default="", compare=False)
    row: int = field(default=-1, compare=False)

    def to_row(self) -> dict[str, Any]:
        """A row of `RECORD_SCHEMA`: plain lists, numbers, strings."""
        row = {name: getattr(self, name) for name in RECORD_SCHEMA.names if hasattr(self, name)}
        return row | {key: list(value) for key, value in self.crystal.to_row().items()}

    def reject(self, reason: str, detail: str) -> Rejection:
        """This row as one that cannot be used; see `Rejection`."""
        return Rejection(
            source=self.source, material_id=self.material_id, file=self.file, row=self.row, reason=reason, detail=detail
        )

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """From a row that `to_row` made (nothing is checked; `own_records.parse_row` checks)."""
        plain = {name: row[name] for name in RECORD_SCHEMA.names if name in cls.__dataclass_fields__}
        return cls(crystal=Crystal.from_row(row), **plain)


class RowError(Exception):
    """Raised by a parser for one row; the caller knows file and row and makes a `Rejection` of it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def rejection_of(error: Exception, *, source: str, material_id: str, file: str, row: int) -> Rejection:
    """The rejection of a row whose parser raised `RowError` or one of `MALFORMED`.

    Args:
        error: error that the parser raised.
        source: name of the database.
        material_id: material id of the row, as far as it is known.
        file: file that holds the row.
        row: its number in the file.

    Returns:
        The rejection.
    """
    if isinstance(error, RowError):
        reason, detail = error.reason, error.detail
    else:
        reason = "malformed_row"
        detail = f"{type(error).__name__}: {error!s:.200}; a field does not have the type that the format requires"
    return Rejection(source=source, material_id=material_id, file=file, row=row, reason=reason, detail=detail)


def check_cell(crystal: Crystal) -> Crystal:
    """Check a crystal against the limits of `crystal_checks`.

    Args:
        crystal: in Å.

    Returns:
        The crystal as it is.

    Raises:
        RowError: it breaks a limit.
    """
    if (rejection := find_rejection(crystal)) is not None:
        raise RowError(rejection.reason, rejection.detail)
    return crystal


class Losses:
    """What each source loses, for one warning a source that loses more than `LOUD_SHARE` of its rows."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}
        self._first: dict[str, Rejection] = {}

    def count(self, item: Record | Rejection) -> None:
        """Count one row."""
        self._rows[item.source] += 1
        if isinstance(item, Rejection):
            self.lose(item)

    def lose(self, rejection: Rejection) -> None:
        """Count a row as lost that was counted as read."""
        self._reasons.setdefault(rejection.source, Counter())[rejection.reason] += 1
        self._first.setdefault(rejection.source, rejection)

    def warnings(self, where: Path) -> list[str]:
        """One line per source that loses many rows: their number, reasons, the first one, and where all are listed."""
        return [self._line(source, where) for source in sorted(self._reasons) if self._is_loud(source)]

    def _is_loud(self, source: str) -> bool:
        return self._reasons[source].total() > LOUD_SHARE * self._rows[source]

    def _line(self, source: str, where: Path) -> str:
        reasons, first = self._reasons[source], self._first[source]
        told = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        place = f"{first.file} row {first.row}" if first.file else first.material_id
        lost = f"{source}: {reasons.total()} of {self._rows[source]} rows are rejected ({told})"
        return f"{lost}; the first: {place}: {first.detail}; all of them: {where}"


# Half of a database's rows never lie outside, so such a median means another unit, not unusual materials.
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
        InputError: a median is impossible in the expected unit; the message names the parameter that states the unit.
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
