"""A hurdle at zero before a Laplace distribution cut at zero: band gaps, many of which are exactly zero."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from matscout.models.families.distribution import LEAST_PROBABILITY, Distribution, Floats, masked_mean
from matscout.models.families.laplace import SCALE_WEIGHT, Laplace, laplace_nll, loc_and_scale, with_label_noise

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class HurdleLaplace(Distribution):
    """Exactly zero with some probability, else a Laplace truncated to positive values.

    With F the untruncated Laplace's cdf, the positive part has the cdf (F(x) - F(0)) / (1 - F(0)). Where
    loc <= 0 only the Laplace's right tail is left, so that the positive part is an exponential of
    mean `scale`, whatever loc is: every formula below uses max(loc, 0).

    Attributes:
        probability_zero: (n,), in [0, 1].
        loc: (n,), mode of the positive part before truncation, unit of the property.
        scale: (n,), the same unit, positive.
    """

    N_PARAMETERS: ClassVar[int] = 3
    LOWER_BOUND: ClassVar[float | None] = 0.0
    HAS_MASS_AT_ZERO: ClassVar[bool] = True
    LEARNT_LABELS: ClassVar[str] = " ones above zero"

    probability_zero: Floats
    loc: Floats
    scale: Floats

    @staticmethod
    def learnt(labels: Tensor) -> Tensor:
        """Those that are not zero."""
        return labels[labels != 0]

    @staticmethod
    def transform(raw: Tensor, center: Tensor, spread: Tensor, prior_logit: Tensor) -> Tensor:
        """As of a Laplace, after the logit of zero: the log-odds of zero in the training labels plus r_logit."""
        import torch

        return torch.stack([prior_logit + raw[:, 0], *loc_and_scale(raw, center, spread)], dim=1)

    @staticmethod
    def loss(parameters: Tensor, label: Tensor, noise: Tensor, *, unit: float, count: Tensor | None = None) -> Tensor:
        """Cross-entropy of "exactly zero" plus, on the rows above zero, L1 and the likelihood of the scale.

        Assumes that a label is zero with the predicted probability, and otherwise follows a Laplace
        distribution around max(location, 0), cut at zero; the two parts of the likelihood separate (Cragg,
        Econometrica 39, 829 (1971)). Arguments as in `Distribution.loss`.
        """
        from torch.nn.functional import binary_cross_entropy_with_logits

        zero_logit, location, scale = parameters.unbind(dim=-1)
        known = ~label.isnan()
        hurdle = binary_cross_entropy_with_logits(zero_logit, (label <= 0).to(zero_logit.dtype), reduction="none")
        positive = known & (label > 0)
        target = label.where(positive, location.detach())
        total = with_label_noise(scale, noise)
        trust = (scale / total).detach()
        fit = trust * (location - target).abs() / unit
        mode = location.detach().clamp(min=0)
        spread = laplace_nll(mode, total, target, unit=unit) + log_survival(mode, total)
        value = (fit + SCALE_WEIGHT * spread).where(positive, 0.0)
        return masked_mean(hurdle + value, known, count)

    @classmethod
    def from_head(cls, outputs: ArrayLike) -> Self:
        """From the (n, 3) columns (logit of zero, loc, scale) of `transform`."""
        logit, loc, scale = np.asarray(outputs, dtype=np.float64).T
        return cls(0.5 * (1.0 + np.tanh(0.5 * logit)), loc, scale)

    @property
    def _uncut(self) -> Laplace:
        """The positive part before it is cut."""
        return Laplace(self.mode(), self.scale)

    @property
    def _cut_mass(self) -> Floats:
        """F(0): the Laplace's mass below zero, (n,), at most 0.5."""
        return 0.5 * np.exp(-self.mode() / self.scale)

    def mode(self) -> Floats:
        """(n,) of the positive part."""
        return np.maximum(self.loc, 0.0)

    def mass_at_zero(self) -> Floats:
        """(n,) probability of exactly zero."""
        return self.probability_zero

    def mean(self) -> Floats:
        """(n,): (1 - p0) times the positive part's mean."""
        return (1.0 - self.probability_zero) * self._positive_moments()[0]

    def std(self) -> Floats:
        """(n,): of the whole mixture."""
        _, second = self._positive_moments()
        variance = (1.0 - self.probability_zero) * second - self.mean() ** 2
        return np.sqrt(np.maximum(variance, 0.0))

    def cdf(self, x: ArrayLike) -> Floats:
        """P(X <= x); `x` broadcasts against (n,)."""
        x = np.asarray(x, dtype=np.float64)
        below = self._uncut.cdf(np.maximum(x, 0.0))
        positive = (below - self._cut_mass) / (1.0 - self._cut_mass)
        mixture = self.probability_zero + (1.0 - self.probability_zero) * positive
        return np.where(x < 0, 0.0, mixture)

    def quantile(self, q: ArrayLike) -> Floats:
        """The smallest x with cdf(x) >= q; `q` in (0, 1) broadcasts against (n,)."""
        q = np.asarray(q, dtype=np.float64)
        mode = self.mode()
        weight = 1.0 - self.probability_zero
        excess = np.maximum(q - self.probability_zero, 0.0)
        is_positive = excess > 0.0
        # the upper tail of the positive part, written without 1 - (1 - q): exact for q near one
        upper = np.where(is_positive, (1.0 - q) / np.where(weight > 0.0, weight, 1.0), 1.0)
        upper_mass = upper * (1.0 - self._cut_mass)
        lower_mass = 1.0 - upper_mass
        right = mode - self.scale * np.log(2.0 * upper_mass)
        # where the cut mass underflows, the left branch is only reached at zero, which `maximum` restores
        left = mode + self.scale * np.log(np.maximum(2.0 * lower_mass, np.finfo(np.float64).tiny))
        positive = np.maximum(np.where(upper_mass <= 0.5, right, left), 0.0)
        return np.where(is_positive, positive, 0.0)

    def log_density(self, value: Floats) -> Floats:
        """(n,) log of the density at (n,) values; at zero, of the probability."""
        zero = np.clip(self.probability_zero, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        positive = np.log1p(-zero) + self._uncut.log_density(value) - np.log1p(-self._cut_mass)
        return np.where(value == 0, np.log(zero), np.where(value > 0, positive, -np.inf))

    def tempered(self, center: Floats, temperature: float | Floats) -> Self:
        """The positive part as a Laplace; the log-odds of zero over `temperature`."""
        from scipy.special import expit, logit

        positive = self._uncut.tempered(center, temperature)
        certain = np.clip(self.probability_zero, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
        zero = expit(logit(certain) / temperature)
        return replace(self, probability_zero=zero, loc=positive.loc, scale=positive.scale)

    def _positive_moments(self) -> tuple[Floats, Floats]:
        """First and second moment of the truncated Laplace, by integration in parts."""
        mode, scale, cut = self.mode(), self.scale, self._cut_mass
        first = (mode + scale * cut) / (1.0 - cut)
        second = (mode**2 + 2.0 * scale**2 * (1.0 - cut)) / (1.0 - cut)
        return first, second


def log_survival(mode: Tensor, scale: Tensor) -> Tensor:
    """Log of the probability that a Laplace variable exceeds zero: log(1 - exp(-mode / scale) / 2).

    Shapes (n,); mode at least zero.
    """
    return (-0.5 * (-mode / scale).exp()).log1p()
