"""Trying again: with jittered, growing waits, as the service asks where it does, and not for ever."""

from collections.abc import Callable
from typing import TypeVar

import tenacity

from matscout.errors import SourceError

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
        what: for the message, such as a URL without secrets.
        patience: seconds after which no further try begins.
        max_tries: at most so many, not counting those that were throttled.

    Returns:
        What `function` returns.

    Raises:
        GaveUpError: the message tells tries, last failure and what to do.
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
