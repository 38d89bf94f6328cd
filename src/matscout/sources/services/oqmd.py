"""OQMD (Saal et al., JOM 65, 1501, 2013): labels over REST, cells over OPTIMADE, joined to records.

REST coordinates have three significant digits, which break symmetry, and OPTIMADE rounds labels: so each gives what it
has precisely. OPTIMADE's `id` is the label's `formationenergy_id`. REST answers are unordered, and offsets into them
repeat and skip rows: so the client walks windows of `id`, counts what each holds against `meta` and sorts it; one
window that holds rows is one page.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urljoin

from matscout import columns
from matscout.errors import SourceError
from matscout.params import Database, Query
from matscout.sources.fields import flag, make_crystal, number, required, to_fractional, whole_number
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

NAME: Final = "oqmd"
FORMAT: Final = "oqmd_rest_optimade"
VOLUME_TOLERANCE: Final = 0.02  # relative difference within which the two answers describe the same cell
PSEUDOPOTENTIALS: Final = "PAW_PBE"  # of every calculation (Saal et al. 2013); rows do not state it
HUBBARD_ELEMENTS: Final = frozenset({"V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu"})


def rows_of(page: Mapping[str, Any]) -> Iterator[Any]:
    """The labels of one page, each with its cell's attributes under `cell` (None if OPTIMADE has none)."""
    entries = (entry for entry in page["structures"]["data"] if isinstance(entry, Mapping))
    cells = {str(entry.get("id")): entry.get("attributes") for entry in entries}
    for label in page["labels"]["data"]:
        if not isinstance(label, Mapping):
            yield label
            continue
        yield {**label, "cell": cells.get(str(label.get("formationenergy_id")))}


def parse_row(row: Mapping[str, Any], source: str) -> Record:
    """One label with its cell as a record.

    Args:
        row: label and cell.
        source: name of the database.

    Returns:
        The record, in our units.

    Raises:
        RowError: no cell, an unusable one, one of another size than the label's, or a label that is not a number.
    """
    if row.get("cell") is None:
        message = f"OPTIMADE has no structure {row.get('formationenergy_id')}; the label stands alone"
        raise RowError("structure_missing", message)
    cell = row["cell"]
    if not isinstance(cell, Mapping):
        raise RowError("structure_malformed", f"attributes = {cell!r:.60} must be an object")
    lattice = cell.get("lattice_vectors")
    species = cell.get("species_at_sites") or ()
    crystal = make_crystal(lattice, species, to_fractional(cell.get("cartesian_site_positions"), lattice))
    _check_same_cell(row, crystal.n_atoms, crystal.volume)
    elements = set(crystal.species)
    return Record(
        material_id=f"oqmd-{required(row, 'entry_id')}",
        source=source,
        functional="PBE",
        is_hubbard="O" in elements and bool(elements & HUBBARD_ELEMENTS),
        pseudopotentials=PSEUDOPOTENTIALS,
        energy_corrections=columns.UNCORRECTED,
        synthetic=bool(flag(row, "synthetic")),
        crystal=crystal,
        band_gap=number(row, "band_gap"),
        formation_energy_per_atom=number(row, "delta_e"),
        energy_above_hull=number(row, "stability"),
        bulk_modulus=None,
        shear_modulus=None,
        year=None,
    )


def _check_same_cell(row: Mapping[str, Any], n_atoms: int, volume: float) -> None:
    """`natoms` and `volume` (Å³ per cell) of the label against the cell."""
    expected = whole_number(row, "natoms")
    if expected is not None and expected != n_atoms:
        raise RowError("count_mismatch", f"the label says {expected} atoms, the cell holds {n_atoms}")
    stated = number(row, "volume")
    if stated and abs(stated / volume - 1) > VOLUME_TOLERANCE:
        message = f"the label says {stated:g} Å³, the cell spans {volume:g} Å³; they are not one material"
        raise RowError("cell_mismatch", message)


