"""Shared by all clients: JSON over HTTP with limited rate and size, retries, and the `Fetcher` protocol.

A failed try is repeated with jittered, growing waits, or as the service asks, until `patience` is used up.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests
import tenacity

from matscout.errors import SourceError
from matscout.params import Service

FIRST_WAIT_S = 1.0
MAX_WAIT_S = 60.0
NO_LIMIT = 1_000_000

Result = TypeVar("Result")


class TransientError(Exception):
    """One failed try that may go well next time.

    Attributes:
        retry_after: seconds that the service asks to wait; None = it does not say.
        is_throttled: the service only asks to slow down; such a try does not count.
    """

    def __init__(self, message: str, retry_after: float | None = None, *, is_throttled: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.is_throttled = is_throttled


class GaveUpError(SourceError):
    """All tries failed within the patience that was given.

    Attributes:
        is_throttled: the service kept asking to slow down.
    """

    is_throttled = False


def patiently(function: Callable[[], Result], *, what: str, patience: float, max_tries: int = NO_LIMIT) -> Result:
    """Call `function` until it does not raise `TransientError`.

    Waits are random within a bound that doubles from `FIRST_WAIT_S` to `MAX_WAIT_S` (full jitter), or what
    the service asks for.

    Args:
        function: what to try.
        what: name for the message, such as a URL without secrets.
        patience: seconds after which no further try begins.
        max_tries: at most so many, not counting those that were throttled.

    Returns:
        What `function` returns.

    Raises:
        GaveUpError: it failed for good; the message gives tries, last failure and remedy.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=_wait,
        stop=tenacity.stop_any(tenacity.stop_before_delay(patience), _StopAfter(max_tries)),
        reraise=True,
    )
    try:
        return retrying(function)
    except TransientError as error:
        tries = retrying.statistics.get("attempt_number", 1)
        message = (
            f"{what} failed {tries} time(s), last: {error}. What was fetched is kept: run again to go on, or raise "
            f"the service's patience ({patience:g} s) in params.yaml"
        )
        gave_up = GaveUpError(message)
        gave_up.is_throttled = error.is_throttled
        raise gave_up from error


class _StopAfter(tenacity.stop.stop_base):
    """Stop after so many failed tries of the service's making."""

    def __init__(self, max_tries: int) -> None:
        self._left = max_tries

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        """Count the try that has just failed."""
        error = retry_state.outcome.exception() if retry_state.outcome else None
        self._left -= not (isinstance(error, TransientError) and error.is_throttled)
        return self._left <= 0


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, TransientError) and error.retry_after is not None:
        return error.retry_after
    return tenacity.wait_random_exponential(multiplier=FIRST_WAIT_S, max=MAX_WAIT_S)(state)


CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S = 60.0  # without a byte
TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 524})
FIRST_FAILURE: Final = 400
OFFLINE: Final = "Without network set databases.{name}.origin to sample (bundled rows) or file (your own)"

Check = Callable[[Any], None]


class HttpClient:
    """One session for one service.

    Args:
        name: name of the database, for messages.
        service: rate and patience.
    """

    def __init__(self, name: str, service: Service) -> None:
        self._name = name
        self._patience = service.patience
        self._timeout = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        self.pace = Pace(service.requests_per_second)
        self._session = requests.Session()
        self._session.headers["User-Agent"] = user_agent()
        keep_to_host(self._session)

    def json(self, url: str, *, check: Check | None = None, max_tries: int = NO_LIMIT) -> Any:
        """The JSON answer of a GET.

        Args:
            url: URL with its query, already encoded for the service.
            check: raises TransientError on an answer that is JSON but wrong.
            max_tries: at most so many, within the patience.

        Raises:
            GaveUpError: it kept failing.
            SourceError: the service refused the request.
        """
        return patiently(lambda: self._once(url, check), what=url, patience=self._patience, max_tries=max_tries)

    def probe(self, url: str) -> None:
        """Send one quick request, so that a missing network is one clear error before any work.

        Raises:
            SourceError: nothing answers.
        """
        try:
            self._session.get(url, timeout=CONNECT_TIMEOUT_S, stream=True).close()
        except requests.RequestException as error:
            raise SourceError(unreachable(self._name, url, error)) from error

    def _once(self, url: str, check: Check | None) -> Any:
        self.pace.wait()
        try:
            response = self._session.get(url, timeout=self._timeout)
            text = response.content.decode(errors="replace")
        except requests.RequestException as error:
            raise TransientError(f"{type(error).__name__}: {error}") from error
        judge_status(response.status_code, response.headers.get("Retry-After"), text, url)
        try:
            content = json.loads(text)
        except ValueError as error:
            raise TransientError(f"the answer is no JSON: {text[:80]!r}") from error
        if check is not None:
            check(content)
        return content


