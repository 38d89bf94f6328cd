"""CGCNN's convolution (Eq. 5) in one pass over edges: gather, gate, multiply and sum, forward and backward."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from matscout.graphs.compiled import kernel
from matscout.models.kernels.band import BAND, Band, add_band, table_of
from matscout.models.kernels.dense import scratch
from matscout.models.kernels.edges import Edges
from matscout.models.kernels.elementary import f32, sigmoid, softplus


class GatedSum(torch.autograd.Function):
    """sum_j sigmoid(f_ij) ⊙ softplus(s_ij), f_ij ⊕ s_ij = center_i + neighbor_j + W b_ij.

    Backward computes the sums again instead of reading them from memory.
    """

    @staticmethod
    def forward(ctx: Any, center: Tensor, neighbor: Tensor, weight: Tensor, band: Band, edges: Edges) -> Tensor:
        """Compute the sums and keep what `backward` needs.

        Args:
            ctx: of autograd.
            center: (n_atoms, 2 d).
            neighbor: (n_atoms, 2 d).
            weight: (2 d, n_gaussians), W.
            band: rows b of the n_edges edges.
            edges: grouped by receiver, in the order of the band.

        Returns:
            (n_atoms, d).
        """
        ctx.save_for_backward(center, neighbor, weight)
        ctx.band, ctx.edges = band, edges
        out = torch.empty(center.shape[0], center.shape[1] // 2)
        run, _ = _kernels(out.shape[1])
        run(center.numpy(), neighbor.numpy(), table_of(weight), band.first, band.values, *edges, out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of center, neighbor and weight."""
        center, neighbor, weight = ctx.saved_tensors
        table = table_of(weight)
        of_center, of_neighbor, of_table = torch.empty_like(center), torch.zeros_like(neighbor), np.zeros_like(table)
        _, run = _kernels(center.shape[1] // 2)
        run(
            center.numpy(),
            neighbor.numpy(),
            table,
            ctx.band.first,
            ctx.band.values,
            *ctx.edges,
            gradient.contiguous().numpy(),
            of_center.numpy(),
            of_neighbor.numpy(),
            of_table,
        )
        return of_center, of_neighbor, torch.from_numpy(of_table[: weight.shape[1]].T), None, None


@cache
def _kernels(width: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """Forward and backward for one d: loops of known length are kept in registers."""
    double = 2 * width

    @kernel
    def forward(center, neighbor, table, first, values, starts, neighbors, out):
        z = scratch(1, double)[0]
        for atom in range(len(out)):
            for c in range(width):
                out[atom, c] = f32(0.0)
            for edge in range(starts[atom], starts[atom + 1]):
                other = neighbors[edge]
                for c in range(double):
                    z[c] = center[atom, c] + neighbor[other, c]
                add_band(z, values[edge], table, first[edge], double)
                for c in range(width):
                    out[atom, c] += sigmoid(z[c]) * softplus(z[width + c])

    @kernel
    def backward(center, neighbor, table, first, values, starts, neighbors, gradient, of_center, of_neighbor, of_table):
        z = scratch(1, double)[0]
        for atom in range(len(center)):
            for c in range(double):
                of_center[atom, c] = f32(0.0)
            for edge in range(starts[atom], starts[atom + 1]):
                other, start = neighbors[edge], first[edge]
                for c in range(double):
                    z[c] = center[atom, c] + neighbor[other, c]
                add_band(z, values[edge], table, start, double)
                for c in range(width):
                    gate, g = sigmoid(z[c]), gradient[atom, c]
                    core = z[width + c]
                    z[c] = g * softplus(core) * gate * (f32(1.0) - gate)
                    z[width + c] = g * gate * sigmoid(core)
                for c in range(double):
                    of_center[atom, c] += z[c]
                    of_neighbor[other, c] += z[c]
                for k in range(BAND):
                    b = values[edge, k]
                    for c in range(double):
                        of_table[start + k, c] += b * z[c]

    return forward, backward
