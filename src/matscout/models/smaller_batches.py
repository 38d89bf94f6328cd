"""What to do when memory is short for a batch: half of it at a time."""

import logging
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from matscout.errors import InputError

# of torch's RuntimeError where the CPU's allocator has no more to give; its other errors are defects and pass
CPU_WORDS = ("can't allocate memory", "not enough memory")

_LOG = logging.getLogger(__name__)
Rows = NDArray[np.int64]
Outputs = NDArray[np.float32]


def halving(compute: Callable[[Rows], Outputs], rows: Rows, ids: NDArray[np.str_], device: str) -> Outputs:
    """`compute(rows)`, (n, ...) for (n,) rows; where memory is short, of their halves, down to one row.

    Halves are other batches, so the last bits of their outputs may differ, as with any other batch size.

    Args:
        compute: what needs memory.
        rows: of a store.
        ids: names of all rows of the store, for the message.
        device: where `compute` works.

    Raises:
        InputError: memory is short for one row.
    """
    try:
        return compute(rows)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(rows) == 1:
            raise InputError(
                f"{ids[rows[0]]} does not fit into the memory of {device}, alone in its batch; leave it out, "
                "take a smaller cell of it, or use a machine with more memory"
            ) from error
        told = type(error).__name__
    # out of the handler: the traceback, which holds the tensors that were too many, is gone
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
    middle = len(rows) // 2
    _LOG.warning("memory of %s is short for %d crystals (%s): trying %d at a time", device, len(rows), told, middle)
    return np.concatenate([halving(compute, half, ids, device) for half in (rows[:middle], rows[middle:])])


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory is short: Python's, CUDA's, or the CPU allocator's, which has no class."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in CPU_WORDS)