def keep_to_host(session: requests.Session) -> None:
    """Follow no redirect to another host: a key in the headers would go along.

    Raises, when a service redirects so:
        SourceError: the message names both hosts.
    """
    follow = session.get_redirect_target

    def target(resp: requests.Response) -> str | None:
        address = follow(resp)
        if address is not None:
            asked, wanted = urlsplit(resp.url), urlsplit(urljoin(resp.url, address))
            is_safer = (asked.scheme, wanted.scheme) == ("http", "https")
            if asked.hostname != wanted.hostname or not (
                is_safer or (asked.scheme, asked.port) == (wanted.scheme, wanted.port)
            ):
                there = f"{wanted.scheme}://{wanted.netloc}"
                message = (
                    f"{asked.netloc} sends on to {there}, which is not followed; if it is right, state it as endpoint"
                )
                raise SourceError(message)
        return address

    session.get_redirect_target = target


def on_same_host(address: str, asked: str) -> str:
    """An address out of an answer, at the scheme and host that were asked.

    Services behind a proxy write `http://`, or a name of their own, into their links; what follows a request goes
    where the request went, and nowhere else.

    Args:
        address: absolute, or relative to `asked`.
        asked: the address whose answer held it.
    """
    here, there = urlsplit(asked), urlsplit(urljoin(asked, address))
    return urlunsplit((here.scheme, here.netloc, there.path, there.query, ""))


class Pace:
    """At most so many requests a second."""

    def __init__(self, requests_per_second: float) -> None:
        self._interval = 1.0 / requests_per_second
        self._next = 0.0

    def wait(self) -> None:
        """Sleep until the next request may go."""
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._interval


def judge_status(status: int, retry_after: str | None, text: str, what: str) -> None:
    """Nothing for a success; TransientError for what passes; SourceError for a refusal."""
    if status < FIRST_FAILURE:
        return
    message = f"HTTP {status}: {text[:200]!r}"
    if status in TRANSIENT:
        is_throttled = status == requests.codes.too_many_requests
        raise TransientError(message, seconds_of(retry_after), is_throttled=is_throttled)
    raise SourceError(f"{what} was refused, {message}; check endpoint and query in params.yaml")


def seconds_of(retry_after: str | None) -> float | None:
    """The header as seconds, which it states as a number or as a date; nonsense is as if absent."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def user_agent() -> str:
    """Names the project, so that a service can tell who asks."""
    return f"matscout/{version('matscout')} python-requests/{version('requests')}"


def unreachable(name: str, url: str, error: Exception) -> str:
    """The message for a service that does not answer."""
    host = urlsplit(url).netloc
    return f"{name}: {host} does not answer ({type(error).__name__}). {OFFLINE.format(name=name)}"


Cursor = dict[str, Any]  # plain JSON, stored in the journal


@dataclass(frozen=True)
class Page:
    """One page as it will lie on disk.

    Attributes:
        content: JSON in the shape of the service's answers.
        ids: identifiers of its rows; none may be in two pages.
        next: cursor of the next page; None = this was the last.
        skipped: rows that the service announces or contains but does not deliver, by reason; one without an id of
            its own is not among `ids`.
    """

    content: Any
    ids: list[str]
    next: Cursor | None
    skipped: Mapping[str, int] = field(default_factory=dict)


class Fetcher(Protocol):
    """A client of one service. Equal remote rows must give equal pages, however often a try failed.

    Attributes:
        format: format of the pages, one of `page_formats.FORMATS`.
        query: the query, in the service's own terms.
        endpoint: base URL.
        client: name and version of the client.
    """

    format: str
    query: dict[str, Any]
    endpoint: str
    client: str

    def open(self) -> str | None:
        """Make sure that the service answers; its database version, None if it offers none."""
        ...

    def fetch(self, cursor: Cursor | None) -> Page:
        """The page at `cursor`; None = the first."""
        ...

    def total(self, cursor: Cursor | None) -> int | None:
        """Rows in all, as far as it is known, for the progress bar."""
        ...
