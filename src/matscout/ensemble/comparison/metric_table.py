"""The table of metrics of one target's predictions, on any subset of rows, with bootstrap intervals."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble import metrics
from matscout.ensemble.calibration.conformal import LEVELS
from matscout.ensemble.calibration.target_calibration import TargetCalibration, TargetPrediction
from matscout.ensemble.metrics import Estimate, Metric, Resampling, Rows, bootstrap
from matscout.ensemble.mixture import Mixture

Array = NDArray[np.float64]
Labels = NDArray[np.str_]


def judged_rows(
    fitted: TargetCalibration, prediction: TargetPrediction, truth: Array, *, strata: Labels, sources: Labels
) -> dict[str, NDArray[Any]]:
    """Every per-row quantity that the metrics need, so that resampling is indexing.

    Args:
        fitted: the target's calibration.
        prediction: prediction of n rows.
        truth: (n,) labels in the target's unit.
        strata: (n,) such as `metal`.
        sources: (n,) database of each row.

    Returns:
        (n,) arrays by name: those of `distribution_rows`, and `low_` and `high_` of every level.
    """
    rows = distribution_rows(prediction.mixture, prediction.estimate, truth)
    for level in LEVELS:
        low, high = fitted.interval(prediction, strata, level, sources)
        rows[f"low_{level:g}"], rows[f"high_{level:g}"] = low, high
    return rows


def distribution_rows(mixture: Mixture, estimate: Array, truth: Array) -> dict[str, NDArray[Any]]:
    """The per-row quantities that need no interval.

    Args:
        mixture: predictive distributions of n rows.
        estimate: (n,) point estimates in the target's unit.
        truth: (n,) labels in the target's unit.

    Returns:
        (n,) arrays by name.
    """
    return {
        "truth": truth,
        "estimate": estimate,
        "error": np.abs(truth - estimate),
        "std": mixture.std(),
        "nll": -mixture.log_density(truth),
        "crps": mixture.crps(truth),
        "pit_low": mixture.cdf_below(truth),
        "pit_high": mixture.cdf(truth),
        "metal_probability": mixture.probability_zero(),
    }


def _of_most_certain(share: float) -> Metric:
    return lambda rows: metrics.error_of_most_certain(rows["error"], rows["std"], share)


POINT_METRICS: dict[str, Metric] = {
    "mae": lambda rows: float(rows["error"].mean()),
    "rmse": lambda rows: metrics.root_mean_squared_error(rows["truth"], rows["estimate"]),
    "r2": lambda rows: metrics.r_squared(rows["truth"], rows["estimate"]),
}

DISTRIBUTION_METRICS: dict[str, Metric] = {
    "nll": lambda rows: float(rows["nll"].mean()),
    "crps": lambda rows: float(rows["crps"].mean()),
    "ence": lambda rows: metrics.expected_normalized_calibration_error(rows["error"], rows["std"]),
    "miscalibration_area": lambda rows: metrics.miscalibration_area(rows["pit_low"], rows["pit_high"]),
}

RANKING_METRICS: dict[str, Metric] = {
    "spearman": lambda rows: metrics.spearman(rows["error"], rows["std"]),
    "ause": lambda rows: metrics.ause(rows["error"], rows["std"]),
    **{f"mae_most_certain_{share * 100:.0f}": _of_most_certain(share) for share in metrics.CERTAIN_SHARES},
}


def _coverage(rows: Rows, level: float) -> float:
    return metrics.coverage(rows["truth"], rows[f"low_{level:g}"], rows[f"high_{level:g}"])


def _width(rows: Rows, level: float) -> float:
    return metrics.mean_width(rows[f"low_{level:g}"], rows[f"high_{level:g}"])


def _per_level(name: str, metric: Callable[[Rows, float], float]) -> dict[str, Metric]:
    return {f"{name}_{level * 100:.0f}": _at_level(metric, level) for level in LEVELS}


def _at_level(metric: Callable[[Rows, float], float], level: float) -> Metric:
    return lambda rows: metric(rows, level)


INTERVAL_METRICS: dict[str, Metric] = {**_per_level("coverage", _coverage), **_per_level("width", _width)}

HURDLE_METRICS: dict[str, Metric] = {
    "roc_auc_metal": lambda rows: metrics.roc_auc(rows["truth"] == 0, rows["metal_probability"])
}


def judge(
    rows: Rows, subsets: Mapping[str, NDArray[np.bool_]], *, is_hurdle: bool, resampling: Resampling
) -> dict[str, dict[str, Any]]:
    """All metrics of each subset, with the subset's number of rows.

    Args:
        rows: (n,) arrays by name, see `judged_rows`.
        subsets: (n,) masks by name.
        is_hurdle: whether zeros of this target are metals, which adds metrics of that classification.
        resampling: resampling for the intervals of the metrics.

    Returns:
        By subset, then by metric: the value with its interval, and `n`.
    """
    chosen = {**POINT_METRICS, **DISTRIBUTION_METRICS, **RANKING_METRICS, **INTERVAL_METRICS}
    if is_hurdle:
        chosen |= HURDLE_METRICS
    judged: dict[str, dict[str, Any]] = {}
    for name, mask in subsets.items():
        part = {key: values[mask] for key, values in rows.items()}
        judged[name] = {"n": int(mask.sum()), **bootstrap(chosen, part, resampling)}
    return judged


def paired_difference(error: Array, other: Array, resampling: Resampling) -> Estimate:
    """Mean error minus another's on the same rows; an interval below zero is a real gain.

    Args:
        error: (n,) absolute errors, in the target's unit.
        other: (n,) absolute errors of the other on the same rows.
        resampling: resampling for the interval.

    Returns:
        The difference with its interval.
    """
    difference: Mapping[str, Metric] = {"mae": lambda rows: float((rows["error"] - rows["other"]).mean())}
    return bootstrap(difference, {"error": error, "other": other}, resampling)["mae"]
