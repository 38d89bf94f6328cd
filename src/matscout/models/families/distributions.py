"""What a model says about a property: a Laplace, one of the logarithm, or a hurdle at zero before one cut at zero."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LARGEST_LOG = 700.0  # exp of more is no float64
ONE_SIGMA = 0.6826894921370859  # probability that a Gaussian lies within one standard deviation


@dataclass(frozen=True)
class _Distribution:
    """n independent distributions of one family; every field has shape (n,), dtype float64."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[-1].name))

    def parameters(self) -> Floats:
        """(n, n_params): the fields, in their order."""
        return np.stack([getattr(self, field.name) for field in fields(self)], axis=1)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Self:
        """The distributions of some rows."""
        return type(self).from_parameters(self.parameters()[rows])

    @classmethod
    def from_parameters(cls, parameters: ArrayLike) -> Self:
        """The inverse of `parameters`."""
        return cls(*np.asarray(parameters, dtype=np.float64).T)

    def median(self) -> Floats:
        """(n,): the point estimate that minimises the expected absolute error."""
        return self.quantile(0.5)

    def quantile(self, q: ArrayLike) -> Floats:
        """The smallest x with cdf(x) >= q; `q` in (0, 1) broadcasts against (n,)."""
        raise NotImplementedError

    def mean(self) -> Floats:
        """(n,) expected value; infinite where there is none."""
        raise NotImplementedError

    def std(self) -> Floats:
        """(n,) standard deviation; infinite where there is none."""
        raise NotImplementedError

    def center(self) -> Floats:
        """(n,) what an ensemble's members disagree about: the mean, where it always exists."""
        return self.mean()

    def spread(self) -> Floats:
        """(n,) the error bar: the standard deviation, where it always exists."""
        return self.std()

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """(n, len(self)) draws, by inversion."""
        return self.quantile(rng.uniform(np.finfo(np.float64).tiny, 1.0, size=(n, len(self))))


@dataclass(frozen=True)
class Laplace(_Distribution):
    """Density exp(-|x - loc| / scale) / (2 scale).

    Attributes:
        loc: (n,), unit of the property.
        scale: (n,), the same unit, positive.
    """

    loc: Floats
    scale: Floats

    @classmethod
    def from_head(cls, outputs: ArrayLike) -> Self:
        """From the (n, 2) columns (loc, scale) of `PropertyHead`."""
        return cls.from_parameters(outputs)

    def mean(self) -> Floats:
        """(n,)."""
        return self.loc

    def std(self) -> Floats:
        """(n,): sqrt(2) scale."""
        return np.sqrt(2.0) * self.scale

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


