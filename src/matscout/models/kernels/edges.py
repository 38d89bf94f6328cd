"""Edges and pairs of edges as compiled loops read them, and where these loops run."""

from typing import NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matscout.graphs.compiled import compiled


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


@compiled
def angle_pairs(
    starts: NDArray[np.int64],
    vectors: NDArray[np.float32],
    distances: NDArray[np.float32],
    n_angle_neighbors: int,
    tolerance: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """All ordered pairs among each atom's nearest edges.

    Args:
        starts: (n_atoms + 1,): the edges of atom i are starts[i] to starts[i + 1] - 1, by distance.
        vectors: (n_edges, 3), Å.
        distances: (n_edges,), Å.
        n_angle_neighbors: an atom's shells are taken in turn until so many edges are there.
        tolerance: a shell begins where the distance grows by more, Å.

    Returns:
        (n_pairs,) first edge, (n_pairs,) second edge, (n_pairs,) cosine of the angle between them.
    """
    n_near = np.empty(len(starts) - 1, np.int64)
    total = 0
    for atom in range(len(n_near)):
        edge = starts[atom]
        while edge < starts[atom + 1]:
            begins = edge == starts[atom] or distances[edge] - distances[edge - 1] > np.float32(tolerance)
            if begins and edge - starts[atom] >= n_angle_neighbors:
                break
            edge += 1
        n_near[atom] = edge - starts[atom]
        total += n_near[atom] * (n_near[atom] - 1)
    first, second, cosines = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total, np.float32)
    pair = 0
    for atom in range(len(n_near)):
        start = starts[atom]
        for a in range(start, start + n_near[atom]):
            for b in range(start, start + n_near[atom]):
                if a == b:
                    continue
                dot = vectors[a, 0] * vectors[b, 0] + vectors[a, 1] * vectors[b, 1] + vectors[a, 2] * vectors[b, 2]
                first[pair], second[pair] = a, b
                cosines[pair] = dot / (distances[a] * distances[b])
                pair += 1
    return first, second, cosines
