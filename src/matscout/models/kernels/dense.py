"""Linear layers and normalisation of four rows at a time, which stay in registers and the nearest cache."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from matscout.graphs.compiled import inlined
from matscout.models.kernels.elementary import f32, swish

ROWS = 4  # what a pass over edges takes at once: the weights are read once for so many
Floats = NDArray[np.float32]


def columns_of(weight: Tensor) -> Floats:
    """The (n_out, n_in) weight of a linear layer as (n_in, n_out); torch's memory begins at a cache line."""
    return weight.detach().t().contiguous().numpy()


@inlined
def scratch(rows: int, width: int) -> Floats:
    """A (rows, width) buffer of zeros that begins at a cache line: vectors across two lines are read half as fast."""
    memory = np.zeros(rows * width + 16, np.float32)
    skipped = (-memory.ctypes.data % 64) // 4
    return memory[skipped : skipped + rows * width].reshape(rows, width)


@inlined
def dense(x: Floats, weight: Floats, bias: Floats, out: Floats, n_in: int, n_out: int) -> None:
    """Out = x W + b for four rows x."""
    for c in range(n_out):
        out[0, c] = out[1, c] = out[2, c] = out[3, c] = bias[c]
    add_dense(x, weight, out, n_in, n_out)


@inlined
def add_dense(x: Floats, weight: Floats, out: Floats, n_in: int, n_out: int) -> None:
    """Out += x W for four rows x: four rows of W at once, so that a sum is loaded and stored a fourth as often."""
    whole = n_in - n_in % 4
    for k in range(0, whole, 4):
        a0, a1, a2, a3 = x[0, k], x[0, k + 1], x[0, k + 2], x[0, k + 3]
        b0, b1, b2, b3 = x[1, k], x[1, k + 1], x[1, k + 2], x[1, k + 3]
        c0, c1, c2, c3 = x[2, k], x[2, k + 1], x[2, k + 2], x[2, k + 3]
        d0, d1, d2, d3 = x[3, k], x[3, k + 1], x[3, k + 2], x[3, k + 3]
        for c in range(n_out):
            w0, w1, w2, w3 = weight[k, c], weight[k + 1, c], weight[k + 2, c], weight[k + 3, c]
            out[0, c] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
            out[1, c] += b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3
            out[2, c] += c0 * w0 + c1 * w1 + c2 * w2 + c3 * w3
            out[3, c] += d0 * w0 + d1 * w1 + d2 * w2 + d3 * w3
    for k in range(whole, n_in):
        for t in range(ROWS):
            for c in range(n_out):
                out[t, c] += x[t, k] * weight[k, c]


@inlined
def swish_rows(x: Floats, out: Floats, width: int) -> None:
    """Out = swish(x) for four rows."""
    for t in range(ROWS):
        for c in range(width):
            out[t, c] = swish(x[t, c])


@inlined
def normalise(x: Floats, gain: Floats, bias: Floats, width: int) -> None:
    """X <- (x - mean) / sqrt(variance + 1e-5) gain + bias, torch's LayerNorm, for one row in place."""
    mean = lane_sum(x, f32(0.0), width, False) / f32(width)
    variance = lane_sum(x, mean, width, True) / f32(width)
    scale = f32(1.0) / np.sqrt(variance + f32(1e-5))
    for c in range(width):
        x[c] = (x[c] - mean) * scale * gain[c] + bias[c]


@inlined
def lane_sum(x: Floats, mean: float, width: int, squared: bool) -> float:
    """The sum of x - mean, or of its squares, as eight sums side by side, in an order that no processor changes."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = f32(0.0)
    whole = width - width % 8
    for c in range(0, whole, 8):
        d0, d1, d2, d3 = x[c] - mean, x[c + 1] - mean, x[c + 2] - mean, x[c + 3] - mean
        d4, d5, d6, d7 = x[c + 4] - mean, x[c + 5] - mean, x[c + 6] - mean, x[c + 7] - mean
        if squared:
            d0, d1, d2, d3 = d0 * d0, d1 * d1, d2 * d2, d3 * d3
            d4, d5, d6, d7 = d4 * d4, d5 * d5, d6 * d6, d7 * d7
        s0, s1, s2, s3 = s0 + d0, s1 + d1, s2 + d2, s3 + d3
        s4, s5, s6, s7 = s4 + d4, s5 + d5, s6 + d6, s7 + d7
    total = ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))
    for c in range(whole, width):
        rest = x[c] - mean
        total += rest * rest if squared else rest
    return total


@inlined
def add_outer(x: Floats, y: Floats, out: Floats, n_in: int, n_out: int) -> None:
    """Add x^T y of four rows x and y to out, (n_in, n_out)."""
    for k in range(n_in):
        x0, x1, x2, x3 = x[0, k], x[1, k], x[2, k], x[3, k]
        for c in range(n_out):
            out[k, c] += x0 * y[0, c] + x1 * y[1, c] + x2 * y[2, c] + x3 * y[3, c]
