"""Distances and cosines as smooth vectors."""

import torch
from torch import Tensor, nn

LARGEST_SQUARE = 80.0  # exp(-80) = 1.8e-35 is the last that float32 holds with room for a weight's or gradient's factor


class GaussianExpansion(nn.Module):
    """Gaussians on a regular grid: b_k(x) = exp(-((x - mu_k) / delta)^2), delta the grid's step.

    Xie and Grossman, "Crystal graph convolutional neural networks", Phys. Rev. Lett. 120 (2018). Where the square
    exceeds 80 the result is exactly zero: the Gaussian would be a subnormal number, which is slow wherever it goes.

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