FIELDS: Final = (
    "name,entry_id,formationenergy_id,duplicate_entry_id,icsd_id,delta_e,stability,band_gap,natoms,volume,"
    "spacegroup,calculation_label"
)
CELL_FIELDS: Final = "lattice_vectors,cartesian_site_positions,species_at_sites,_oqmd_entry_id"
KEPT_ATTRIBUTES: Final = CELL_FIELDS.split(",")
FIRST_WIDTH: Final = 10  # size of the first window, in pages; ids are dense at first
LAST_ID: Final = 1 << 40
WINDOW_TRIES: Final = 4

Row = dict[str, Any]


class OqmdClient:
    """A `Fetcher` of windows of ids, cells joined to labels."""

    format = FORMAT

    def __init__(self, database: Database) -> None:
        if not database.endpoint or not database.optimade_endpoint:
            message = "databases.oqmd needs endpoint (labels) and optimade_endpoint (cells) for the origin api"
            raise SourceError(message)
        self.endpoint = database.endpoint
        self._optimade = database.optimade_endpoint
        self.query = {"filter": label_filter(database.query), "limit": database.query.limit}
        if database.query.elements:
            self.query["composition"] = "-".join(database.query.elements)
        self.client = user_agent()
        self._http = HttpClient(NAME, database.service)
        self._page_size = database.service.page_size
        self._patience = database.service.patience
        self._limit = database.query.limit
        self._first_width = FIRST_WIDTH * self._page_size

    def open(self) -> str | None:
        """Check that the service answers; OQMD states no version of its data."""
        self._http.probe(self._labels_url(0, 1, limit=1))
        self._http.probe(self._cells_url(0, 1))

    def total(self, cursor: Cursor | None) -> int | None:
        """What the first answer announced, at most the limit."""
        return min(cursor["total"], self._limit) if cursor else None

    def fetch(self, cursor: Cursor | None) -> Page:
        """The next window that holds rows."""
        cursor = cursor or {"id": 0, "width": self._first_width, "rows": 0, "found": 0, "total": self._count()}
        start, width = cursor["id"], cursor["width"]
        labels: list[Row] = []
        while not labels and cursor["found"] < cursor["total"]:
            if start > LAST_ID:
                message = f"OQMD announced {cursor['total']} rows and gave {cursor['found']}; try again with --refresh"
                raise SourceError(message)
            labels = self._labels(start, start + width)
            start += width
            width = self._first_width if labels else 2 * width
        return self._page(labels, {**cursor, "id": start, "width": width})

    def _page(self, labels: list[Row], cursor: Cursor) -> Page:
        n_found = cursor["found"] + len(labels)
        labels = labels[: self._limit - cursor["rows"]]
        cells = self._cells(labels) if labels else []
        n_rows = cursor["rows"] + len(labels)
        is_last = n_rows >= self._limit or n_found >= cursor["total"]
        content = {"labels": {"data": labels}, "structures": {"data": cells}}
        ids = [str(label["formationenergy_id"]) for label in labels]
        return Page(content, ids, None if is_last else {**cursor, "rows": n_rows, "found": n_found})

    def _count(self) -> int:
        """Rows that match, all windows together."""
        answer = self._http.json(self._labels_url(0, LAST_ID, limit=1), check=_check)
        available = answer["meta"].get("data_available")
        if not isinstance(available, int):
            raise SourceError(f"OQMD states data_available = {available!r}; a number of rows must stand there")
        return available

    def _labels(self, start: int, stop: int) -> list[Row]:
        """All labels of a window, by id; asked for again while their number is not what `meta` says."""

        def collect() -> list[Row]:
            rows, available = self._walk(self._labels_url(start, stop, limit=self._page_size))
            by_id = {_id(row, "formationenergy_id"): row for row in rows}
            if isinstance(available, int) and len(by_id) != available:
                message = f"the window [{start}, {stop}) holds {len(by_id)} of {available} rows that it announces"
                raise TransientError(message)
            return [by_id[key] for key in sorted(by_id)]

        return self._again(collect, f"OQMD labels of ids {start} to {stop}")

    def _cells(self, labels: list[Row]) -> list[Row]:
        """The cells of these labels, by id; those that stay absent are left to the quarantine."""
        wanted = {_id(label, "formationenergy_id") for label in labels}
        found: dict[int, Row] = {}

        def collect() -> None:
            rows, _ = self._walk(self._cells_url(min(wanted), max(wanted) + 1))
            found.update({_id(row, "id"): _slim(row) for row in rows if _id(row, "id") in wanted})
            if missing := wanted - found.keys():
                raise TransientError(f"OPTIMADE gives no cell for {len(missing)} label(s), such as {min(missing)}")

        try:
            self._again(collect, "OQMD cells")
        except GaveUpError:
            if not found:
                raise
        return [found[key] for key in sorted(found)]

    def _again(self, collect: Any, what: str) -> Any:
        return patiently(collect, what=what, patience=self._patience, max_tries=WINDOW_TRIES)

    def _walk(self, url: str | None) -> tuple[list[Row], Any]:
        """Rows of an answer and of those that its `links.next` leads to; rows that its first `meta` announces."""
        rows: list[Row] = []
        available, visited, asked = None, set(), url or ""
        while url and url not in visited:
            visited.add(url)
            answer = self._http.json(url, check=_check)
            if available is None:
                available = answer["meta"].get("data_available")
            rows += answer["data"]
            links = answer.get("links")
            following = links.get("next") if isinstance(links, Mapping) else None
            url = following.get("href") if isinstance(following, Mapping) else following
            if url is not None and not isinstance(url, str):
                raise TransientError(f"links.next is not an address: {url!r:.80}")
            # OQMD says that more follows even on the last page; an empty one is the end.
            url = on_same_host(url, asked) if url and answer["data"] else None
        return rows, available

    def _labels_url(self, start: int, stop: int, *, limit: int) -> str:
        conditions = f"id>={start} AND id<{stop} AND {self.query['filter']}"
        composition = f"&composition={self.query['composition']}" if "composition" in self.query else ""
        path = f"formationenergy?fields={FIELDS}&noduplicate=True{composition}"
        return urljoin(self.endpoint, f"{path}&filter={quote(conditions)}&limit={limit}&offset=0&format=json")

    def _cells_url(self, start: int, stop: int) -> str:
        conditions = quote(f"id>={start} AND id<{stop}")
        path = f"structures?filter={conditions}&page_limit={self._page_size}&response_fields={CELL_FIELDS}"
        return urljoin(self._optimade, path)


