"""Metrics as pure functions of arrays: errors, calibration, coverage, curves, and bootstrap intervals over rows.

Errors of point estimates, and how well a predicted spread ranks them; calibration of predicted distributions and
coverage of intervals; the four curves that show the quality of the intervals, as plain lists for plots.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
    """(n,): mean error of the remaining rows after removing the 0, 1, .., n - 1 rows of largest `order_by`.

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
    """Mean error of the rows with the smallest spread.

    Args:
        error: (n,) absolute errors.
        spread: (n,) predicted standard deviations.
        share: share of the rows, in (0, 1]; at least one row is taken.

    Returns:
        In the unit of the errors.
    """
    curve = sparsification_curve(error, spread)
    n_kept = max(1, round(share * len(error)))
    return float(curve[len(error) - n_kept])


N_BINS = 10
LEVEL_GRID = np.linspace(0, 1, 101)


def coverage(truth: Array, low: Array, high: Array) -> float:
    """Share of rows with low <= truth <= high.

    Args:
        truth: (n,) labels, in the unit of the ends.
        low: (n,) lower ends.
        high: (n,) upper ends.

    Returns:
        In [0, 1].
    """
    return float(((truth >= low) & (truth <= high)).mean())


def mean_width(low: Array, high: Array) -> float:
    """Mean of high - low, in the target's unit."""
    return float((high - low).mean())


def expected_normalized_calibration_error(error: Array, spread: Array, n_bins: int = N_BINS) -> float:
    """ENCE: mean over bins of equal count, sorted by spread, of |RMV - RMSE| / RMV.

    Levi et al., "Evaluating and calibrating uncertainty prediction in regression tasks" (2022), eq. 8.
    Bins whose spread is zero are skipped; NaN where none is left.

    Args:
        error: (n,) error of the point estimates.
        spread: (n,) predicted standard deviations, in the unit of the error.
        n_bins: number of bins; fewer if there are fewer rows.

    Returns:
        ENCE, dimensionless; 0 = calibrated.
    """
    order = np.argsort(spread, kind="stable")
    bins = np.arange(min(n_bins, len(order)) + 1)
    size, larger = divmod(len(order), len(bins) - 1)
    starts = bins * size + np.minimum(bins, larger)  # as np.array_split has it
    squares = np.square(np.stack([spread[order], error[order]]))
    variance, square = np.sqrt(np.add.reduceat(squares, starts[:-1], axis=1) / np.diff(starts))
    wide = variance > 0
    return float(np.mean(np.abs(variance - square)[wide] / variance[wide])) if wide.any() else float("nan")


def calibration_curve(pit_low: Array, pit_high: Array, levels: Array = LEVEL_GRID) -> Array:
    """Observed share of rows below the predicted quantile of each level.

    A row with a jump at its truth (a metal's atom at zero) counts in proportion: the non-randomised probability
    integral transform of Czado, Gneiting & Held, "Predictive model assessment for count data" (2009), eq. 2. For
    continuous distributions it is the plain share of F(truth) <= level.

    Args:
        pit_low: (n,) F(truth-), the distribution function just below the truth.
        pit_high: (n,) F(truth).
        levels: (n_levels,) nominal levels in [0, 1].

    Returns:
        (n_levels,) shares in [0, 1].
    """
    sorted_high = np.sort(pit_high)
    jumps = pit_high > pit_low
    below = np.searchsorted(sorted_high, levels, side="right").astype(float)
    if jumps.any():
        low, high = pit_low[jumps, None], pit_high[jumps, None]
        inside = (levels >= low) & (levels < high)
        below += np.where(inside, (levels - low) / (high - low), 0).sum(axis=0)
    return below / len(pit_high)


def miscalibration_area(pit_low: Array, pit_high: Array, levels: Array = LEVEL_GRID) -> float:
    """Area between the calibration curve and the diagonal (0: calibrated, 0.5: worst).

    Args:
        pit_low: (n,) F(truth-), the distribution function just below the truth.
        pit_high: (n,) F(truth).
        levels: (n_levels,) nominal levels in [0, 1].

    Returns:
        In [0, 0.5].
    """
    return float(np.trapezoid(np.abs(calibration_curve(pit_low, pit_high, levels) - levels), levels))


CONFIDENCE = 0.95
FEWEST_ROWS = 10


@dataclass(frozen=True)
class Resampling:
    """How many bootstrap resamples, and their seed."""

    n: int
    seed: int


Rows = Mapping[str, NDArray[Any]]
Metric = Callable[[Rows], float]
Estimate = dict[str, float | None]


def bootstrap(metrics: Mapping[str, Metric], rows: Rows, resampling: Resampling) -> dict[str, Estimate]:
    """Each metric's value and 95 % interval; all metrics see the same resamples.

    Args:
        metrics: functions of a table of row arrays; NaN where undefined.
        rows: (n,) arrays, resampled together.
        resampling: no interval is given below `FEWEST_ROWS` rows.

    Returns:
        {"value", "low", "high"} by metric; None if undefined.
    """
    n_rows = len(next(iter(rows.values())))
    if n_rows == 0:
        return {name: _estimate(np.nan, np.empty(0)) for name in metrics}
    values = {name: metric(rows) for name, metric in metrics.items()}
    n_draws = resampling.n if n_rows >= FEWEST_ROWS else 0
    draws = np.random.default_rng(resampling.seed).integers(0, n_rows, size=(n_draws, n_rows))
    resampled = np.full((len(metrics), n_draws), np.nan)
    for column, draw in enumerate(draws):
        drawn = {name: array[draw] for name, array in rows.items()}
        resampled[:, column] = [metric(drawn) for metric in metrics.values()]
    return {name: _estimate(values[name], resampled[position]) for position, name in enumerate(metrics)}


def _estimate(value: float, resampled: NDArray[np.float64]) -> Estimate:
    known = resampled[np.isfinite(resampled)]
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    if len(known) == 0:
        return {"value": float(value), "low": None, "high": None}
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}


N_CURVE_BINS = 20
WIDEST = (
    0.99  # the last bin of the histogram holds all widths above this quantile, so that single rows do not set the scale
)
KEPT_SHARES = np.linspace(0.05, 1, 20)


def uncertainty_curves(rows: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, list[float]]]:
    """Calibration curve, histogram of 90 % widths, error against spread, confidence curve.

    Args:
        rows: see `metric_table.judged_rows`; at least one.
    """
    levels = LEVEL_GRID[::5]
    width = rows["high_0.9"] - rows["low_0.9"]
    widest = float(np.quantile(width, WIDEST)) or 1.0
    counts, edges = np.histogram(np.minimum(width, widest), bins=N_CURVE_BINS, range=(0.0, widest))
    order = np.argsort(rows["std"], kind="stable")
    bins = np.array_split(order, min(N_CURVE_BINS, len(order)))
    return {
        "calibration": {
            "predicted": levels.tolist(),
            "observed": calibration_curve(rows["pit_low"], rows["pit_high"], levels).tolist(),
        },
        "interval_width": {"edges": edges.tolist(), "count": counts.tolist()},
        "error_against_spread": {
            "spread": [float(np.sqrt(np.square(rows["std"][b]).mean())) for b in bins],
            "error": [float(np.sqrt(np.square(rows["error"][b]).mean())) for b in bins],
        },
        "confidence": {
            "share_kept": KEPT_SHARES.tolist(),
            "mae": [error_of_most_certain(rows["error"], rows["std"], share) for share in KEPT_SHARES],
            "oracle": [error_of_most_certain(rows["error"], rows["error"], share) for share in KEPT_SHARES],
        },
    }
