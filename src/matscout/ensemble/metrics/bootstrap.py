"""Metrics with percentile bootstrap intervals over rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        {"value", "low", "high"} by metric; null where undefined.
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
