"""Progress bars with rate and time left: drawn on a terminal, a line now and then in a pipe."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

PIPE_INTERVAL_S = 10.0
DELAY = "TQDM_DELAY"  # seconds before a bar is drawn


def progress(
    items: Iterable[Any] | None = None,
    *,
    description: str,
    total: int | None = None,
    done: int = 0,
    unit: str = "it",
    shown: bool = True,
) -> Any:
    """Show progress with tqdm on standard error, rarely where that is a pipe.

    Rate and time left do not count what was `done` before. On a terminal a bar inside another one is drawn below it and
    disappears when it is full.

    Args:
        items: to iterate over; None = the caller calls `update(n)`.
        description: what is done.
        total: number of items; None = the length of `items`.
        done: items that were finished before.
        unit: of an item, in the singular.
        shown: False draws nothing.

    Returns:
        tqdm's bar, which iterates over `items`.
    """
    on_terminal = sys.stderr.isatty()
    return tqdm(
        items,
        desc=description,
        total=total,
        initial=done,
        unit=unit,
        dynamic_ncols=on_terminal,
        ncols=None if on_terminal else 100,
        ascii=not on_terminal,
        mininterval=0.1 if on_terminal else PIPE_INTERVAL_S,
        position=None if on_terminal else 0,
        leave=None,
        delay=float(os.environ.get(DELAY, "0")),  # tqdm reads it only when it is imported
        disable=not shown,
    )