@dataclass(frozen=True)
class HurdleLaplace(_Distribution):
    """Exactly zero with some probability, else a Laplace truncated to positive values.

    With F the untruncated Laplace's cdf, the positive part has the cdf (F(x) - F(0)) / (1 - F(0)). Where
    loc <= 0 only the Laplace's right tail is left, so that the positive part is an exponential of
    mean `scale`, whatever loc is: every formula below uses max(loc, 0).

    Attributes:
        probability_zero: (n,), in [0, 1].
        loc: (n,), mode of the positive part before truncation, unit of the property.
        scale: (n,), the same unit, positive.
    """

    probability_zero: Floats
    loc: Floats
    scale: Floats

    @classmethod
    def from_head(cls, outputs: ArrayLike) -> Self:
        """From the (n, 3) columns (logit of zero, loc, scale) of `PropertyHead`."""
        logit, loc, scale = np.asarray(outputs, dtype=np.float64).T
        return cls(0.5 * (1.0 + np.tanh(0.5 * logit)), loc, scale)

    @property
    def _mode(self) -> Floats:
        return np.maximum(self.loc, 0.0)

    @property
    def _cut_mass(self) -> Floats:
        """F(0): the Laplace's mass below zero, (n,), at most 0.5."""
        return 0.5 * np.exp(-self._mode / self.scale)

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
        below = Laplace(self._mode, self.scale).cdf(np.maximum(x, 0.0))
        positive = (below - self._cut_mass) / (1.0 - self._cut_mass)
        mixture = self.probability_zero + (1.0 - self.probability_zero) * positive
        return np.where(x < 0, 0.0, mixture)

    def quantile(self, q: ArrayLike) -> Floats:
        """The smallest x with cdf(x) >= q; `q` in (0, 1) broadcasts against (n,)."""
        q = np.asarray(q, dtype=np.float64)
        weight = 1.0 - self.probability_zero
        excess = np.maximum(q - self.probability_zero, 0.0)
        is_positive = excess > 0.0
        # the upper tail of the positive part, written without 1 - (1 - q): exact for q near one
        upper = np.where(is_positive, (1.0 - q) / np.where(weight > 0.0, weight, 1.0), 1.0)
        upper_mass = upper * (1.0 - self._cut_mass)
        lower_mass = 1.0 - upper_mass
        right = self._mode - self.scale * np.log(2.0 * upper_mass)
        # where the cut mass underflows, the left branch is only reached at zero, which `maximum` restores
        left = self._mode + self.scale * np.log(np.maximum(2.0 * lower_mass, np.finfo(np.float64).tiny))
        positive = np.maximum(np.where(upper_mass <= 0.5, right, left), 0.0)
        return np.where(is_positive, positive, 0.0)

    def _positive_moments(self) -> tuple[Floats, Floats]:
        """First and second moment of the truncated Laplace, by integration in parts."""
        mode, scale, cut = self._mode, self.scale, self._cut_mass
        first = (mode + scale * cut) / (1.0 - cut)
        second = (mode**2 + 2.0 * scale**2 * (1.0 - cut)) / (1.0 - cut)
        return first, second


@dataclass(frozen=True)
class LogLaplace(_Distribution):
    """A positive value whose logarithm is Laplace distributed: x = exp(loc + e), so that errors are factors.

    Density (x / m)^(±1 / scale) / (2 scale x) with the median m = exp(loc), + below it and - above. The tail above is a
    power law: the mean exists for scale < 1 and the variance for scale < 1/2 only. Hence `center` and `spread`
    are quantiles, which always exist: the median, and half the width of the central 68.27 %, which for a Gaussian is
    the standard deviation.

    Attributes:
        loc: (n,), logarithm of the median in the property's unit.
        scale: (n,), of the logarithm, positive.
    """

    loc: Floats
    scale: Floats

    @classmethod
    def from_head(cls, outputs: ArrayLike) -> Self:
        """From the (n, 2) columns (loc, scale) of `PropertyHead`."""
        return cls.from_parameters(outputs)

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

    def cdf(self, x: ArrayLike) -> Floats:
        """P(X <= x); `x` broadcasts against (n,)."""
        x = np.asarray(x, dtype=np.float64)
        below = self.log.cdf(np.log(np.maximum(x, np.finfo(np.float64).tiny)))
        return np.where(x > 0, below, 0.0)

    def quantile(self, q: ArrayLike) -> Floats:
        """The x with cdf(x) = q; `q` in (0, 1) broadcasts against (n,)."""
        return _exp(self.log.quantile(q))

    def _moment(self, order: int) -> Floats:
        """E[x^order] = exp(order loc) / (1 - (order scale)²), infinite where order scale >= 1."""
        exists = order * self.scale < 1
        return np.where(exists, _exp(order * self.loc) / np.where(exists, 1 - (order * self.scale) ** 2, 1.0), np.inf)


def _exp(x: Floats) -> Floats:
    return np.exp(np.minimum(x, LARGEST_LOG))


Distribution = Laplace | HurdleLaplace | LogLaplace

DISTRIBUTIONS: dict[str, type[Laplace] | type[HurdleLaplace] | type[LogLaplace]] = {
    "laplace": Laplace,
    "hurdle": HurdleLaplace,
    "log_laplace": LogLaplace,
}
