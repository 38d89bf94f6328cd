"""AFLOW over AFLUX (Rose et al., Comput. Mater. Sci. 137, 362, 2017): its client, and its rows as records.

The answer states no total, so pages are asked for until one is empty; a page too large for the service
(5xx or broken JSON) is asked for in smaller parts and put together again, so that it is the same page. A row that
alone makes its page fail is left out and counted.

Today's answer is a list of objects with native types; that of 2017 to 2020 a dict keyed `"1 of 912"` whose
values are all text. Both are read.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pymatgen.core import Lattice

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import MAX_ATOMS_READ
from matscout.params import Database, Query
from matscout.sources.fields import flag, make_crystal, number, parse_json, required
from matscout.sources.record import Record, RowError
from matscout.sources.services.http import Cursor, GaveUpError, HttpClient, Page, TransientError, user_agent

NAME: Final = "aflow"
FORMAT: Final = "aflow_aflux"
FUNCTIONAL: Final = "PAW_PBE"  # `dft_type` names the family of pseudopotentials and with it the functional
UNSET: Final = (None, "", "0", 0)  # written where there is no Hubbard U
SEPARATORS: Final = re.compile(r"[,;:\s]+")
YEAR: Final = re.compile(r"(19|20)\d\d")


def rows_of(page: Any) -> Iterator[Any]:
    """The objects of one answer, in the order of their numbers where it is keyed by them."""
    if isinstance(page, Mapping):
        yield from (page[key] for key in sorted(page, key=_place))
    else:
        yield from page


def _place(key: str) -> tuple[int, str]:
    """The number in `"1 of 912"`."""
    first = key.split(maxsplit=1)[0] if key.strip() else ""
    return (int(first) if first.isascii() and first.isdigit() and len(first) < 10 else 0), key


def parse_row(row: Mapping[str, Any], source: str) -> Record:
    """One object of an AFLUX answer as a record.

    Args:
        row: row of AFLUX.
        source: name of the database.

    Returns:
        The record, in our units.

    Raises:
        RowError: another functional than PBE, no usable cell, or a label that is not a number.
    """
    functionals = _texts(row, "dft_type")
    if functionals != [FUNCTIONAL]:
        message = f"dft_type = {functionals}; only [{FUNCTIONAL!r}] is comparable with the other databases"
        raise RowError("other_functional", message)
    gap = number(row, "Egap")
    return Record(
        material_id=str(required(row, "auid")),
        source=source,
        functional="PBE",
        is_hubbard=any(row.get(key) not in UNSET for key in ("ldau_TLUJ", "ldau_type")),
        pseudopotentials=FUNCTIONAL,
        energy_corrections=columns.UNCORRECTED,
        synthetic=bool(flag(row, "synthetic")),
        crystal=parse_cell(row),
        band_gap=None if gap is not None and gap < 0 else gap,  # AFLOW writes a negative gap if none was computed
        formation_energy_per_atom=number(row, "enthalpy_formation_atom"),
        energy_above_hull=None,
        bulk_modulus=number(row, "ael_bulk_modulus_vrh"),
        shear_modulus=None,
        year=_year(row),
    )


def parse_cell(row: Mapping[str, Any]) -> Crystal:
    """`geometry` (a, b, c in Å, angles in degrees), `species` times `composition`, `positions_fractional`."""
    geometry = _numbers(row, "geometry")
    if len(geometry) != 6:
        message = f"geometry has {len(geometry)} numbers; it must hold three lengths and three angles"
        raise RowError("lattice_malformed", message)
    species, numbers = _texts(row, "species"), _numbers(row, "composition")
    if not all(number >= 0 and number.is_integer() for number in numbers):
        raise RowError("not_a_number", f"composition = {numbers!s:.60} must hold whole numbers of atoms")
    counts = [int(number) for number in numbers]
    if len(species) != len(counts):
        message = f"{len(species)} species and {len(counts)} entries in composition; they must be equal in number"
        raise RowError("count_mismatch", message)
    if min(counts, default=0) < 0 or sum(counts) > MAX_ATOMS_READ:
        raise RowError(
            "too_many_atoms",
            f"composition {counts!s:.60} asks for {sum(counts)} atoms; at most {MAX_ATOMS_READ} are read",
        )
    symbols = [symbol for symbol, count in zip(species, counts, strict=True) for _ in range(count)]
    positions = _numbers(row, "positions_fractional")
    if len(positions) % 3:
        message = f"positions_fractional holds {len(positions)} numbers, no multiple of three"
        raise RowError("coordinates_malformed", message)
    triples = [positions[start : start + 3] for start in range(0, len(positions), 3)]
    return make_crystal(_lattice(geometry), symbols, triples)


def _lattice(geometry: list[float]) -> Any:
    try:
        return Lattice.from_parameters(*geometry).matrix
    except (ValueError, ZeroDivisionError) as error:
        raise RowError("zero_volume", f"geometry {geometry} spans no cell ({error})") from error


def _numbers(row: Mapping[str, Any], key: str) -> list[float]:
    """A flat list of numbers from a list, nested lists or text such as `"1,2,3;4,5,6"`."""
    value = required(row, key)
    try:
        if isinstance(value, str):
            return [float(part) for part in SEPARATORS.split(value.strip(" []")) if part]
        return [float(part) for item in value for part in (item if isinstance(item, list) else [item])]
    except (TypeError, ValueError) as error:
        raise RowError("not_a_number", f"{key} = {value!r:.80} must hold numbers ({error})") from error


def _texts(row: Mapping[str, Any], key: str) -> list[str]:
    """A list of words from a list, JSON text or `"Cl,Na"`."""
    value = required(row, key)
    if isinstance(value, str):
        value = parse_json(value) if value.startswith("[") else value.split(",")
    return [str(part).strip() for part in value]


def _year(row: Mapping[str, Any]) -> int | None:
    """First year in `aflowlib_date`, which is text or a list of text."""
    date = row.get("aflowlib_date")
    text = date[0] if isinstance(date, list) and date else date
    found = YEAR.match(text) if isinstance(text, str) else None
    return int(found.group()) if found else None


FIELDS: Final = (
    "geometry(*)", "composition(*)", "positions_fractional(*)", "enthalpy_formation_atom(*)", "Egap", "Egap_type",
    "compound", "aurl", "catalog", "spacegroup_relax", "dft_type", "ldau_type", "ldau_TLUJ", "species_pp_version",
    "aflowlib_date", "ael_bulk_modulus_vrh",
)  # fmt: skip
NUMBERED: Final = re.compile(r"\d+ of \d+")
TRIES_PER_SIZE: Final = 3  # tries before a page is requested in smaller parts
MOST_FAILING: Final = 0.1  # of a page's rows: more than this is not a row's fault
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
        """Check that the service answers; AFLUX states no version."""
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
            GaveUpError: the service is down, or more rows fail than that.
        """
        url, smaller = self._url(start // size + 1, size), _smaller(size)
        try:
            return list(rows_of(self._http.json(url, check=_check, max_tries=TRIES_PER_SIZE)))
        except GaveUpError as error:
            if error.is_throttled:
                raise
            if not self._answers():
                return list(
                    rows_of(self._http.json(url, check=_check))
                )  # an outage: retry for as long as `patience` allows
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
        if None not in rows:  # the size of the page was the cause, not a row
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
