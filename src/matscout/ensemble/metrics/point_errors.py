"""Errors of point estimates, and how well a predicted spread ranks them: pure functions of arrays."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CERTAIN_SHARES = (0.5, 0.8)


def mean_absolute_error(truth: Array, estimate: Array) -> float:
    """Mean of |truth - estimate|, in the target's unit."""
    return float(np.abs(truth - estimate).mean())


def root_mean_squared_error(truth: Array, estimate: Array) -> float:
    """Square root of the mean squared error, in the target's unit."""
    return float(np.sqrt(np.square(truth - estimate).mean()))


def r_squared(truth: Array, estimate: Array) -> float:
    """Share of the variance explained; NaN where the truth does not vary."""
    total = np.square(truth - truth.mean()).sum()
    return float(1 - np.square(truth - estimate).sum() / total) if total > 0 else float("nan")


def mean_ranks(values: Array) -> Array:
    """(n,) ranks from 1, ties at their mean rank: as scipy's `rankdata`, in half the time."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[group]


def spearman(first: Array, second: Array) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where one side does not vary."""
    ranks = np.stack([mean_ranks(first), mean_ranks(second)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.square(ranks).sum(axis=1).prod())
    return float(ranks.prod(axis=0).sum() / norm) if norm > 0 else float("nan")


def roc_auc(is_positive: NDArray[np.bool_], score: Array) -> float:
    """Area under the ROC curve (Mann-Whitney U, ties count half); NaN where one class is absent."""
    n_positive = int(is_positive.sum())
    n_negative = len(is_positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    rank_sum = mean_ranks(score)[is_positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def sparsification_curve(error: Array, order_by: Array) -> Array:
    """(n,): mean error of what is left after removing the 0, 1, .., n - 1 rows of largest `order_by`.

    Ties in `order_by` share their mean error, so that the curve does not depend on the order of rows.
    """
    unique, group = np.unique(order_by, return_inverse=True)
    sizes = np.bincount(group, minlength=len(unique))
    means = np.bincount(group, weights=error, minlength=len(unique)) / sizes
    ascending = np.repeat(means, sizes)
    kept = np.cumsum(ascending) / np.arange(1, len(error) + 1)
    return kept[::-1]


def ause(error: Array, spread: Array) -> float:
    """Area under the sparsification error, as a share of the mean error (0: the spread ranks perfectly).

    Ilg et al., "Uncertainty estimates and multi-hypotheses networks for optical flow" (2018): the
    sparsification curve by predicted spread minus the oracle's curve by the error itself, averaged
    over the share removed.
    """
    if error.mean() == 0:
        return float("nan")
    gap = sparsification_curve(error, spread) - sparsification_curve(error, error)
    return float(gap.mean() / error.mean())


def error_of_most_certain(error: Array, spread: Array, share: float) -> float:
    """Mean error of the `share` of rows with the smallest spread (at least one row)."""
    curve = sparsification_curve(error, spread)
    n_kept = max(1, round(share * len(error)))
    return float(curve[len(error) - n_kept])
