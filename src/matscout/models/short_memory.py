"""Work on a batch that may not fit into memory: in one piece, or in parts half as large after every failure.

Training and prediction both follow this rule, so neither has a size of batch that the user must find by trial.
"""

import logging
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from matscout.errors import InputError

# in torch's RuntimeError where the CPU's allocator fails; its other errors are defects and are raised
CPU_WORDS = ("can't allocate memory", "not enough memory")

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


def in_parts_that_fit(
    work: Callable[[int, int], T], ids: Sequence[str], most_rows: int | None = None, *, name: str
) -> tuple[list[T], int | None]:
    """Work on the rows of a batch in nearly equal parts that fit into memory.

    If memory is short, all parts are done again, each of at most half as many rows; a warning says so.

    Args:
        work: from the first row of a part and the row after its last to a result. The first part starts at row 0, which
            tells `work` to discard what an earlier attempt has left.
        ids: material ids of the batch's n rows.
        most_rows: rows of a part at most; None = as many as there are.
        name: of the work, in messages.

    Returns:
        The results of the parts in order, and the number of rows that fitted (`most_rows` if memory was never short).

    Raises:
        InputError: memory is short for one row, which the message names.
    """
    while True:
        start, stop, done = 0, 0, []
        try:
            for start, stop in _bounds(len(ids), most_rows):
                done.append(work(start, stop))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            told = f"{type(error).__name__} {error}".strip()
            if stop - start == 1:
                raise InputError(
                    f"{name}: {ids[start]} alone needs more memory than there is ({told}); leave it out "
                    "(curation.validity.max_atoms), take a smaller cell of it or a smaller member, or use a device "
                    "with more memory"
                ) from error
        else:
            return done, most_rows
        done.clear()
        if torch.cuda.is_available():  # outside of the handler, where the traceback no longer holds the tensors
            torch.cuda.empty_cache()
        most_rows = (stop - start + 1) // 2
        _LOG.warning(
            "%s: %d crystals at once need more memory than there is (%s); taking at most %d",
            name,
            stop - start,
            told,
            most_rows,
        )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory is short: Python's, CUDA's, or the CPU allocator's, which has no class."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in CPU_WORDS)


def _bounds(n_rows: int, most_rows: int | None) -> list[tuple[int, int]]:
    """First row and row after the last of nearly equal parts."""
    n_parts = math.ceil(n_rows / most_rows) if most_rows else 1
    return [(n_rows * number // n_parts, n_rows * (number + 1) // n_parts) for number in range(n_parts)]
