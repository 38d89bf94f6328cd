"""Materials Project through the real `mp-api` client (Jain et al., APL Mater. 1, 011002, 2013): client and records.

The client brings its key, headers, addresses and answers. It pages on its own and keeps everything in memory, so it is
asked for one page at a time with the very parameters (`_limit`, `_skip`) that it sends itself. Rows are raw JSON:
summary documents, with thermo documents of the GGA hull and run types; document models would drop sparse fields.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Final, TypeVar
from urllib.parse import urljoin

import requests
from emmet.core.mpid import AlphaID
from requests.adapters import HTTPAdapter

from matscout import columns
from matscout.crystal import SYMBOLS, Crystal
from matscout.errors import SourceError
from matscout.params import Database, Query
from matscout.sources.fields import flag, number, required, to_number, year_of
from matscout.sources.formats.crystal_parser import parse_pymatgen
from matscout.sources.record import Record, RowError
from matscout.sources.services import http
from matscout.sources.services.http import (
    OFFLINE,
    Cursor,
    HttpClient,
    Pace,
    Page,
    TransientError,
    judge_status,
    keep_to_host,
    patiently,
    user_agent,
)

NAME: Final = "materials_project"
FORMAT: Final = "materials_project_summary"
PSEUDOPOTENTIALS: Final = "PAW_PBE"  # of every calculation (Jain et al. 2013); rows do not state it
# Elements that the Materials Project computes with a Hubbard U beside oxygen or fluorine.
HUBBARD_ELEMENTS: Final = frozenset({"V", "Cr", "Mn", "Fe", "Co", "Ni", "Mo", "W"})
HUBBARD_ANIONS: Final = frozenset({"O", "F"})
PLAIN_ID: Final = re.compile(r"(mp|mvc)-\d+")
FUNCTIONAL: Final = "PBE"
RUN_TYPES: Final = MappingProxyType({"GGA": FUNCTIONAL, "PBE": FUNCTIONAL, "PBESOL": "PBEsol", "R2SCAN": "r2SCAN"})
GAP_ORIGINS: Final = ("band_gap", "electronic_structure", "structure")  # the first of these in a document is used
BESIDE: Final = ("thermo", "core")  # documents of other collections in a page, beside its summaries
THERMO_LABELS: Final = ("formation_energy_per_atom", "energy_above_hull")


def rows_of(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The summary documents of one page, each with its documents of other collections (if the page has any).

    The default hull of the summary mixes r2SCAN with GGA; a page with thermo documents of the type
    `GGA_GGA+U` takes all energies from those, and none where a material has none. `core` documents hold the
    run type, and with it the functional, of each calculation that a summary names as an origin.
    """
    beside = {
        name: {normalise_id(document.get("material_id")): document for document in page[name] or ()}
        for name in BESIDE
        if name in page
    }
    for document in page["data"]:
        if isinstance(document, Mapping):
            key = normalise_id(document.get("material_id"))
            yield {**document, **{name: found.get(key, {}) for name, found in beside.items()}}
        else:
            yield document


def normalise_id(value: Any) -> str:
    """`mp-149` for `mp-149`, `mp-aaaaaaft` and the like; what is not an identifier is returned as text."""
    text = str(value)
    if PLAIN_ID.fullmatch(text):
        return text
    try:
        return str(AlphaID(text).string)
    except (ValueError, TypeError, KeyError, AttributeError):
        return text


