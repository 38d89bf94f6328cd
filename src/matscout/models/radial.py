"""Distances and cosines as smooth vectors."""

import torch
from torch import Tensor, nn


class GaussianExpansion(nn.Module):
    """Gaussians on a regular grid: b_k(x) = exp(-((x - mu_k) / delta)^2), delta the grid's step.

    Xie and Grossman, "Crystal graph convolutional neural networks", Phys. Rev. Lett. 120 (2018).

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
        z = (values[:, None] - self.centers) * self.inverse_width
        return torch.exp(-z.square())
