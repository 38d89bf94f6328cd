"""A Laplace distribution: L1 training with a scale that follows the residuals.

The location and the scale are fitted by separate terms. The joint likelihood divides the location's gradient by the
predicted scale, so rows that the network finds hard are learnt last or never (Seitzer et al., "On the pitfalls of
heteroscedastic uncertainty estimation", ICLR 2022). An L1 term for the location and a likelihood for the scale alone,
around the detached location, give the errors of plain L1 training *and* scales that follow the residuals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

from matscout.models.families.distribution import Distribution, Floats, masked_mean

if TYPE_CHECKING:
    from torch import Tensor

SCALE_WEIGHT = 0.2  # of the scale's likelihood beside the location's L1: enough for the scales, too little to steer
SMALLEST_SCALE = 1e-3  # of the target's spread: keeps the likelihood finite when a label is met exactly


@dataclass(frozen=True)
class Laplace(Distribution):
    """Density exp(-|x - loc| / scale) / (2 scale).

    Attributes:
        loc: (n,), unit of the property.
        scale: (n,), the same unit, positive.
    """

    loc: Floats
    scale: Floats

    @staticmethod
    def transform(raw: Tensor, center: Tensor, spread: Tensor, prior_logit: Tensor) -> Tensor:  # noqa: ARG004
        """Loc = center + spread r_loc, scale = spread softplus(r_scale)."""
        import torch

        return torch.stack(loc_and_scale(raw, center, spread), dim=1)

    @staticmethod
    def loss(parameters: Tensor, label: Tensor, noise: Tensor, *, unit: float, count: Tensor | None = None) -> Tensor:
        """Mean L1 of the location plus the Laplace likelihood of the scale; arguments as in `Distribution.loss`.

        Assumes label = location + e, where e is Laplace with the predicted scale plus independent label
        noise of known standard deviation.
        """
        location, scale = parameters.unbind(dim=-1)
        known = ~label.isnan()
        target = label.where(known, location.detach())
        total = with_label_noise(scale, noise)
        trust = (scale / total).detach()
        fit = trust * (location - target).abs() / unit
        spread = laplace_nll(location.detach(), total, target, unit=unit)
        return masked_mean(fit + SCALE_WEIGHT * spread, known, count)

    def mean(self) -> Floats:
        """(n,)."""
        return self.loc

    def std(self) -> Floats:
        """(n,): sqrt(2) scale."""
        return np.sqrt(2.0) * self.scale

    def mode(self) -> Floats:
        """(n,)."""
        return self.loc

    def cdf(self, x: ArrayLike) -> Floats:
        """P(X <= x); `x` broadcasts against (n,)."""
        z = (np.asarray(x) - self.loc) / self.scale
        tail = 0.5 * np.exp(-np.abs(z))
        return np.where(z < 0, tail, 1.0 - tail)

    def quantile(self, q: ArrayLike) -> Floats:
        """The x with cdf(x) = q; `q` in (0, 1) broadcasts against (n,)."""
        q = np.asarray(q, dtype=np.float64)
        centred = q - 0.5
        return self.loc - self.scale * np.sign(centred) * np.log(2.0 * np.minimum(q, 1.0 - q))

    def log_density(self, value: Floats) -> Floats:
        """(n,) log of the density at (n,) values."""
        return -np.abs(value - self.loc) / self.scale - np.log(2 * self.scale)

    def tempered(self, center: Floats, temperature: float | Floats) -> Self:
        """Distance from `center` and scale times `temperature`."""
        return replace(self, loc=center + temperature * (self.loc - center), scale=temperature * self.scale)

    def moved(self, by: Floats) -> Self:
        """The same widths about other locations."""
        return replace(self, loc=self.loc + by)


def loc_and_scale(raw: Tensor, center: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Location and scale in physical units from the last two columns of a head's raw outputs.

    Args:
        raw: (n, n_parameters).
        center: scalar, median of the learnt labels.
        spread: scalar, their mean absolute deviation.

    Returns:
        Two (n,) tensors in the target's unit; the scale is positive.
    """
    from torch.nn.functional import softplus

    return center + spread * raw[:, -2], spread * (softplus(raw[:, -1]) + SMALLEST_SCALE)


def laplace_nll(location: Tensor, scale: Tensor, label: Tensor, *, unit: float = 1.0) -> Tensor:
    """Negative logarithm of a Laplace density.

    Args:
        location: (n,) in the target's unit.
        scale: (n,) positive, in the target's unit.
        label: (n,) in the target's unit.
        unit: what labels are measured in, so that the result does not depend on the target's unit.

    Returns:
        (n,).
    """
    return (label - location).abs() / scale + (2 * scale / unit).log()


def with_label_noise(scale: Tensor, noise: Tensor) -> Tensor:
    """Scale of the Laplace distribution whose variance is the predicted one plus the label's.

    A Laplace variable of scale b has variance 2 b², hence b_total² = b² + noise² / 2. Shapes (n,).
    """
    return (scale**2 + noise.nan_to_num() ** 2 / 2).sqrt()
