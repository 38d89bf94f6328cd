"""Any OPTIMADE service: its structures page by page along `links.next`, and as records.

The standard defines cells, not labels (Evans et al., Digital Discovery 3, 1509, 2024): an entry comes as the provider
gave it, beside the labels that the client found in it, under our names and in our units.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urljoin

from matscout import columns
from matscout.errors import SourceError
from matscout.params import Database, Query
from matscout.sources.fields import flag, number, required, text, year_of
from matscout.sources.files.import_file import ALIASES, FUNCTIONALS, check_options, find_field, to_ours
from matscout.sources.formats.crystal_parser import parse_document
from matscout.sources.record import Record, RowError
from matscout.sources.services.http import (
    Cursor,
    GaveUpError,
    HttpClient,
    Page,
    TransientError,
    on_same_host,
    patiently,
    user_agent,
)

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
        RowError: no id, no usable cell, or a label that is not a number.
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


CELL_FIELDS: Final = (
    "lattice_vectors", "cartesian_site_positions", "species_at_sites", "species", "nsites", "dimension_types",
    "structure_features", "immutable_id",
)  # fmt: skip
VERSIONED: Final = re.compile(r"/v\d+(\.\d+)*/$")
NOT_GIVEN: Final = "announced and not given"
EMPTY_TRIES: Final = 3  # for an empty page before the end


class OptimadeClient:
    """A `Fetcher` of OPTIMADE structures.

    Args:
        name: name of the database in `params.databases`, for messages.
        database: its block: `optimade_endpoint` is the base URL, `file` says how the provider names its labels.
    """

    format = FORMAT

    def __init__(self, name: str, database: Database) -> None:
        base = (database.optimade_endpoint or "").rstrip("/") + "/"
        self.endpoint = base if VERSIONED.search(base) else f"{base}v1/"
        check_options(database.file, f"databases.{name}.file")
        self._file = database.file
        self.query = {
            "filter": structure_filter(database.query),
            "elements": None if database.query.elements is None else list(database.query.elements),
            "limit": database.query.limit,
            "file": database.file.model_dump(mode="json"),
        }
        self.client = user_agent()
        self._name = name
        self._http = HttpClient(name, database.service)
        self._patience = database.service.patience
        self._page_size = database.service.page_size
        self._limit = database.query.limit
        self._elements = None if database.query.elements is None else set(database.query.elements)

    def open(self) -> str | None:
        """OPTIMADE states the version of the standard, not of the data."""
        address = urljoin(self.endpoint, "info/structures")
        self._http.probe(address)
        return None

    def total(self, cursor: Cursor | None) -> int | None:
        """What the first answer announced, at most the limit."""
        return min(cursor["total"], self._limit) if cursor and cursor["total"] is not None else None

    def fetch(self, cursor: Cursor | None) -> Page:
        """The page at `cursor["next"]`, an address below the base URL."""
        cursor = cursor or {"next": self._first(), "total": None, "given": 0, "rows": 0}
        answer = self._answer(cursor)
        total = cursor["total"] if cursor["total"] is not None else _announced(answer)
        given = cursor["given"] + len(answer["data"])
        wanted = [entry for entry in answer["data"] if self._is_wanted(entry)][: self._limit - cursor["rows"]]
        entries = [self._read(entry) for entry in wanted]
        n_rows = cursor["rows"] + len(entries)
        following = _next(answer) if answer["data"] else None
        is_last = following is None or n_rows >= self._limit
        missing = total - given if following is None and total is not None else 0
        address = None if following is None else on_same_host(following, urljoin(self.endpoint, cursor["next"]))
        after = None if is_last else {"next": address, "total": total, "given": given, "rows": n_rows}
        ids = [entry["id"] for entry in entries]
        skipped = {NOT_GIVEN: missing} if missing > 0 else {}
        return Page(entries, ids, after, skipped)

    def _read(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """The entry as it came, and its labels under our names and in our units."""
        attributes = entry.get("attributes")
        attributes = attributes if isinstance(attributes, Mapping) else {}
        labels = {name: find_field(attributes, name, self._file.columns) for name in ALIASES}
        functional = str(labels[columns.FUNCTIONAL] or self._file.functional)
        labels[columns.FUNCTIONAL] = FUNCTIONALS.get(functional.lower(), functional)
        n_atoms = len(attributes.get("species_at_sites") or ())
        for name in columns.LABELS:
            unit = self._file.units.get(name)
            if unit is not None and isinstance(labels[name], int | float) and n_atoms:
                labels[name] = to_ours(float(labels[name]), name, unit, n_atoms)
        kept = {name: value for name, value in labels.items() if value is not None}
        return {"id": str(entry.get("id")), "attributes": attributes, "labels": kept}

    def _answer(self, cursor: Cursor) -> dict[str, Any]:
        """The answer; an empty one is asked for again while more rows are announced."""
        url = urljoin(self.endpoint, cursor["next"])
        last: dict[str, Any] = {}

        def ask() -> dict[str, Any]:
            nonlocal last
            last = {}
            answer = self._http.json(url, check=_check)
            if not answer["data"] and cursor["total"] is not None and cursor["given"] < cursor["total"]:
                last = answer
                raise TransientError(f"the page is empty after {cursor['given']} of {cursor['total']} rows")
            return answer

        try:
            return patiently(ask, what=url, patience=self._patience, max_tries=EMPTY_TRIES)
        except GaveUpError:
            if not last:
                raise
            return last

    def _first(self) -> str:
        """The first address, relative to the base: of the labels' names those that the provider says it has."""
        info = self._http.json(urljoin(self.endpoint, "info/structures"), check=_check_info)
        known = info["data"]["properties"]
        names = {alias for aliases in ALIASES.values() for alias in aliases} | set(self._file.columns.values())
        labels = sorted(name for name in names if name in known and name not in CELL_FIELDS)
        absent = sorted(name for name in self._file.columns.values() if name not in known)
        if absent:
            mapping = f"to which databases.{self._name}.file.columns maps"
            raise SourceError(f"{self.endpoint} has no property {', '.join(absent)}, {mapping}")
        fields = ",".join([*CELL_FIELDS, *labels])
        query = f"filter={quote(self.query['filter'])}&page_limit={self._page_size}&response_fields={fields}"
        return f"structures?{query}"

    def _is_wanted(self, entry: Mapping[str, Any]) -> bool:
        """Only crystals of the wanted elements: `HAS ONLY` is optional in the standard."""
        attributes = entry.get("attributes")
        symbols = attributes.get("species_at_sites") if isinstance(attributes, Mapping) else None
        return self._elements is None or (isinstance(symbols, list) and set(map(str, symbols)) <= self._elements)


