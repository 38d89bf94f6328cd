"""Edges as compiled loops read them, and where these loops run."""

from typing import NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Edges(NamedTuple):
    """Edges grouped by the row that receives.

    Attributes:
        starts: (n + 1,) int64: the edges of row i are starts[i] to starts[i + 1] - 1.
        senders: (m,) int64: the row that an edge brings to it.
    """

    starts: NDArray[np.int64]
    senders: NDArray[np.int64]

    @classmethod
    def of(cls, receivers: Tensor, senders: Tensor, n: int) -> "Edges":
        """Group edges by their receiver.

        Args:
            receivers: (m,) int64, ascending, on the CPU.
            senders: (m,) int64, on the CPU.
            n: number of rows that can receive.

        Returns:
            The same edges; `senders` shares the tensor's memory.
        """
        starts = np.zeros(n + 1, np.int64)
        np.cumsum(np.bincount(receivers.numpy(), minlength=n), out=starts[1:])
        return cls(starts, senders.numpy())


def runs_here(values: Tensor, *, differentiable: bool = False) -> bool:
    """Whether a kernel takes these values: float32 on a CPU, no compiler at work, and not under autocast.

    Args:
        values: of the edges.
        differentiable: whether the kernel has a backward pass, so that it may train.
    """
    return (
        (differentiable or not torch.is_grad_enabled())
        and values.device.type == "cpu"
        and values.dtype == torch.float32
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and not numba.config.DISABLE_JIT  # type: ignore[attr-defined]
    )
