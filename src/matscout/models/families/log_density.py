"""Log densities of the members' distributions: what the likelihood of a temperature needs."""

import numpy as np
from numpy.typing import NDArray

from matscout.models.families.distributions import Distribution, HurdleLaplace, LogLaplace

Array = NDArray[np.float64]

LEAST_PROBABILITY = 1e-6  # a member that is certain must not make one wrong metal cost infinitely much


def probability_zero(distribution: Distribution) -> Array:
    """(n,) probability of exactly zero; 0 for distributions without an atom."""
    if isinstance(distribution, HurdleLaplace):
        return distribution.probability_zero
    return np.zeros(len(distribution.loc))


def mode(distribution: Distribution) -> Array:
    """(n,) where the density (of a hurdle: of its positive part) is largest; of a log-Laplace, in the logarithm."""
    return np.maximum(distribution.loc, 0) if isinstance(distribution, HurdleLaplace) else distribution.loc


def log_density(distribution: Distribution, value: Array) -> Array:
    """(n,) log of the density at `value`; of the probability where a hurdle's atom lies (value 0)."""
    loc, scale = mode(distribution), distribution.scale
    if isinstance(distribution, LogLaplace):
        return _log_laplace(loc, scale, value)
    laplace = -np.abs(value - loc) / scale - np.log(2 * scale)
    if not isinstance(distribution, HurdleLaplace):
        return laplace
    zero = np.clip(probability_zero(distribution), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    mass_above_zero = np.log1p(-0.5 * np.exp(-loc / scale))
    positive = np.log1p(-zero) + laplace - mass_above_zero
    return np.where(value == 0, np.log(zero), np.where(value > 0, positive, -np.inf))


def _log_laplace(loc: Array, scale: Array, value: Array) -> Array:
    """The logarithm's density, divided by the value: d log(x) / dx = 1 / x."""
    logarithm = np.log(np.where(value > 0, value, 1.0))
    density = -np.abs(logarithm - loc) / scale - np.log(2 * scale) - logarithm
    return np.where(value > 0, density, -np.inf)
