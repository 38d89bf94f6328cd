"""ComFormer's messages and their sum in one pass over edges."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from matscout.graphs.compiled import kernel
from matscout.models.kernels.dense import ROWS, add_dense, columns_of, dense, normalise, scratch
from matscout.models.kernels.elementary import f32, sigmoid, swish


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
    _kernel(width)(
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
def _kernel(width: int) -> Callable[..., None]:
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
