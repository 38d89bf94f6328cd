"""Materials Project through the real `mp-api` client: its key, headers, addresses and answers; our tries and pages.

The client pages on its own and keeps everything in memory, so it is asked for one page at a time with the
very parameters (`_limit`, `_skip`) that it sends itself; raw documents, since document models drop sparse fields.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Final, TypeVar
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter

from matscout.crystal import SYMBOLS
from matscout.errors import SourceError
from matscout.params import Database, Query
from matscout.sources.formats.materials_project import FORMAT, NAME, normalise_id
from matscout.sources.services import http, retrying
from matscout.sources.services.fetcher import Cursor, Page
from matscout.sources.services.http import OFFLINE, HttpClient, Pace, judge_status, keep_to_host, user_agent
from matscout.sources.services.retrying import TransientError, patiently

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
IDS_PER_REQUEST: Final = 200  # longer addresses are refused
SHORT_TRIES: Final = 3  # for a page with fewer rows than the service announces
NOT_GIVEN: Final = "announced and not given"
NOT_FREE: Final = "not free for commercial use"

Result = TypeVar("Result")


class MaterialsProjectClient:
    """A `Fetcher` of summary pages, each with its thermo documents on the GGA(+U) hull and its run types.

    Raises:
        SourceError: no key is set, or one that cannot be right.
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
            time.sleep(wait * retrying.FIRST_WAIT_S)
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
        # Tries are counted, paced and bounded here; the client's own would add to them unseen.
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
    """A summary without what its page need not repeat: who built it, and when each of its calculations ended."""
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
