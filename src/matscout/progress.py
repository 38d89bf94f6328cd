"""Progress bars with rate and time left: drawn on a terminal, one line a while in a pipe."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

PIPE_INTERVAL_S = 10.0


def progress(
    items: Iterable[Any] | None = None,
    *,
    description: str,
    total: int | None = None,
    done: int = 0,
    unit: str = "it",
    shown: bool = True,
) -> Any:
    """Wrap `items`, or give a bar to `update(n)`: tqdm on standard error, quiet and rare in pipes.

    Rate and time left do not count what was `done` before. On a terminal a bar inside another one is drawn below it,
    and goes when it is done. With `shown` false there is none.
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
        disable=not shown,
    )
