"""Materials Project through the real `mp-api` client: its key, headers, addresses and answers; our tries and pages.

The client pages on its own and keeps everything in memory, so it is asked for one page at a time with the
very parameters (`_limit`, `_skip`) that it sends itself; raw documents, since document models drop sparse fields.
"""

import os
import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, Final, TypeVar
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter

from matscout.crystal import SYMBOLS
from matscout.errors import SourceError
from matscout.params import Database, Query
from matscout.sources.formats.materials_project import FORMAT, NAME, normalise_id
from matscout.sources.services import http
from matscout.sources.services.fetcher import Cursor, Page
from matscout.sources.services.http import OFFLINE, HttpClient, Pace, judge_status, keep_to_host, user_agent
from matscout.sources.services.retrying import TransientError, patiently

KEY_VARIABLE: Final = "MP_API_KEY"
KEY_PAGE: Final = "https://next-gen.materialsproject.org/api"
KEY_LENGTH: Final = 32
SUMMARY_FIELDS: Final = [
    "material_id", "structure", "band_gap", "formation_energy_per_atom", "energy_above_hull", "bulk_modulus",
    "shear_modulus", "theoretical",
]  # fmt: skip
THERMO_FIELDS: Final = ["material_id", "formation_energy_per_atom", "energy_above_hull", "thermo_type", "energy_type"]
THERMO_TYPE: Final = "GGA_GGA+U"
GNOME: Final = "gnome_r2scan_statics"  # CC BY-NC, another functional
IDS_PER_REQUEST: Final = 200  # longer addresses are refused

Result = TypeVar("Result")


class MaterialsProjectClient:
    """A `Fetcher` of summary pages, each with its thermo documents on the GGA(+U) hull.

    Raises:
        SourceError: no key is set, or one that cannot be right.
    """

    format = FORMAT

    def __init__(self, database: Database) -> None:
        self._key = read_key()
        self.endpoint = (database.endpoint or "").rstrip("/") + "/"
        self.query = criteria(database.query) | {"limit": database.query.limit}
        self.client = f"mp-api {version('mp-api')}"
        self._criteria = criteria(database.query)
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
        self._connect()
        return str(heartbeat["db_version"])

    def total(self, cursor: Cursor | None) -> int | None:
        """What the first answer announced, at most the limit."""
        return min(cursor["total"], self._limit) if cursor else None

    def fetch(self, cursor: Cursor | None) -> Page:
        """The page at offset `cursor["skip"]`."""
        skip, total = (cursor["skip"], cursor["total"]) if cursor else (0, None)
        documents, total = self._summaries(skip, total)
        ids = [normalise_id(document.get("material_id")) for document in documents]
        content = {"data": documents, "thermo": self._thermo(ids), "meta": {"total_doc": total}}
        following = skip + len(documents)
        is_last = following >= min(total, self._limit)
        return Page(content, ids, None if is_last else {"skip": following, "total": total})

    def _summaries(self, skip: int, announced: int | None) -> tuple[list[dict[str, Any]], int]:
        size = min(self._page_size, self._limit - skip)

        def ask() -> tuple[list[dict[str, Any]], int]:
            paging = {"_skip": skip, "_limit": size, "_sort_fields": "material_id"}
            documents, total = self._query(self._rester.materials.summary, paging | self._criteria, SUMMARY_FIELDS)
            if announced is not None and total != announced:
                raise TransientError(f"the service announced {announced} rows before and {total} now")
            if len(documents) != min(size, max(0, total - skip)):
                raise TransientError(f"the page at {skip} holds {len(documents)} rows of {size}; {total} are announced")
            return documents, total

        return self._patiently(ask, f"{self.endpoint}materials/summary/ at row {skip}")

    def _thermo(self, ids: list[str]) -> list[dict[str, Any]]:
        """Thermo documents of the GGA(+U) hull by id; a material computed with another functional has none."""
        documents: dict[str, dict[str, Any]] = {}
        for start in range(0, len(ids), IDS_PER_REQUEST):
            chunk = ids[start : start + IDS_PER_REQUEST]

            def ask(chunk: list[str] = chunk) -> list[dict[str, Any]]:
                wanted = {"material_ids": ",".join(chunk), "thermo_types": THERMO_TYPE, "_limit": IDS_PER_REQUEST}
                return self._query(self._rester.materials.thermo, wanted, THERMO_FIELDS)[0]

            found = self._patiently(ask, f"{self.endpoint}materials/thermo/ from {chunk[0]}")
            documents |= {normalise_id(document.get("material_id")): document for document in found}
        return [documents[key] for key in ids if key in documents]

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
        "batch_id_not_eq": GNOME,
        "nelements_min": query.n_elements[0],
        "nelements_max": query.n_elements[1],
        "nsites_min": query.n_atoms[0],
        "nsites_max": query.n_atoms[1],
    }
    if query.energy_above_hull is not None:
        wanted |= {"energy_above_hull_min": 0.0, "energy_above_hull_max": query.energy_above_hull}
    if query.elements:
        wanted["exclude_elements"] = ",".join(symbol for symbol in SYMBOLS[1:] if symbol not in query.elements)
    return wanted
