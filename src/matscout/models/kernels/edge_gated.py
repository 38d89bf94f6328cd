"""ALIGNN's edge-gated convolution in one pass over edges."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from matscout.graphs.compiled import kernel
from matscout.models.kernels.dense import ROWS, add_dense, columns_of, normalise, scratch
from matscout.models.kernels.elementary import sigmoid, swish


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
    _kernel(width, norm is not None)(
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
def _kernel(width: int, updates: bool) -> Callable[..., None]:
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
