"""Distances and cosines as smooth vectors."""

import torch
from torch import Tensor, nn

from matscout.models.kernels.band import Band, band_of
from matscout.models.kernels.edges import runs_here

# exp(-16) = 1.1e-7 is what float32 can't add to the largest of a row, which is above 0.7
LARGEST_SQUARE = 16.0


class GaussianExpansion(nn.Module):
    """Gaussians on a regular grid: b_k(x) = exp(-((x - mu_k) / delta)^2), delta the grid's step.

    Xie and Grossman, "Crystal graph convolutional neural networks", Phys. Rev. Lett. 120 (2018). More than four
    steps from its centre a Gaussian is exactly zero. Its tail would change no sum, but it falls to subnormal
    numbers, which are slow wherever they go, and the squares of its weights' gradients fall to them much earlier.

    Args:
        low: first centre.
        high: last centre.
        n: number of centres.
    """

    centers: Tensor

    def __init__(self, low: float, high: float, n: int) -> None:
        super().__init__()
        self.inverse_width = max(n - 1, 1) / (high - low)
        self.register_buffer("centers", torch.linspace(low, high, n), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """(m,) -> (m, n)."""
        square = ((values[:, None] - self.centers) * self.inverse_width).square()
        return torch.exp(-square.masked_fill(square > LARGEST_SQUARE, torch.inf))

    def rows(self, values: Tensor, *, differentiable: bool = False) -> Tensor | Band:
        """`forward`, without its zeros where a kernel reads them; see `runs_here`."""
        runs = runs_here(values, differentiable=differentiable and not values.requires_grad)
        return band_of(values, self.centers, self.inverse_width) if runs else self(values)
