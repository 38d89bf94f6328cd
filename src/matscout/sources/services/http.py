"""JSON over HTTP from services that fail: paced, identified, retried, bounded."""

import json
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urljoin, urlsplit, urlunsplit

import requests

from matscout.errors import SourceError
from matscout.params import Service
from matscout.sources.services.retrying import NO_LIMIT, TransientError, patiently

CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S = 60.0  # without a byte
TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 524})
FIRST_FAILURE: Final = 400
OFFLINE: Final = "Without network set databases.{name}.origin to sample (bundled rows) or file (your own)"

Check = Callable[[Any], None]


class HttpClient:
    """One session for one service.

    Args:
        name: of the database, for messages.
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
            url: with its query, already encoded as the service likes it.
            check: raises TransientError on an answer that is JSON but wrong.
            max_tries: at most so many, within the patience.

        Raises:
            GaveUpError: it kept failing.
            SourceError: the service refused the request.
        """
        return patiently(lambda: self._once(url, check), what=url, patience=self._patience, max_tries=max_tries)

    def probe(self, url: str) -> None:
        """One quick request, so that no network means one clear error before any work.

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
