"""Linear layers, normalisation and activations of a few rows at a time, which stay in registers and the nearest cache.

Exponential, sigmoid, swish and softplus in float32 are made of sums and products alone, so that loops over them
vectorise. Relative errors are below 3e-7, softplus's and swish's too; `tests/models/kernels/test_kernels.py` compares
with float64.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from matscout.graphs.compiled import inlined

ROWS = 16  # edges that a pass takes at once: four rows of weights stay in registers for this many
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
    """Set out to x W + b for `ROWS` rows x.

    Args:
        x: (ROWS, n_in).
        weight: (n_in, n_out), W.
        bias: (n_out,), b.
        out: (ROWS, n_out), overwritten.
        n_in: length of a row of x.
        n_out: length of a row of out.
    """
    for t in range(ROWS):
        for c in range(n_out):
            out[t, c] = bias[c]
    add_dense(x, weight, out, n_in, n_out)


@inlined
def add_dense(x: Floats, weight: Floats, out: Floats, n_in: int, n_out: int) -> None:
    """Add x W to out for `ROWS` rows x.

    Four rows of W are taken at once, so that a sum is loaded and stored a fourth as often.

    Args:
        x: (ROWS, n_in).
        weight: (n_in, n_out), W.
        out: (ROWS, n_out), changed in place.
        n_in: length of a row of x.
        n_out: length of a row of out.
    """
    whole = n_in - n_in % 4
    for k in range(0, whole, 4):
        for t in range(ROWS):
            x0, x1, x2, x3 = x[t, k], x[t, k + 1], x[t, k + 2], x[t, k + 3]
            for c in range(n_out):
                out[t, c] += x0 * weight[k, c] + x1 * weight[k + 1, c] + x2 * weight[k + 2, c] + x3 * weight[k + 3, c]
    for k in range(whole, n_in):
        for t in range(ROWS):
            for c in range(n_out):
                out[t, c] += x[t, k] * weight[k, c]


@inlined
def add_outer(x: Floats, y: Floats, out: Floats, n_in: int, n_out: int) -> None:
    """Add x^T y of `ROWS` rows x and y to out.

    Args:
        x: (ROWS, n_in).
        y: (ROWS, n_out).
        out: (n_in, n_out), changed in place.
        n_in: length of a row of x.
        n_out: length of a row of y.
    """
    for t in range(0, ROWS, 4):
        for k in range(n_in):
            x0, x1, x2, x3 = x[t, k], x[t + 1, k], x[t + 2, k], x[t + 3, k]
            for c in range(n_out):
                out[k, c] += x0 * y[t, c] + x1 * y[t + 1, c] + x2 * y[t + 2, c] + x3 * y[t + 3, c]


@inlined
def swish_rows(x: Floats, out: Floats, width: int) -> None:
    """Set out to swish(x) for `ROWS` rows.

    Args:
        x: (ROWS, width).
        out: (ROWS, width), overwritten.
        width: length of a row.
    """
    for t in range(ROWS):
        for c in range(width):
            out[t, c] = swish(x[t, c])


@inlined
def normalise(x: Floats, gain: Floats, bias: Floats, width: int) -> None:
    """X <- (x - mean) / sqrt(variance + 1e-5) gain + bias, torch's LayerNorm, for one row in place.

    Args:
        x: (width,), changed in place.
        gain: (width,).
        bias: (width,).
        width: length of a row.
    """
    mean = lane_sum(x, f32(0.0), width, False) / f32(width)
    variance = lane_sum(x, mean, width, True) / f32(width)
    scale = f32(1.0) / np.sqrt(variance + f32(1e-5))
    for c in range(width):
        x[c] = (x[c] - mean) * scale * gain[c] + bias[c]


@inlined
def lane_sum(x: Floats, mean: np.float32, width: int, squared: bool) -> np.float32:
    """Sum x - mean, or its squares, as eight sums side by side, in the same order on every processor.

    Args:
        x: (width,).
        mean: what is subtracted from every value.
        width: length of a row.
        squared: sum the squares.

    Returns:
        The sum, float32.
    """
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


f32 = np.float32


@inlined
def exp(x: np.float32) -> np.float32:
    """e^x for |x| <= 87, and the value at the nearer end beyond: neither it nor its inverse is subnormal or infinite.

    e^x = 2^n e^r with n the whole number nearest to x / ln 2; ln 2 is subtracted in two parts, so that r is exact. e^r
    on |r| <= ln(2) / 2 is Cephes' polynomial.
    """
    x = max(x, f32(-87.0))  # not `max`, which would turn NaN into a number
    x = min(x, f32(87.0))
    n = (x * f32(1.44269504) + f32(12582912.0)) - f32(12582912.0)  # 1.5 2^23: what is added to it is rounded
    r = (x - n * f32(0.693359375)) - n * f32(-2.12194440e-4)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)  # the float32 whose exponent is n
    return (p * (r * r) + (r + f32(1.0))) * power


@inlined
def sigmoid(x: np.float32) -> np.float32:
    """1 / (1 + e^-x)."""
    return f32(1.0) / (f32(1.0) + exp(-x))


@inlined
def swish(x: np.float32) -> np.float32:
    """X sigmoid(x)."""
    return x / (f32(1.0) + exp(-x))


@inlined
def swish_slope(x: np.float32) -> np.float32:
    """The derivative of swish: s (1 + x (1 - s)), s = sigmoid(x)."""
    s = sigmoid(x)
    return s * (f32(1.0) + x * (f32(1.0) - s))


@inlined
def softplus(x: np.float32) -> np.float32:
    """ln(1 + e^x) = max(x, 0) + ln(1 + y), y = e^-|x| in (0, 1].

    ln(1 + y) / y is a polynomial of degree 9 that meets it at Chebyshev's nodes.
    """
    y = exp(-abs(x))
    p = f32(-0.0031760570)
    p = p * y + f32(0.0195425283)
    p = p * y + f32(-0.0563736148)
    p = p * y + f32(0.1054362357)
    p = p * y + f32(-0.1526966691)
    p = p * y + f32(0.1966327429)
    p = p * y + f32(-0.2495161593)
    p = p * y + f32(0.3332971036)
    p = p * y + f32(-0.4999989271)
    p = p * y + f32(1.0)
    return (max(f32(0.0), x)) + p * y
