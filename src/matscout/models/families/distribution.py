"""The interface of a family of distributions: losses, densities, quantiles and tempering from the outputs of a head.

A family is one file and one line in `models.families.registry`. Only the functions that need torch import it, so that
ranking and report start without it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]

LEAST_PROBABILITY = 1e-6  # a certain member must not make one wrong metal cost infinitely much


@dataclass(frozen=True)
class Distribution:
    """n independent distributions of one family; every field has shape (n,), dtype float64.

    Attributes:
        N_PARAMETERS: that the head predicts for each crystal.
        LOWER_BOUND: least possible value, in the property's unit; None = there is none.
        HAS_MASS_AT_ZERO: whether a value of exactly zero has a probability of its own.
        NEEDS_POSITIVE_LABELS: whether a label of zero or below cannot be learnt.
        LEARNT_LABELS: which labels location and scale describe, in words that follow "distinct".
    """

    N_PARAMETERS: ClassVar[int] = 2
    LOWER_BOUND: ClassVar[float | None] = None
    HAS_MASS_AT_ZERO: ClassVar[bool] = False
    NEEDS_POSITIVE_LABELS: ClassVar[bool] = False
    LEARNT_LABELS: ClassVar[str] = ""

    # training

    @staticmethod
    def learnt(labels: Tensor) -> Tensor:
        """What location and scale describe, of (n,) known labels; their statistics standardise the head's outputs."""
        return labels

    @staticmethod
    def transform(raw: Tensor, center: Tensor, spread: Tensor, prior_logit: Tensor) -> Tensor:
        """Parameters in physical units from the raw outputs of a head.

        Args:
            raw: (n, N_PARAMETERS), about standard normal before training.
            center: scalar, median of the learnt labels.
            spread: scalar, their mean absolute deviation.
            prior_logit: scalar, log-odds that a training label is not among the learnt ones.

        Returns:
            (n, N_PARAMETERS), in the order that `from_head` reads.
        """
        raise NotImplementedError

    @staticmethod
    def loss(parameters: Tensor, label: Tensor, noise: Tensor, *, unit: float, count: Tensor | None = None) -> Tensor:
        """Mean loss of the labelled rows: short, pure, dimensionless.

        `unit` makes targets of different units weigh alike. With `count`, the loss is the rows' sum over that number,
        so that the losses of a batch's parts add up to the batch's.

        Args:
            parameters: (n, N_PARAMETERS), from `transform`.
            label: (n,), NaN where missing: such a row takes no part.
            noise: (n,), standard deviation of the label, NaN where unknown, which counts as zero.
            unit: spread of the learnt training labels.
            count: labelled rows of the whole batch; None = of these rows.

        Returns:
            Scalar; zero if no row is labelled.
        """
        raise NotImplementedError

    # prediction

    @classmethod
    def from_head(cls, outputs: ArrayLike) -> Self:
        """From the (n, N_PARAMETERS) outputs of `transform`."""
        return cls.from_parameters(outputs)

    def mean(self) -> Floats:
        """Expected value of each of the n distributions.

        Returns:
            (n,); infinite where there is none.
        """
        raise NotImplementedError

    def std(self) -> Floats:
        """Standard deviation of each of the n distributions.

        Returns:
            (n,); infinite where there is none.
        """
        raise NotImplementedError

    def center(self) -> Floats:
        """(n,) what an ensemble's members disagree about: the mean, where it always exists."""
        return self.mean()

    def spread(self) -> Floats:
        """(n,) the error bar: the standard deviation, where it always exists."""
        return self.std()

    def mode(self) -> Floats:
        """Where the density is largest; of a hurdle, that of its positive part; of a log-Laplace, in the logarithm.

        Returns:
            (n,) in the target's unit.
        """
        raise NotImplementedError

    def mass_at_zero(self) -> Floats:
        """(n,) probability of exactly zero."""
        return np.zeros(len(self))

    def cdf(self, x: ArrayLike) -> Floats:
        """Cumulative distribution function P(X <= x).

        Args:
            x: value in the target's unit; broadcasts against (n,).

        Returns:
            Probability, of the shape of both broadcast.
        """
        raise NotImplementedError

    def quantile(self, q: ArrayLike) -> Floats:
        """The smallest x with cdf(x) >= q.

        Args:
            q: probability in (0, 1); broadcasts against (n,).

        Returns:
            x in the target's unit, of the shape of both broadcast.
        """
        raise NotImplementedError

    def log_density(self, value: Floats) -> Floats:
        """Logarithm of the density; of the probability where a hurdle's atom lies (value 0).

        Args:
            value: (n,) in the target's unit.

        Returns:
            (n,).
        """
        raise NotImplementedError

    def tempered(self, center: Floats, temperature: float | Floats) -> Self:
        """Stretch about a centre; see `Mixture.tempered`.

        Args:
            center: (n,) in the target's unit.
            temperature: factor of every width, (n,) or one for all.

        Returns:
            The stretched distributions.
        """
        raise NotImplementedError

    def moved(self, by: Floats) -> Self:
        """The same distributions elsewhere; families with a fixed zero have none.

        Args:
            by: (n,) in the target's unit, added to every value.

        Returns:
            The moved distributions.
        """
        raise NotImplementedError

    def median(self) -> Floats:
        """(n,): the point estimate that minimises the expected absolute error."""
        return self.quantile(0.5)

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """(n, len(self)) draws, by inversion."""
        return self.quantile(rng.uniform(np.finfo(np.float64).tiny, 1.0, size=(n, len(self))))

    # as arrays

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[-1].name))

    def parameters(self) -> Floats:
        """(n, N_PARAMETERS): the fields, in their order."""
        return np.stack([getattr(self, field.name) for field in fields(self)], axis=1)

    @classmethod
    def from_parameters(cls, parameters: ArrayLike) -> Self:
        """The inverse of `parameters`."""
        return cls(*np.asarray(parameters, dtype=np.float64).T)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Self:
        """The distributions of some rows."""
        return type(self).from_parameters(self.parameters()[rows])


def masked_mean(value: Tensor, mask: Tensor, count: Tensor | None) -> Tensor:
    """Mean of the values under a mask.

    Args:
        value: (n,); what lies outside the mask may be NaN.
        mask: (n,) bool.
        count: scalar to divide by; None = number of rows under the mask.

    Returns:
        Scalar; zero if no row is under the mask.
    """
    return value.where(mask, 0.0).sum() / (mask.sum() if count is None else count).clamp(min=1)
