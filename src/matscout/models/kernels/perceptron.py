"""Perceptrons on edges and their mean over an atom's edges, in one pass: CoGN's blocks and MEGNet's."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from matscout.graphs.compiled import kernel
from matscout.models.kernels.band import Band, add_band, table_of
from matscout.models.kernels.dense import ROWS, add_dense, dense, scratch, swish_rows


def linears_of(*modules: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """All square linear layers of some modules in their order: (n_layers, d, d), (n_layers, d); no bias is zero."""
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, nn.Linear)]
    width = layers[0].out_features if layers else 1
    weights, biases = torch.zeros(len(layers), width, width), torch.zeros(len(layers), width)
    for n, layer in enumerate(layers):
        weights[n] = layer.weight.detach().t()
        if layer.bias is not None:
            biases[n] = layer.bias.detach()
    return weights.numpy(), biases.numpy()


def mean_of_perceptron(
    center: Tensor, neighbor: Tensor, weight: Tensor, band: Band, receivers: Tensor, senders: Tensor, mlp: nn.Module
) -> Tensor:
    """mean_j MLP(swish(center_i + neighbor_j + W b_ij)), (n_atoms, d).

    Args:
        center: (n_atoms, d).
        neighbor: (n_atoms, d).
        weight: (d, n_gaussians), W.
        band: rows b.
        receivers: (n_edges,) int64, ascending, i.
        senders: (n_edges,) int64, j.
        mlp: square linear layers with swish after each.
    """
    out = torch.zeros_like(center)
    run, _ = _kernels(center.shape[1])
    run(
        center.numpy(),
        neighbor.numpy(),
        table_of(weight),
        band.first,
        band.values,
        receivers.numpy(),
        senders.numpy(),
        *linears_of(mlp),
        out.numpy(),
    )
    return out / _counts(receivers, len(out))


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
    """e_ij + m_ij and mean_j m_ij, with m_ij = after(swish(center_i + neighbor_j + W before(e_ij))).

    Args:
        e: (n_edges, d).
        center: (n_atoms, d).
        neighbor: (n_atoms, d).
        receivers: (n_edges,) int64, ascending, i.
        senders: (n_edges,) int64, j.
        before: square linear layers with swish after each.
        pair: W.
        after: as `before`.
    """
    total, e_new = torch.zeros_like(center), torch.empty_like(e)
    weights, biases = linears_of(before, pair, after)
    n_before = len(linears_of(before)[0])
    _, run = _kernels(center.shape[1])
    run(
        e.numpy(),
        center.numpy(),
        neighbor.numpy(),
        receivers.numpy(),
        senders.numpy(),
        weights,
        biases,
        n_before,
        e_new.numpy(),
        total.numpy(),
    )
    return e_new, total / _counts(receivers, len(total))


def _counts(receivers: Tensor, n: int) -> Tensor:
    return torch.bincount(receivers, minlength=n).clamp(min=1)[:, None]


@cache
def _kernels(width: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """The two passes for one d: loops of known length are kept in registers."""

    @kernel
    def mean(center, neighbor, table, first, values, receivers, senders, weights, biases, out):
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
    def update(e, center, neighbor, receivers, senders, weights, biases, n_before, e_new, total):
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

    return mean, update
