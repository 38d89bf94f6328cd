"""OPTIMADE: structures of any provider that speaks the standard, with its own names of labels, to records.

The standard defines cells, not labels (Evans et al., Digital Discovery 3, 1509, 2024): an entry comes as the provider
gave it, beside the labels that the client found in it, under our names and in our units.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from matscout import columns
from matscout.sources.fields import flag, number, required, text, year_of
from matscout.sources.formats.crystal_parser import parse_document
from matscout.sources.record import Record, RowError

FORMAT: Final = "optimade_structures"


def rows_of(page: list[Any]) -> Iterator[Any]:
    """The entries of one page."""
    yield from page


def parse_row(row: Mapping[str, Any], source: str) -> Record:
    """One entry as a record.

    Args:
        row: the entry.
        source: name of the database.

    Returns:
        The record, in our units.

    Raises:
        RowError: no id, no usable cell, or a label that is no number.
    """
    attributes, labels = required(row, "attributes"), required(row, "labels")
    if not isinstance(attributes, Mapping) or not isinstance(labels, Mapping):
        raise RowError("structure_malformed", f"attributes = {attributes!r:.60} and labels must be objects")
    return Record(
        material_id=str(required(row, "id")),
        source=source,
        functional=text(labels, columns.FUNCTIONAL) or "PBE",
        is_hubbard=flag(labels, columns.IS_HUBBARD),
        pseudopotentials=text(labels, columns.PSEUDOPOTENTIALS),
        energy_corrections=text(labels, columns.ENERGY_CORRECTIONS),
        synthetic=bool(flag(labels, columns.SYNTHETIC)),
        crystal=parse_document({"attributes": attributes}),
        **{label: number(labels, label) for label in columns.LABELS},  # type: ignore[arg-type]
        year=year_of(labels, columns.YEAR),
        is_experimental=flag(labels, columns.IS_EXPERIMENTAL),
    )
