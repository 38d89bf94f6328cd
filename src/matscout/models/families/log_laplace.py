"""A positive value whose logarithm is Laplace distributed: moduli, whose errors are factors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from matscout.models.families.distribution import Distribution, Floats
from matscout.models.families.laplace import Laplace

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_LOG = 700.0  # exp of more is no float64
ONE_SIGMA = 0.6826894921370859  # probability that a Gaussian lies within one standard deviation


@dataclass(frozen=True)
class LogLaplace(Distribution):
    """A positive value whose logarithm is Laplace distributed: x = exp(loc + e), so that errors are factors.

    Density (x / m)^(±1 / scale) / (2 scale x) with the median m = exp(loc), + below it and - above. The tail above is a
    power law: the mean exists for scale < 1 and the variance for scale < 1/2 only. Hence `center` and `spread`
    are quantiles, which always exist: the median, and half the width of the central 68.27 %, which for a Gaussian is
    the standard deviation.

    Attributes:
        loc: (n,), logarithm of the median in the property's unit.
        scale: (n,), of the logarithm, positive.
    """

    LOWER_BOUND: ClassVar[float | None] = 0.0
    NEEDS_POSITIVE_LABELS: ClassVar[bool] = True

    loc: Floats
    scale: Floats

    @staticmethod
    def learnt(labels: Tensor) -> Tensor:
        """Their logarithms."""
        return labels.log()

    @staticmethod
    def transform(raw: Tensor, center: Tensor, spread: Tensor, prior_logit: Tensor) -> Tensor:
        """As of a Laplace; all of it in the logarithm."""
        return Laplace.transform(raw, center, spread, prior_logit)

    @staticmethod
    def loss(parameters: Tensor, label: Tensor, noise: Tensor, *, unit: float, count: Tensor | None = None) -> Tensor:
        """`Laplace.loss` of the label's logarithm; arguments as in `Distribution.loss`.

        Assumes label = exp(location + e), e Laplace: errors are factors. The label's own noise is a factor too: its
        standard deviation in the logarithm is noise / label, to first order.
        """
        return Laplace.loss(parameters, label.log(), noise / label, unit=unit, count=count)

    @property
    def log(self) -> Laplace:
        """The distribution of the logarithm."""
        return Laplace(self.loc, self.scale)

    def mean(self) -> Floats:
        """(n,): exp(loc) / (1 - scale²), infinite for scale >= 1."""
        return self._moment(1)

    def std(self) -> Floats:
        """(n,): from the first two moments, infinite for scale >= 1/2."""
        with np.errstate(invalid="ignore"):  # inf - inf is replaced
            variance = self._moment(2) - self._moment(1) ** 2
        return np.sqrt(np.where(self.scale < 0.5, np.maximum(variance, 0.0), np.inf))

    def center(self) -> Floats:
        """(n,): the median."""
        return _exp(self.loc)

    def spread(self) -> Floats:
        """(n,): half the width of the central 68.27 %."""
        low, high = self.quantile((1 - ONE_SIGMA) / 2), self.quantile((1 + ONE_SIGMA) / 2)
        return (high - low) / 2

    def mode(self) -> Floats:
        """(n,) of the logarithm."""
        return self.loc

    def cdf(self, x: ArrayLike) -> Floats:
        """P(X <= x); `x` broadcasts against (n,)."""
        x = np.asarray(x, dtype=np.float64)
        below = self.log.cdf(np.log(np.maximum(x, np.finfo(np.float64).tiny)))
        return np.where(x > 0, below, 0.0)

    def quantile(self, q: ArrayLike) -> Floats:
        """The x with cdf(x) = q; `q` in (0, 1) broadcasts against (n,)."""
        return _exp(self.log.quantile(q))

    def log_density(self, value: Floats) -> Floats:
        """(n,): the logarithm's density, divided by the value, since d log(x) / dx = 1 / x."""
        logarithm = np.log(np.where(value > 0, value, 1.0))
        return np.where(value > 0, self.log.log_density(logarithm) - logarithm, -np.inf)

    def tempered(self, center: Floats, temperature: float | Floats) -> Self:
        """Stretched in the logarithm."""
        stretched = self.log.tempered(center, temperature)
        return replace(self, loc=stretched.loc, scale=stretched.scale)

    def _moment(self, order: int) -> Floats:
        """E[x^order] = exp(order loc) / (1 - (order scale)²), infinite where order scale >= 1."""
        exists = order * self.scale < 1
        return np.where(exists, _exp(order * self.loc) / np.where(exists, 1 - (order * self.scale) ** 2, 1.0), np.inf)


def _exp(x: Floats) -> Floats:
    return np.exp(np.minimum(x, LARGEST_LOG))
