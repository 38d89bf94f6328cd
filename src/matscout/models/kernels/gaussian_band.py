"""Gaussians of distances without their zeros, and linear layers of them in one pass over edges or angles."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from matscout.graphs.compiled import inlined, kernel
from matscout.models.kernels.dense import exp, f32, normalise, scratch, softplus, swish

BAND = 9  # Gaussians on a regular grid that lie within four steps of a value


@dataclass(frozen=True)
class Band:
    """The rows of `GaussianExpansion` without their zeros.

    Attributes:
        first: (m,) int64: the column of the first value kept.
        values: (m, BAND) float32: the row from there on.
    """

    first: NDArray[np.int64]
    values: NDArray[np.float32]


def band_of(values: Tensor, centers: Tensor, inverse_width: float) -> Band:
    """The rows of `GaussianExpansion` without their zeros.

    Args:
        values: (m,) float32 on the CPU.
        centers: (n_gaussians,), on a regular grid.
        inverse_width: 1 / distance of two centres.

    Returns:
        The `Band` of the m rows.
    """
    padded = max(len(centers), BAND)
    return Band(*_band(values.numpy(), float(centers[0]), inverse_width, len(centers), padded))


def table_of(weight: Tensor) -> NDArray[np.float32]:
    """The (n_out, n_gaussians) weight of a linear layer as rows to add: (at least BAND, n_out), zeros below."""
    table = torch.zeros(max(weight.shape[1], BAND), weight.shape[0])
    table[: weight.shape[1]] = weight.detach().t()
    return table.numpy()


@kernel
def _band(
    values: NDArray[np.float32], low: float, inverse_width: float, n: int, padded: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    first = np.empty(len(values), np.int64)
    rows = np.empty((len(values), BAND), np.float32)
    for row in range(len(values)):
        position = (values[row] - low) * inverse_width
        start = min(max(int(np.ceil(position - 4.0)), 0), padded - BAND)
        first[row] = start
        for k in range(BAND):
            z = f32(position - (start + k))
            rows[row, k] = exp(-z * z) if z * z <= f32(16.0) and start + k < n else f32(0.0)
    return first, rows


@inlined
def add_band(
    z: NDArray[np.float32], row: NDArray[np.float32], table: NDArray[np.float32], start: int, width: int
) -> None:
    """Z += W b for one row b of Gaussians: nine rows of the table instead of all.

    Args:
        z: (width,), changed in place.
        row: (BAND,), the Gaussians that are not zero.
        table: (n_gaussians, width), W transposed; see `table_of`.
        start: row of the table that belongs to the first value of `row`.
        width: length of a row.
    """
    b0, b1, b2, b3, b4, b5, b6, b7, b8 = row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8]
    for c in range(width):
        z[c] += (
            b0 * table[start, c]
            + b1 * table[start + 1, c]
            + b2 * table[start + 2, c]
            + b3 * table[start + 3, c]
            + b4 * table[start + 4, c]
            + b5 * table[start + 5, c]
            + b6 * table[start + 6, c]
            + b7 * table[start + 7, c]
            + b8 * table[start + 8, c]
        )


PLAIN, SOFTPLUS, NORMALISED_SWISH = range(3)
KINDS = {(): PLAIN, (nn.Softplus,): SOFTPLUS, (nn.LayerNorm, nn.SiLU): NORMALISED_SWISH}


def embedded(rows: Tensor | Band, linear: nn.Linear, *then: nn.Module) -> Tensor:
    """A linear layer of Gaussians, then nothing, softplus, or layer normalisation and swish.

    Args:
        rows: (m, n_gaussians), of `GaussianExpansion.rows`.
        linear: from the Gaussians to d.
        then: the modules that follow.

    Returns:
        (m, d).
    """
    if not isinstance(rows, Band):
        return nn.Sequential(linear, *then)(rows)
    band, width = rows, linear.out_features
    out = torch.empty(len(band.first), width)
    kinds = tuple(type(module) for module in then)
    norm = next((module for module in then if isinstance(module, nn.LayerNorm)), nn.LayerNorm(width))
    _kernel(width, KINDS[kinds])(
        band.first,
        band.values,
        table_of(linear.weight),
        linear.bias.detach().numpy(),
        norm.weight.detach().numpy(),
        norm.bias.detach().numpy(),
        out.numpy(),
    )
    return out


@cache
def _kernel(width: int, then: int) -> Callable[..., None]:
    @kernel
    def run(first, values, table, bias, gain, shift, out):
        z = scratch(1, width)[0]
        for row in range(len(out)):
            for c in range(width):
                z[c] = bias[c]
            add_band(z, values[row], table, first[row], width)
            if then == NORMALISED_SWISH:
                normalise(z, gain, shift, width)
            for c in range(width):
                if then == SOFTPLUS:
                    out[row, c] = softplus(z[c])
                elif then == NORMALISED_SWISH:
                    out[row, c] = swish(z[c])
                else:
                    out[row, c] = z[c]

    return run