def parse_row(row: Mapping[str, Any], source: str) -> Record:
    """One summary document as a record.

    Every label is PBE's: a gap of another functional is withheld, and its functional stated. A row that has neither a
    PBE energy nor a PBE gap is rejected.

    Args:
        row: row of the summaries.
        source: name of the database.

    Returns:
        The record, in our units.

    Raises:
        RowError: it holds no usable identifier or structure, a label is not a number, or all are of another functional.
    """
    crystal = parse_pymatgen(required(row, "structure"))
    energies = row.get("thermo", row)
    gap_functional = _gap_functional(row)
    if not energies and gap_functional not in {None, FUNCTIONAL}:
        detail = f"only {gap_functional} calculations back it (no GGA(+U) energy); their labels are on another scale"
        raise RowError("other_functional", detail)
    theoretical = flag(row, "theoretical")
    return Record(
        material_id=normalise_id(required(row, "material_id")),
        source=source,
        functional=FUNCTIONAL,
        is_hubbard=_is_hubbard(crystal, energies.get("energy_type")),
        pseudopotentials=PSEUDOPOTENTIALS,
        energy_corrections=str(row.get(columns.ENERGY_CORRECTIONS) or columns.MP2020),  # the service's, since 2021
        synthetic=bool(flag(row, "synthetic")),
        crystal=crystal,
        band_gap=number(row, "band_gap") if gap_functional in {None, FUNCTIONAL} else None,
        **{label: number(energies, label) for label in THERMO_LABELS},  # type: ignore[arg-type]
        bulk_modulus=_vrh(row, "bulk_modulus"),
        shear_modulus=_vrh(row, "shear_modulus"),
        year=year_of(row, "year"),
        is_experimental=None if theoretical is None else not theoretical,
        band_gap_functional=gap_functional if row.get("band_gap") is not None else None,
        ytterbium_potential=_ytterbium_potential(crystal, row),
    )


def _gap_functional(row: Mapping[str, Any]) -> str | None:
    """By the run type of the calculation that the gap comes from; None if the page holds no run types."""
    run_types = (row.get("core") or {}).get("run_types") or {}
    origins = {origin.get("name"): origin.get("task_id") for origin in row.get("origins") or ()}
    tasks = {normalise_id(task): str(run_type) for task, run_type in run_types.items()}
    for name in GAP_ORIGINS:
        if (run_type := tasks.get(normalise_id(origins.get(name)))) is not None:
            plain = run_type.removesuffix("+U")
            return RUN_TYPES.get(plain.upper(), plain)
    return None


def _ytterbium_potential(crystal: Crystal, row: Mapping[str, Any]) -> str | None:
    """All compounds of Yb were computed again in 2023; rows without a thermo document beside them are older."""
    if "Yb" not in crystal.species:
        return None
    return columns.YB_3 if "thermo" in row else columns.YB_2


def _is_hubbard(crystal: Crystal, energy_type: Any) -> bool:
    """As the thermo document says, else by the Materials Project's rule."""
    if energy_type in {"GGA", "GGA+U"}:
        return energy_type == "GGA+U"
    elements = set(crystal.species)
    return bool(elements & HUBBARD_ANIONS) and bool(elements & HUBBARD_ELEMENTS)


def _vrh(row: Mapping[str, Any], key: str) -> float | None:
    """Voigt-Reuss-Hill average of `{voigt, reuss, vrh}`, GPa."""
    averages = row.get(key)
    if averages is None:
        return None
    if not isinstance(averages, Mapping):
        raise RowError("not_a_number", f"{key} = {averages!r:.80} must be {{voigt, reuss, vrh}} or null")
    return to_number(averages.get("vrh"), f"{key}.vrh")


KEY_VARIABLE: Final = "MP_API_KEY"
KEY_PAGE: Final = "https://next-gen.materialsproject.org/api"
KEY_LENGTH: Final = 32
SUMMARY_FIELDS: Final = [
    "material_id", "structure", "band_gap", "formation_energy_per_atom", "energy_above_hull", "bulk_modulus",
    "shear_modulus", "theoretical", "origins", "builder_meta",
]  # fmt: skip
THERMO_FIELDS: Final = ["material_id", "formation_energy_per_atom", "energy_above_hull", "thermo_type", "energy_type"]
THERMO_TYPE: Final = "GGA_GGA+U"
CORE_FIELDS: Final = ["material_id", "run_types"]
CONTROLLED: Final = "access_controlled_batch_ids"  # in the heartbeat: GNoME's, CC BY-NC and of another functional
CONTROLLED_LICENCE: Final = "BY-NC"
IDS_PER_REQUEST: Final = 200  # longer addresses are rejected
SHORT_TRIES: Final = 3  # for a page with fewer rows than the service announces
NOT_GIVEN: Final = "announced and not given"
NOT_FREE: Final = "not free for commercial use"

