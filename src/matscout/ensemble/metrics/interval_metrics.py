"""Whether predicted distributions and intervals hold what they promise: pure functions of arrays."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

N_BINS = 10
LEVEL_GRID = np.linspace(0, 1, 101)


def coverage(truth: Array, low: Array, high: Array) -> float:
    """Share of rows with low <= truth <= high."""
    return float(((truth >= low) & (truth <= high)).mean())


def mean_width(low: Array, high: Array) -> float:
    """Mean of high - low, in the target's unit."""
    return float((high - low).mean())


def expected_normalized_calibration_error(error: Array, spread: Array, n_bins: int = N_BINS) -> float:
    """ENCE: mean over bins of equal count, sorted by spread, of |RMV - RMSE| / RMV.

    Levi et al., "Evaluating and calibrating uncertainty prediction in regression tasks" (2022), eq. 8.
    Bins whose spread is zero are skipped; NaN where none is left.
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
    """(n_levels,): observed share of rows below the predicted quantile of each level.

    Args:
        pit_low: (n,) F(truth-), the distribution function just below the truth.
        pit_high: (n,) F(truth).
        levels: (n_levels,) nominal levels in [0, 1].

    A row with a jump at its truth (a metal's atom at zero) counts in proportion: the non-randomised
    probability integral transform of Czado, Gneiting & Held, "Predictive model assessment for count
    data" (2009), eq. 2. For continuous distributions it is the plain share of F(truth) <= level.
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
    """Area between the calibration curve and the diagonal (0: calibrated, 0.5: worst)."""
    return float(np.trapezoid(np.abs(calibration_curve(pit_low, pit_high, levels) - levels), levels))
