"""A linear layer of Gaussians, and what follows it, in one pass over edges or angles."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

from matscout.graphs.compiled import kernel
from matscout.models.kernels.band import Band, add_band, table_of
from matscout.models.kernels.dense import normalise, scratch
from matscout.models.kernels.elementary import softplus, swish

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
