"""Device, threads and determinism of a training, set for a block of code and restored after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from matscout.engine.process_setup import keep_freed_memory, let_cublas_be_deterministic, subnormals_flushed
from matscout.errors import ParameterError
from matscout.params import Compute

_memory: Any = torch.utils.deterministic


@contextmanager
def reproducible(compute: Compute, seed: int) -> Iterator[torch.device]:
    """Seed torch, set threads and determinism, flush subnormals, and yield the device.

    The same seed and threads on the same kind of processor give the same bytes.

    Raises:
        ParameterError: `cuda` is asked for and there is none.
    """
    keep_freed_memory()
    device = _device(compute.device)
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    fills = _memory.fill_uninitialized_memory
    if device.type == "cuda":
        let_cublas_be_deterministic()
    torch.set_num_threads(compute.threads)
    torch.use_deterministic_algorithms(compute.deterministic)
    _memory.fill_uninitialized_memory = False  # a debugging aid that writes every buffer twice
    torch.manual_seed(seed)
    try:
        with subnormals_flushed():
            yield device
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        _memory.fill_uninitialized_memory = fills


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ParameterError("compute.device = 'cuda', but torch sees no GPU; choose cpu or auto")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
