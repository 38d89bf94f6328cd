"""Perceptrons on edges and their mean over an atom's edges in one pass, forward and backward: CoGN's and MEGNet's.

Backward computes each layer again instead of reading it from memory.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from matscout.graphs.compiled import inlined, kernel
from matscout.models.kernels.dense import ROWS, add_dense, add_outer, dense, f32, scratch, swish_rows, swish_slope
from matscout.models.kernels.gaussian_band import BAND, Band, add_band, table_of


def mean_of_perceptron(
    center: Tensor, neighbor: Tensor, weight: Tensor, band: Band, receivers: Tensor, senders: Tensor, mlp: nn.Module
) -> Tensor:
    """Mean over an atom's edges of MLP(swish(center_i + neighbor_j + W b_ij)).

    Args:
        center: (n_atoms, d).
        neighbor: (n_atoms, d).
        weight: (d, n_gaussians), W.
        band: rows b.
        receivers: (n_edges,) int64, ascending, i.
        senders: (n_edges,) int64, j.
        mlp: square linear layers with swish after each.

    Returns:
        (n_atoms, d).
    """
    weights, biases = _stacked(center, mlp)
    total = _Sum.apply(center, neighbor, weight, weights, biases, band, receivers, senders)
    return total / _counts(receivers, len(center))  # type: ignore[operator]


def updated_edges(
    e: Tensor,
    center: Tensor,
    neighbor: Tensor,
    receivers: Tensor,
    senders: Tensor,
    before: nn.Module,
    pair: nn.Linear,
    after: nn.Module,
) -> tuple[Tensor, Tensor]:
    """Update edges, e_ij + m_ij, and take the mean of m_ij over each atom's edges.

    m_ij = after(swish(center_i + neighbor_j + W before(e_ij))).

    Args:
        e: (n_edges, d).
        center: (n_atoms, d).
        neighbor: (n_atoms, d).
        receivers: (n_edges,) int64, ascending, i.
        senders: (n_edges,) int64, j.
        before: square linear layers with swish after each.
        pair: W, without a bias.
        after: as `before`.

    Returns:
        (n_edges, d) updated edges and (n_atoms, d) means.
    """
    weights, biases = _stacked(center, before, pair, after)
    n_before = sum(isinstance(layer, nn.Linear) for layer in before.modules())
    e_new, total = _Update.apply(e, center, neighbor, weights, biases, n_before, receivers, senders)  # type: ignore[misc]
    return e_new, total / _counts(receivers, len(center))


def _stacked(like: Tensor, *modules: nn.Module) -> tuple[Tensor, Tensor]:
    """All square linear layers of some modules in their order, (n, d, d) and (n, d): x W + b; no bias is zero."""
    width = like.shape[1]
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        return like.new_zeros(0, width, width), like.new_zeros(0, width)
    biases = [like.new_zeros(width) if layer.bias is None else layer.bias for layer in layers]
    return torch.stack([layer.weight.t() for layer in layers]), torch.stack(biases)


def _counts(receivers: Tensor, n: int) -> Tensor:
    return torch.bincount(receivers, minlength=n).clamp(min=1)[:, None]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        center: Tensor,
        neighbor: Tensor,
        weight: Tensor,
        weights: Tensor,
        biases: Tensor,
        band: Band,
        receivers: Tensor,
        senders: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(center, neighbor, weight, weights, biases, receivers, senders)
        ctx.band = band
        out = torch.zeros_like(center)
        edges = (band.first, band.values, receivers.numpy(), senders.numpy())
        run, _ = _sum_kernels(center.shape[1])
        run(center.numpy(), neighbor.numpy(), table_of(weight), *edges, weights.numpy(), biases.numpy(), out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        center, neighbor, weight, weights, biases, receivers, senders = ctx.saved_tensors
        table = torch.from_numpy(table_of(weight))
        results = [torch.zeros_like(tensor) for tensor in (center, neighbor, table, weights, biases)]
        edges = (ctx.band.first, ctx.band.values, receivers.numpy(), senders.numpy())
        _, run = _sum_kernels(center.shape[1])
        run(
            center.numpy(),
            neighbor.numpy(),
            table.numpy(),
            *edges,
            weights.numpy(),
            weights.transpose(1, 2).contiguous().numpy(),
            biases.numpy(),
            gradient.contiguous().numpy(),
            *(result.numpy() for result in results),
        )
        results[2] = results[2][: weight.shape[1]].t()
        return (*results, None, None, None)


class _Update(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        e: Tensor,
        center: Tensor,
        neighbor: Tensor,
        weights: Tensor,
        biases: Tensor,
        n_before: int,
        receivers: Tensor,
        senders: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(e, center, neighbor, weights, biases, receivers, senders)
        ctx.n_before = n_before
        e_new, total = torch.empty_like(e), torch.zeros_like(center)
        inputs = (e, center, neighbor, receivers, senders, weights, biases)
        run, _ = _update_kernels(e.shape[1])
        run(*(tensor.numpy() for tensor in inputs), n_before, e_new.numpy(), total.numpy())
        return e_new, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_e_new: Tensor, of_total: Tensor) -> tuple[Tensor | None, ...]:
        e, center, neighbor, weights, biases, receivers, senders = ctx.saved_tensors
        results = [torch.empty_like(e), *(torch.zeros_like(x) for x in (center, neighbor, weights, biases))]
        transposed = weights.transpose(1, 2).contiguous()
        inputs = (e, center, neighbor, receivers, senders, weights, transposed, biases)
        _, run = _update_kernels(e.shape[1])
        run(
            *(tensor.numpy() for tensor in inputs),
            ctx.n_before,
            of_e_new.contiguous().numpy(),
            of_total.contiguous().numpy(),
            *(result.numpy() for result in results),
        )
        return (*results, None, None, None)


@inlined
def back_through_swish(of_x, z, of_bias, width):
    """Turn the gradient of x = swish(z) into that of z, in place, and add it to that of the bias.

    Args:
        of_x: (ROWS, width), gradient of x; then that of z.
        z: (ROWS, width).
        of_bias: (width,), changed in place.
        width: length of a row.
    """
    for t in range(ROWS):
        for c in range(width):
            of_x[t, c] *= swish_slope(z[t, c])
            of_bias[c] += of_x[t, c]


@inlined
def back_through_dense(of_z, x, transposed, of_weight, of_x, width):
    """Gradients of x and W from that of z = x W + b.

    Args:
        of_z: (ROWS, width), gradient of z.
        x: (ROWS, width).
        transposed: (width, width), W transposed.
        of_weight: (width, width), gradient of W; added to.
        of_x: (ROWS, width), gradient of x; overwritten.
        width: length of a row.
    """
    add_outer(x, of_z, of_weight, width, width)
    for t in range(ROWS):
        for c in range(width):
            of_x[t, c] = f32(0.0)
    add_dense(of_z, transposed, of_x, width, width)


@cache
def _sum_kernels(width: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """Forward and backward for one d: loops of known length are kept in registers."""

    @kernel
    def forward(center, neighbor, table, first, values, receivers, senders, weights, biases, out):
        x, z = scratch(ROWS, width), scratch(ROWS, width)
        for base in range(0, len(receivers), ROWS):
            n = min(ROWS, len(receivers) - base)
            for t in range(n):
                i, j = receivers[base + t], senders[base + t]
                for c in range(width):
                    z[t, c] = center[i, c] + neighbor[j, c]
                add_band(z[t], values[base + t], table, first[base + t], width)
            swish_rows(z, x, width)
            for layer in range(len(weights)):
                dense(x, weights[layer], biases[layer], z, width, width)
                swish_rows(z, x, width)
            for t in range(n):
                i = receivers[base + t]
                for c in range(width):
                    out[i, c] += x[t, c]

    @kernel
    def backward(
        center,
        neighbor,
        table,
        first,
        values,
        receivers,
        senders,
        weights,
        transposed,
        biases,
        gradient,
        of_center,
        of_neighbor,
        of_table,
        of_weights,
        of_biases,
    ):
        depth = len(weights)
        x = scratch((depth + 1) * ROWS, width).reshape(depth + 1, ROWS, width)
        z = scratch((depth + 1) * ROWS, width).reshape(depth + 1, ROWS, width)
        given, taken, unused = scratch(ROWS, width), scratch(ROWS, width), scratch(1, width)[0]
        for base in range(0, len(receivers), ROWS):
            n = min(ROWS, len(receivers) - base)
            for t in range(n):
                i, j = receivers[base + t], senders[base + t]
                for c in range(width):
                    z[0, t, c] = center[i, c] + neighbor[j, c]
                add_band(z[0, t], values[base + t], table, first[base + t], width)
            swish_rows(z[0], x[0], width)
            for layer in range(depth):
                dense(x[layer], weights[layer], biases[layer], z[layer + 1], width, width)
                swish_rows(z[layer + 1], x[layer + 1], width)
            for t in range(ROWS):
                for c in range(width):
                    given[t, c] = gradient[receivers[base + t], c] if t < n else f32(0.0)
            for layer in range(depth - 1, -1, -1):
                back_through_swish(given, z[layer + 1], of_biases[layer], width)
                back_through_dense(given, x[layer], transposed[layer], of_weights[layer], taken, width)
                given, taken = taken, given
            back_through_swish(given, z[0], unused, width)
            for t in range(n):
                i, j, start = receivers[base + t], senders[base + t], first[base + t]
                for c in range(width):
                    of_center[i, c] += given[t, c]
                    of_neighbor[j, c] += given[t, c]
                for k in range(BAND):
                    b = values[base + t, k]
                    for c in range(width):
                        of_table[start + k, c] += b * given[t, c]

    return forward, backward


@cache
def _update_kernels(width: int) -> tuple[Callable[..., None], Callable[..., None]]:
    @kernel
    def forward(e, center, neighbor, receivers, senders, weights, biases, n_before, e_new, total):
        x, z = scratch(ROWS, width), scratch(ROWS, width)
        for base in range(0, len(receivers), ROWS):
            n = min(ROWS, len(receivers) - base)
            for t in range(n):
                for c in range(width):
                    x[t, c] = e[base + t, c]
            for layer in range(len(weights)):
                if layer == n_before:
                    for t in range(n):
                        i, j = receivers[base + t], senders[base + t]
                        for c in range(width):
                            z[t, c] = center[i, c] + neighbor[j, c]
                    add_dense(x, weights[layer], z, width, width)
                else:
                    dense(x, weights[layer], biases[layer], z, width, width)
                swish_rows(z, x, width)
            for t in range(n):
                i = receivers[base + t]
                for c in range(width):
                    e_new[base + t, c] = e[base + t, c] + x[t, c]
                    total[i, c] += x[t, c]

    @kernel
    def backward(
        e,
        center,
        neighbor,
        receivers,
        senders,
        weights,
        transposed,
        biases,
        n_before,
        of_e_new,
        of_total,
        of_e,
        of_center,
        of_neighbor,
        of_weights,
        of_biases,
    ):
        depth = len(weights)
        x = scratch((depth + 1) * ROWS, width).reshape(depth + 1, ROWS, width)
        z = scratch(depth * ROWS, width).reshape(depth, ROWS, width)
        given, taken = scratch(ROWS, width), scratch(ROWS, width)
        for base in range(0, len(receivers), ROWS):
            n = min(ROWS, len(receivers) - base)
            for t in range(n):
                for c in range(width):
                    x[0, t, c] = e[base + t, c]
            for layer in range(depth):
                if layer == n_before:
                    for t in range(n):
                        i, j = receivers[base + t], senders[base + t]
                        for c in range(width):
                            z[layer, t, c] = center[i, c] + neighbor[j, c]
                    add_dense(x[layer], weights[layer], z[layer], width, width)
                else:
                    dense(x[layer], weights[layer], biases[layer], z[layer], width, width)
                swish_rows(z[layer], x[layer + 1], width)
            for t in range(ROWS):
                for c in range(width):
                    given[t, c] = of_e_new[base + t, c] + of_total[receivers[base + t], c] if t < n else f32(0.0)
            for layer in range(depth - 1, -1, -1):
                back_through_swish(given, z[layer], of_biases[layer], width)
                if layer == n_before:
                    for t in range(n):
                        i, j = receivers[base + t], senders[base + t]
                        for c in range(width):
                            of_center[i, c] += given[t, c]
                            of_neighbor[j, c] += given[t, c]
                back_through_dense(given, x[layer], transposed[layer], of_weights[layer], taken, width)
                given, taken = taken, given
            for t in range(n):
                for c in range(width):
                    of_e[base + t, c] = of_e_new[base + t, c] + given[t, c]

    return forward, backward