def label_filter(query: Query) -> str:
    """The query in the words of OQMD's REST filter."""
    parts = [
        f"ntypes>={query.n_elements[0]}", f"ntypes<={query.n_elements[1]}",
        f"natoms>={query.n_atoms[0]}", f"natoms<={query.n_atoms[1]}",
    ]  # fmt: skip
    if query.energy_above_hull is not None:
        parts.append(f"stability<={query.energy_above_hull:g}")
    return " AND ".join(parts)


def _id(row: Row, key: str) -> int:
    """The number that names a row.

    Raises:
        TransientError: there is none, or it is not a number.
    """
    try:
        return int(row[key])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise TransientError(f"a row's {key} = {row.get(key)!r:.60} is not a whole number") from error


def _slim(row: Row) -> Row:
    """What the parser reads; a server may add more, and links that hold its address."""
    attributes = row.get("attributes")
    attributes = attributes if isinstance(attributes, Mapping) else {}
    return {"id": str(_id(row, "id")), "attributes": {key: attributes.get(key) for key in KEPT_ATTRIBUTES}}


def _check(content: Any) -> None:
    is_whole = isinstance(content, Mapping) and isinstance(content.get("data"), list)
    if not is_whole or not isinstance(content.get("meta"), Mapping):
        raise TransientError(f"the answer has no data and meta: {str(content)[:200]}")
    if not all(isinstance(row, Mapping) for row in content["data"]):
        raise TransientError(f"the answer's data are not rows: {str(content['data'])[:200]}")
