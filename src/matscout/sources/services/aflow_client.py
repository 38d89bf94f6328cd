"""AFLOW over AFLUX (Rose et al., Comput. Mater. Sci. 137, 362, 2017): matchbook in, pages out.

The answer states no total, so pages are asked for until one is empty; a page too large for the service
(5xx or broken JSON) is asked for in smaller parts and put together again, so that it is the same page. A row that
alone makes its page fail is left out and counted.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from matscout.params import Database, Query
from matscout.sources.formats.aflow import FORMAT, NAME, rows_of
from matscout.sources.services.fetcher import Cursor, Page
from matscout.sources.services.http import HttpClient, user_agent
from matscout.sources.services.retrying import GaveUpError, TransientError

FIELDS: Final = (
    "geometry(*)", "composition(*)", "positions_fractional(*)", "enthalpy_formation_atom(*)", "Egap", "Egap_type",
    "compound", "aurl", "catalog", "spacegroup_relax", "dft_type", "ldau_type", "ldau_TLUJ", "species_pp_version",
    "aflowlib_date", "ael_bulk_modulus_vrh",
)  # fmt: skip
NUMBERED: Final = re.compile(r"\d+ of \d+")
TRIES_PER_SIZE: Final = 3  # before a page is asked for in smaller parts
MOST_FAILING: Final = 0.1  # of a page's rows: more than this is no row's fault
FAILING: Final = "fails whenever it is asked for"
SHORT_TRIES: Final = 2
LOG: Final = logging.getLogger(__name__)

Rows = list[dict[str, Any] | None]  # None: a row that fails


class AflowClient:
    """A `Fetcher` of AFLUX pages."""

    format = FORMAT

    def __init__(self, database: Database) -> None:
        self.endpoint = database.endpoint or ""
        self._elements = set(database.query.elements) if database.query.elements else None
        self.query = {"matchbook": matchbook(database.query), "limit": database.query.limit}
        self.client = user_agent()
        self._http = HttpClient(NAME, database.service)
        self._page_size = database.service.page_size
        self._limit = database.query.limit
        self._part = self._page_size

    def open(self) -> str | None:
        """AFLUX states no version."""
        self._http.probe(self._url(1, 1))

    def total(self, cursor: Cursor | None) -> int | None:
        """Not stated by AFLUX: the limit of the query, until it is known better."""
        return self._limit if cursor is not None else None

    def fetch(self, cursor: Cursor | None) -> Page:
        """Page `cursor["page"]`, from 1."""
        number, n_before = (cursor["page"], cursor["rows"]) if cursor else (1, 0)
        rows, is_last = self._whole_page(number)
        kept = [row for row in rows if row is not None and self._is_wanted(row)][: self._limit - n_before]
        n_rows = n_before + len(kept)
        ids = [str(row["auid"]) for row in kept]
        following = None if is_last or n_rows >= self._limit else {"page": number + 1, "rows": n_rows}
        n_failing = rows.count(None)
        return Page(kept, ids, following, {FAILING: n_failing} if n_failing else {})

    def _whole_page(self, number: int) -> tuple[Rows, bool]:
        """A page and whether it is the last; a short or empty one is asked for again, since only the last may be."""
        rows = self._in_parts(number)
        for _ in range(SHORT_TRIES):
            if len(rows) == self._page_size:
                return rows, False
            rows = max(rows, self._in_parts(number), key=len)
        is_last = not rows or not self._in_parts(number + 1)
        if not is_last and len(rows) < self._page_size:
            LOG.warning("AFLUX page %d holds %d of %d rows though others follow", number, len(rows), self._page_size)
        return rows, is_last

    def _in_parts(self, number: int) -> Rows:
        """The rows of a page, None for one that fails; in parts of the size that the service could answer last."""
        rows: Rows = []
        size, allowed = self._part, int(MOST_FAILING * self._page_size) or 1
        for start in range((number - 1) * self._page_size, number * self._page_size, size):
            part = self._rows(start, size, allowed - rows.count(None))
            rows += part
            if len(part) < size:
                break
        return rows

    def _rows(self, start: int, size: int, allowed: int) -> Rows:
        """`size` rows from the 0-based `start`, a multiple of it; where they fail together, in ever smaller parts.

        Args:
            start: place of the first.
            size: how many.
            allowed: rows that may fail one by one.

        Raises:
            GaveUpError: the service is out of order, or more rows fail than that.
        """
        url, smaller = self._url(start // size + 1, size), _smaller(size)
        try:
            return list(rows_of(self._http.json(url, check=_check, max_tries=TRIES_PER_SIZE)))
        except GaveUpError as error:
            if error.is_throttled:
                raise
            if not self._answers():
                return list(rows_of(self._http.json(url, check=_check)))  # an outage: with all patience
            if size == 1:
                if not allowed:
                    raise
                return [None]
        rows: Rows = []
        for place in range(start, start + size, smaller):
            part = self._rows(place, smaller, allowed - rows.count(None))
            rows += part
            if len(part) < smaller:
                break
        if None not in rows:  # it was the size, not a row
            self._part = min(self._part, smaller)
        return rows

    def _answers(self) -> bool:
        """Whether the service gives its first row, so that what fails is what was asked for."""
        try:
            self._http.json(self._url(1, 1), check=_check, max_tries=TRIES_PER_SIZE)
        except GaveUpError:
            return False
        return True

    def _url(self, number: int, size: int) -> str:
        return f"{self.endpoint}?{self.query['matchbook']},$paging({number},{size}),format(json)"

    def _is_wanted(self, row: Mapping[str, Any]) -> bool:
        """Only crystals of the wanted elements: AFLUX can require an element, but not exclude all others."""
        species = row.get("species") or []
        names = species.split(",") if isinstance(species, str) else species
        return self._elements is None or {str(name).strip() for name in names} <= self._elements


def matchbook(query: Query) -> str:
    """The query in AFLUX's language; `auid` comes first, because answers are sorted by the first keyword."""
    species = f"species({':'.join(query.elements)})" if query.elements else "species(*)"
    ranges = f"nspecies({query.n_elements[0]}*,*{query.n_elements[1]}),natoms({query.n_atoms[0]}*,*{query.n_atoms[1]})"
    return ",".join(("auid", species, ranges, *FIELDS))


def _smaller(size: int) -> int:
    """The largest proper divisor: parts of it tile a page."""
    return next((size // n for n in range(2, size + 1) if size % n == 0), size)


def _check(content: Any) -> None:
    """Rows, in one of the two shapes, each with its `auid`; an error comes as a dict of something else."""
    if isinstance(content, Mapping):
        if content and not all(NUMBERED.fullmatch(str(key)) for key in content):
            raise TransientError(f"AFLUX answers an error: {str(content)[:200]}")
        content = list(content.values())
    if not isinstance(content, list) or not all(isinstance(row, Mapping) and row.get("auid") for row in content):
        raise TransientError(f"AFLUX answers no rows: {str(content)[:200]}")
