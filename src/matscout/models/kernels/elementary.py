"""Exponential, sigmoid, swish and softplus in float32, from sums and products alone, so that loops over them vectorise.

Relative errors are below 3e-7, softplus's and swish's too; `tests/models/kernels/test_kernels.py` compares with
float64.
"""

import numpy as np

from matscout.graphs.compiled import inlined

f32 = np.float32


@inlined
def exp(x: np.float32) -> np.float32:
    """e^x for |x| <= 87, and the value at the nearer end beyond: neither it nor its inverse is subnormal or infinite.

    e^x = 2^n e^r with n the whole number nearest to x / ln 2; ln 2 is subtracted in two parts, so that r is exact. e^r
    on |r| <= ln(2) / 2 is Cephes' polynomial.
    """
    x = max(x, f32(-87.0))  # not `max`, which would make a number of what is none
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
