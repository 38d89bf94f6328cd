"""OPTIMADE: structures of any provider that speaks the standard, with its own names of labels, to records.

The standard defines cells, not labels: a page holds how its attributes are to be read (`databases.<name>.file`)
beside the entries as the provider gave them (Evans et al., Digital Discovery 3, 1509, 2024).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from matscout.params import FileImport
from matscout.sources.importers.raw import RawRow
from matscout.sources.importing import to_record
from matscout.sources.record import Record, Rejection, RowError
from matscout.sources.rows import required
from matscout.sources.structures import parse_document

FORMAT: Final = "optimade_structures"


def rows_of(page: Mapping[str, Any]) -> Iterator[Any]:
    """The entries of one page, each with how it is to be read under `reading`."""
    for entry in page["data"]:
        yield {**entry, "reading": page["reading"]} if isinstance(entry, Mapping) else entry


def parse_row(row: Mapping[str, Any], source: str) -> Record:
    """One entry as a record.

    Raises:
        RowError: no id, no usable cell, or a label that is no number.
    """
    attributes = required(row, "attributes")
    if not isinstance(attributes, Mapping):
        raise RowError("structure_malformed", f"attributes = {attributes!r:.60} must be an object")
    options = FileImport.model_validate(row["reading"])
    fields = {**attributes, "id": str(required(row, "id"))}
    found = to_record(RawRow("", 0, fields, parse_document, {"attributes": attributes}, fields["id"]), options, source)
    if isinstance(found, Rejection):
        raise RowError(found.reason, found.detail)
    return found
