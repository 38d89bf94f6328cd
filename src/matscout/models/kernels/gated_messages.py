"""Gated messages and their sum in one pass over edges: gather, gate, multiply and sum.

CGCNN's convolution (Eq. 5), forward and backward; ComFormer's messages; ALIGNN's edge-gated convolution.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from matscout.graphs.compiled import kernel
from matscout.models.kernels.dense import (
    ROWS,
    add_dense,
    columns_of,
    dense,
    f32,
    normalise,
    scratch,
    sigmoid,
    softplus,
    swish,
)
from matscout.models.kernels.edges import Edges
from matscout.models.kernels.gaussian_band import BAND, Band, add_band, table_of


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


def gated_values(
    nodes: Tensor,
    e: Tensor,
    receivers: Tensor,
    senders: Tensor,
    edge: nn.Linear,
    key: nn.Linear,
    value: nn.Linear,
    norm: nn.LayerNorm,
    scale: float,
) -> Tensor:
    """sum_j sigmoid(LN(scale query_i ⊙ key(h_ij))) ⊙ value(h'_ij).

    h_ij ⊕ h'_ij = swish(center_i + neighbor_j + W e_ij).

    Args:
        nodes: (n, 5 d): query (d), center (2 d) and neighbor (2 d) of each node side by side.
        e: (m, d).
        receivers: (m,) int64, ascending, i.
        senders: (m,) int64, j.
        edge: W, from d to 2 d.
        key: from d to d.
        value: from d to d.
        norm: LN.
        scale: of the products.

    Returns:
        (n, d).
    """
    width = e.shape[1]
    out = torch.zeros(len(nodes), width)
    _gated_values_kernel(width)(
        nodes.numpy(),
        e.numpy(),
        receivers.numpy(),
        senders.numpy(),
        columns_of(edge.weight),
        columns_of(key.weight),
        key.bias.detach().numpy(),
        columns_of(value.weight),
        value.bias.detach().numpy(),
        norm.weight.detach().numpy(),
        norm.bias.detach().numpy(),
        scale,
        out.numpy(),
    )
    return out


@cache
def _gated_values_kernel(width: int) -> Callable[..., None]:
    @kernel
    def run(nodes, e, receivers, senders, w_edge, w_key, b_key, w_value, b_value, gain, shift, scale, out):
        x, z = scratch(ROWS, width), scratch(ROWS, 2 * width)
        keys, values = scratch(ROWS, width), scratch(ROWS, width)
        for base in range(0, len(receivers), ROWS):
            n = min(ROWS, len(receivers) - base)
            for t in range(n):
                i, j = receivers[base + t], senders[base + t]
                for c in range(width):
                    x[t, c] = e[base + t, c]
                for c in range(2 * width):
                    z[t, c] = nodes[i, width + c] + nodes[j, 3 * width + c]
            add_dense(x, w_edge, z, width, 2 * width)
            for t in range(ROWS):
                for c in range(2 * width):
                    z[t, c] = swish(z[t, c])
            dense(z, w_key, b_key, keys, width, width)
            dense(z[:, width:], w_value, b_value, values, width, width)
            for t in range(n):
                i = receivers[base + t]
                for c in range(width):
                    keys[t, c] *= nodes[i, c] * f32(scale)
                normalise(keys[t], gain, shift, width)
                for c in range(width):
                    out[i, c] += sigmoid(keys[t, c]) * values[t, c]

    return run


def edge_gated(
    nodes: Tensor, y: Tensor, receivers: Tensor, senders: Tensor, weight: Tensor, norm: nn.LayerNorm | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum gated messages and update edges in one pass.

    sum_j sigma_ij ⊙ message_j, sum_j sigma_ij and y_ij + swish(LN(g_ij)), where g_ij = center_i + neighbor_j + C y_ij
    and sigma_ij = sigmoid(g_ij).

    Args:
        nodes: (n, 3 d) center, neighbor and message of each node side by side.
        y: (m, d).
        receivers: (m,) int64, ascending, i.
        senders: (m,) int64, j.
        weight: (d, d), C.
        norm: LN; None returns y itself as the third result.

    Returns:
        (n, d) sums of messages, (n, d) sums of gates, (m, d) new edges.
    """
    width = y.shape[1]
    total, weights = nodes.new_zeros(len(nodes), width), nodes.new_zeros(len(nodes), width)
    y_new = y if norm is None else torch.empty_like(y)
    norm_of = norm or nn.LayerNorm(width)
    _edge_gated_kernel(width, norm is not None)(
        nodes.numpy(),
        y.numpy(),
        receivers.numpy(),
        senders.numpy(),
        columns_of(weight),
        norm_of.weight.detach().numpy(),
        norm_of.bias.detach().numpy(),
        total.numpy(),
        weights.numpy(),
        y_new.numpy(),
    )
    return total, weights, y_new


@cache
def _edge_gated_kernel(width: int, updates: bool) -> Callable[..., None]:
    @kernel
    def run(nodes, y, receivers, senders, weight, gain, shift, total, weights, y_new):
        x, z = scratch(ROWS, width), scratch(ROWS, width)
        for base in range(0, len(receivers), ROWS):
            n = min(ROWS, len(receivers) - base)
            for t in range(n):
                i, j = receivers[base + t], senders[base + t]
                for c in range(width):
                    x[t, c] = y[base + t, c]
                    z[t, c] = nodes[i, c] + nodes[j, width + c]
            add_dense(x, weight, z, width, width)
            for t in range(n):
                i, j = receivers[base + t], senders[base + t]
                for c in range(width):
                    sigma = sigmoid(z[t, c])
                    weights[i, c] += sigma
                    total[i, c] += sigma * nodes[j, 2 * width + c]
                if updates:
                    normalise(z[t], gain, shift, width)
                    for c in range(width):
                        y_new[base + t, c] = x[t, c] + swish(z[t, c])

    return run
