"""The two families of nested intervals that conformal scores are taken in; a score says how far out a truth lies.

`scaled`: the estimate plus and minus q times a scale of each row, for a symmetric distribution
(Papadopoulos et al., "Normalized nonconformity measures for regression conformal prediction", 2008).

`central`: the mixture's own quantiles that enclose the probability q, for a distribution with a point mass and
one long tail (Chernozhukov, Wüthrich & Zhu, "Distributional conformal prediction", PNAS 2021): a sure metal gets
the interval [0, 0], a doubtful one reaches as high as its tail and no lower than zero.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.distributions.mixture import Mixture

Array = NDArray[np.float64]
Shape = Literal["scaled", "central"]

LARGEST_PROBABILITY = 1 - 1e-9  # that a central interval encloses: a Laplace's own end is infinite


def scaled_scores(truth: Array, estimate: Array, scale: Array) -> Array:
    """(n,) least q whose interval estimate ± q scale holds the truth."""
    return np.abs(truth - estimate) / scale


def scaled_interval(quantile: Array, estimate: Array, scale: Array) -> tuple[Array, Array]:
    """(n,) low and high."""
    return estimate - quantile * scale, estimate + quantile * scale


def central_scores(truth: Array, mixture: Mixture) -> Array:
    """(n,) least probability of a central interval that holds the truth, in [0, 1].

    The interval of probability q goes from the quantile at (1 - q) / 2 to the one at (1 + q) / 2: it holds y
    where F(y) >= (1 - q) / 2 and F(y-) <= (1 + q) / 2.
    """
    return np.maximum(0.0, np.maximum(1 - 2 * mixture.cdf(truth), 2 * mixture.cdf_below(truth) - 1))


def central_interval(quantile: Array, estimate: Array, mixture: Mixture) -> tuple[Array, Array]:
    """(n,) low and high, widened to the estimate where the median of the members lies outside: no coverage is lost."""
    enclosed = np.minimum(quantile, LARGEST_PROBABILITY)
    low, high = mixture.quantile((1 - enclosed) / 2), mixture.quantile((1 + enclosed) / 2)
    return np.minimum(low, estimate), np.maximum(high, estimate)
