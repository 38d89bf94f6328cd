"""Progress bars with rate and time left: drawn on a terminal, one line a while in a pipe."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

PIPE_INTERVAL_S = 10.0


def progress(
    items: Iterable[Any] | None = None, *, description: str, total: int | None = None, unit: str = "it"
) -> Any:
    """Wrap `items`, or give a bar to `update(n)`: tqdm on standard error, quiet and rare in pipes."""
    on_terminal = sys.stderr.isatty()
    return tqdm(
        items,
        desc=description,
        total=total,
        unit=unit,
        dynamic_ncols=on_terminal,
        ncols=None if on_terminal else 100,
        ascii=not on_terminal,
        mininterval=0.1 if on_terminal else PIPE_INTERVAL_S,
        leave=True,
    )
