"""The four curves that show what an error bar is worth; plain lists for plots."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.metrics.interval_metrics import LEVEL_GRID, calibration_curve
from matscout.ensemble.metrics.point_errors import error_of_most_certain

N_BINS = 20
WIDEST = (
    0.99  # the last bin of the histogram holds what is wider than this quantile: single rows must not set its scale
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
    counts, edges = np.histogram(np.minimum(width, widest), bins=N_BINS, range=(0.0, widest))
    order = np.argsort(rows["std"], kind="stable")
    bins = np.array_split(order, min(N_BINS, len(order)))
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