def structure_filter(query: Query) -> str:
    """The query in OPTIMADE's filter language."""
    parts = [
        f"nelements>={query.n_elements[0]}", f"nelements<={query.n_elements[1]}",
        f"nsites>={query.n_atoms[0]}", f"nsites<={query.n_atoms[1]}",
    ]  # fmt: skip
    if query.elements:
        names = ",".join(f'"{symbol}"' for symbol in query.elements)
        parts.append(f"elements HAS ANY {names}")
    return " AND ".join(parts)


def _announced(answer: Mapping[str, Any]) -> int | None:
    """Rows that match the filter; some providers do not count them."""
    returned = answer["meta"].get("data_returned")
    return returned if isinstance(returned, int) and not isinstance(returned, bool) and returned else None


def _next(answer: Mapping[str, Any]) -> str | None:
    links = answer.get("links")
    following = links.get("next") if isinstance(links, Mapping) else None
    following = following.get("href") if isinstance(following, Mapping) else following
    if following is not None and not isinstance(following, str):
        raise TransientError(f"links.next is not an address: {following!r:.80}")
    return following or None


def _check(content: Any) -> None:
    is_whole = isinstance(content, Mapping) and isinstance(content.get("data"), list)
    if not is_whole or not isinstance(content.get("meta"), Mapping):
        raise TransientError(f"the answer has no data and meta: {str(content)[:200]}")
    if not all(isinstance(row, Mapping) and row.get("id") is not None for row in content["data"]):
        raise TransientError(f"the answer's data are not rows: {str(content['data'])[:200]}")


def _check_info(content: Any) -> None:
    data = content.get("data") if isinstance(content, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(data.get("properties"), Mapping):
        raise TransientError(f"info/structures names no properties: {str(content)[:200]}")