Result = TypeVar("Result")


class MaterialsProjectClient:
    """A `Fetcher` of summary pages, each with its thermo documents on the GGA(+U) hull and its run types.

    Raises:
        SourceError: no key is set, or the key cannot be valid.
    """

    format = FORMAT

    def __init__(self, database: Database) -> None:
        self._key = read_key()
        self.endpoint = (database.endpoint or "").rstrip("/") + "/"
        self._criteria = criteria(database.query)
        self._above_hull = database.query.energy_above_hull
        self.query = self._criteria | {"batch_id_neq_any": CONTROLLED, "limit": database.query.limit}
        self.query |= {"thermo_type": THERMO_TYPE, "energy_above_hull_max": self._above_hull}
        self.client = f"mp-api {version('mp-api')}"
        self._controlled: frozenset[str] = frozenset()
        self._page_size = database.service.page_size
        self._patience = database.service.patience
        self._limit = database.query.limit
        self._http = HttpClient(NAME, database.service)
        self._pace = Pace(database.service.requests_per_second)
        self._rester: Any = None
        self._last: tuple[int, str | None, str] | None = None

    def open(self) -> str | None:
        """The database version out of the heartbeat; then the client, which asks for it again without a timeout."""
        address = urljoin(self.endpoint, "heartbeat")
        self._http.probe(address)
        heartbeat = self._http.json(address)
        if not isinstance(heartbeat, dict) or not heartbeat.get("db_version"):
            raise SourceError(f"{address} states no db_version: {str(heartbeat)[:200]}")
        controlled = heartbeat.get(CONTROLLED)
        if not isinstance(controlled, list):
            raise SourceError(f"{address} states no {CONTROLLED}, so that licences are unknown: {str(heartbeat)[:200]}")
        self._controlled = frozenset(str(name) for name in controlled if name)
        if self._controlled:
            self._criteria = self._criteria | {"batch_id_neq_any": ",".join(sorted(self._controlled))}
        self._connect()
        return str(heartbeat["db_version"])

    def total(self, cursor: Cursor | None) -> int | None:
        """What the first answer announced, at most the limit."""
        return min(cursor["total"], self._limit) if cursor else None

    def fetch(self, cursor: Cursor | None) -> Page:
        """The page at offset `cursor["skip"]`.

        Of its rows those stay that may be used for any purpose and do not lie too high above the GGA(+U) hull, on which
        the labels stand; the summary's own hull mixes functionals. A key may be told of more rows than it is given:
        an empty page is the end, and what was announced beyond it is counted.
        """
        skip, total, n_rows = (cursor["skip"], cursor["total"], cursor["rows"]) if cursor else (0, None, 0)
        given, total = self._summaries(skip, total)
        free = [document for document in given if is_commercial(document, self._controlled)]
        ids = [normalise_id(document.get("material_id")) for document in free]
        thermo = self._documents("thermo", ids, THERMO_FIELDS, {"thermo_types": THERMO_TYPE})
        rows = [
            (key, slim(row))
            for key, row in zip(ids, free, strict=True)
            if is_low(thermo.get(key, {}), self._above_hull)
        ]
        rows = rows[: self._limit - n_rows]
        kept = [key for key, _ in rows]
        core = self._documents("core", kept, CORE_FIELDS, {})
        content = {
            "data": [row for _, row in rows],
            "thermo": [thermo[key] for key in kept if key in thermo],
            "core": [origins_of(row, core.get(key, {})) for key, row in rows],
            "meta": {"total_doc": total},
        }
        following = skip + self._page_size if given else total
        n_rows += len(kept)
        missing = max(0, min(following, total) - skip - len(given))
        counts = {NOT_GIVEN: missing, NOT_FREE: len(given) - len(free)}
        is_last = following >= total or n_rows >= self._limit
        cursor = None if is_last else {"skip": following, "total": total, "rows": n_rows}
        return Page(content, kept, cursor, {reason: n for reason, n in counts.items() if n})

    def _summaries(self, skip: int, announced: int | None) -> tuple[list[dict[str, Any]], int]:
        """The summaries from `skip` on; fewer than are announced only where they stay away in several tries."""
        what = f"{self.endpoint}materials/summary/ at row {skip}"
        most: list[dict[str, Any]] = []
        total = 0

        def ask() -> tuple[list[dict[str, Any]], int]:
            paging = {"_skip": skip, "_limit": self._page_size, "_sort_fields": "material_id"}
            documents, total = self._query(self._rester.materials.summary, paging | self._criteria, SUMMARY_FIELDS)
            if announced is not None and total != announced:
                raise TransientError(f"the service announced {announced} rows before and {total} now")
            return documents, total

        for wait in range(SHORT_TRIES):
            documents, total = self._patiently(ask, what)
            most = max(most, documents, key=len)
            if len(most) >= min(self._page_size, max(0, total - skip)):
                break
            time.sleep(wait * http.FIRST_WAIT_S)
        return most, total

    def _documents(
        self, collection: str, ids: list[str], fields: list[str], wanted: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Documents of `thermo` or `core` by id; a material computed with another functional has no thermo."""
        rester = self._rester.materials if collection == "core" else self._rester.materials.thermo
        documents: dict[str, dict[str, Any]] = {}
        for start in range(0, len(ids), IDS_PER_REQUEST):
            chunk = ids[start : start + IDS_PER_REQUEST]

            def ask(chunk: list[str] = chunk) -> list[dict[str, Any]]:
                named = {"material_ids": ",".join(chunk), "_limit": IDS_PER_REQUEST}
                return self._query(rester, named | wanted, fields)[0]

            found = self._patiently(ask, f"{self.endpoint}materials/{collection}/ from {chunk[0]}")
            documents |= {normalise_id(document.get("material_id")): document for document in found}
        return documents

    def _query(self, rester: Any, wanted: dict[str, Any], fields: list[str]) -> tuple[list[dict[str, Any]], int]:
        """One request through the client."""
        self._pace.wait()
        answer = rester._query_resource(  # noqa: SLF001 - the public search hides `meta`
            criteria=wanted,
            fields=fields,
            use_document_model=False,
            num_chunks=1,
            chunk_size=wanted["_limit"],
            timeout=http.READ_TIMEOUT_S,
        )
        documents, total = answer.get("data"), (answer.get("meta") or {}).get("total_doc")
        if not isinstance(documents, list) or not all(isinstance(document, dict) for document in documents):
            raise TransientError(f"the answer holds no documents: {str(answer)[:200]}")
        return documents, len(documents) if total is None else int(total)

    def _patiently(self, ask: Callable[[], Result], what: str) -> Result:
        """`ask` until it succeeds; every failure of the client made plain, the key cut out."""
        from mp_api.client.core.exceptions import MPRestError

        def once() -> Result:
            self._last = None
            try:
                return ask()
            except (MPRestError, requests.RequestException, ValueError, KeyError, TypeError, AttributeError) as error:
                self._judge(error, what)
                raise TransientError(self._without_key(f"{type(error).__name__}: {error}")) from None

        return patiently(once, what=what, patience=self._patience)

    def _judge(self, error: Exception, what: str) -> None:
        """Raise what the last answer's status means, if it is a failure."""
        if self._last is None:
            return
        status, retry_after, text = self._last
        if status in {requests.codes.unauthorized, requests.codes.forbidden}:
            message = f"{NAME}: the key in {KEY_VARIABLE} was rejected (HTTP {status}); see {KEY_PAGE}"
            raise SourceError(message) from None
        judge_status(status, retry_after, self._without_key(text or str(error)), what)

    def _connect(self) -> None:
        from mp_api.client import MPRester

        try:
            self._rester = MPRester(
                self._key, endpoint=self.endpoint, use_document_model=False, mute_progress_bars=True
            )
        except Exception as error:  # noqa: BLE001 - the client leaks whatever its parts raise
            message = self._without_key(f"{NAME}: mp-api cannot start: {type(error).__name__}: {error}")
            raise SourceError(message) from None
        session = self._rester.session
        # Tries are counted and limited here; the client's own retries would add to them.
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=0))
        session.headers["user-agent"] = f"{user_agent()} mp-api/{version('mp-api')}"
        session.hooks["response"].append(self._note)
        keep_to_host(session)

    def _note(self, response: requests.Response, *_args: Any, **_kwargs: Any) -> None:
        self._last = (response.status_code, response.headers.get("Retry-After"), response.text[:200])

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "<key>")


