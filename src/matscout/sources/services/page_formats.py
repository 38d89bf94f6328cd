"""How the pages of each format become records: one entry per format."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from matscout.crystal_checks import Rejection
from matscout.sources.formats import own_records
from matscout.sources.record import MALFORMED, Record, RowError, check_cell, rejection_of
from matscout.sources.services import aflow, materials_project, optimade, oqmd

ID_FIELDS: Final = ("material_id", "auid", "entry_id", "id")


@dataclass(frozen=True)
class Format:
    """A page's shape.

    Attributes:
        rows_of: the raw rows of one page's JSON content.
        parse_row: one raw row and the source's name -> record, or RowError.
    """

    rows_of: Callable[[Any], Iterator[Any]]
    parse_row: Callable[[Mapping[str, Any], str], Record]


FORMATS: Final = MappingProxyType(
    {
        materials_project.FORMAT: Format(materials_project.rows_of, materials_project.parse_row),
        aflow.FORMAT: Format(aflow.rows_of, aflow.parse_row),
        optimade.FORMAT: Format(optimade.rows_of, optimade.parse_row),
        oqmd.FORMAT: Format(oqmd.rows_of, oqmd.parse_row),
        own_records.FORMAT: Format(own_records.rows_of, own_records.parse_row),
    }
)


def parse_page(content: Any, shape: Format, *, source: str, file: str) -> Iterator[Record | Rejection]:
    """Records of one page; a row that fails becomes a rejection with its place and reason."""
    for number, row in enumerate(shape.rows_of(content)):
        yield (
            row if isinstance(row, Rejection) else parse_or_reject(shape, row, source=source, file=file, number=number)
        )


def parse_or_reject(shape: Format, row: Any, *, source: str, file: str, number: int) -> Record | Rejection:
    """One row as a record, or its rejection."""
    try:
        if not isinstance(row, Mapping):
            raise RowError("invalid_row", f"a row must be an object, not {type(row).__name__}: {row!r:.80}")  # noqa: TRY301
        record = shape.parse_row(row, source)
        check_cell(record.crystal)
        return record if record.file else replace(record, file=file, row=number)
    except (RowError, *MALFORMED) as error:
        return rejection_of(error, source=source, material_id=_id_of(row), file=file, row=number)


def _id_of(row: Any) -> str:
    return next((f"{row[key]!s:.80}" for key in ID_FIELDS if row.get(key)), "") if isinstance(row, Mapping) else ""