def read_key() -> str:
    """The key out of the environment, checked as far as it can be.

    Raises:
        SourceError: it is absent or malformed; the message names the variable, where a key is had, and the way
            without one, never the key.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    way_out = f"get one at {KEY_PAGE} and export it. {OFFLINE.format(name=NAME)}"
    if not key:
        raise SourceError(f"{NAME}: the environment variable {KEY_VARIABLE} is not set; {way_out}")
    if not re.fullmatch(r"[A-Za-z0-9]+", key) or len(key) != KEY_LENGTH:
        raise SourceError(
            f"{NAME}: {KEY_VARIABLE} must be {KEY_LENGTH} letters and digits, it has {len(key)}; {way_out}"
        )
    return key


def criteria(query: Query) -> dict[str, Any]:
    """The query in the service's own words; never empty, since without a filter the client fetches a table dump."""
    wanted: dict[str, Any] = {
        "deprecated": False,
        "nelements_min": query.n_elements[0],
        "nelements_max": query.n_elements[1],
        "nsites_min": query.n_atoms[0],
        "nsites_max": query.n_atoms[1],
    }
    if query.elements:
        wanted["exclude_elements"] = ",".join(symbol for symbol in SYMBOLS[1:] if symbol not in query.elements)
    return wanted


def is_commercial(document: Mapping[str, Any], controlled: frozenset[str]) -> bool:
    """Not of a batch with controlled access, whatever a filter did, and not licensed as such."""
    built = document.get("builder_meta")
    built = built if isinstance(built, Mapping) else {}
    return built.get("batch_id") not in controlled and built.get("license") != CONTROLLED_LICENCE


def is_low(thermo: Mapping[str, Any], most: float | None) -> bool:
    """Within `most` eV/atom above the hull on which the labels stand, as far as the row has a distance; None = any."""
    above = thermo.get("energy_above_hull")
    return most is None or not isinstance(above, int | float) or above <= most


def slim(document: Mapping[str, Any]) -> dict[str, Any]:
    """A summary without fields that are not needed: its builder, and the end of each of its calculations."""
    kept = {key: value for key, value in document.items() if key not in {"builder_meta", "origins"}}
    origins = [origin for origin in document.get("origins") or () if isinstance(origin, Mapping)]
    return kept | {"origins": [{key: origin.get(key) for key in ("name", "task_id")} for origin in origins]}


def origins_of(summary: Mapping[str, Any], core: Mapping[str, Any]) -> dict[str, Any]:
    """Of a material's run types those of the calculations that its summary names."""
    named = {normalise_id(origin["task_id"]) for origin in summary["origins"]}
    run_types = core.get("run_types")
    run_types = run_types if isinstance(run_types, Mapping) else {}
    kept = {task: run_type for task, run_type in run_types.items() if normalise_id(task) in named}
    return {"material_id": summary.get("material_id"), "run_types": kept}
