"""The ensemble beside what it must beat: single members, other ways to combine, baselines, constant widths."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.calibration.target_calibration import LabelledRows, Tuning, fit_target, tune
from matscout.ensemble.comparison.metric_table import (
    DISTRIBUTION_METRICS,
    POINT_METRICS,
    distribution_rows,
    judged_rows,
    paired_difference,
)
from matscout.ensemble.distributions.combination import METHODS
from matscout.ensemble.distributions.mixture import TargetOutputs
from matscout.ensemble.metrics.bootstrap import Estimate, Resampling, bootstrap
from matscout.ensemble.metrics.interval_metrics import coverage, mean_width

Array = NDArray[np.float64]

LEVEL = 0.9


@dataclass(frozen=True)
class LabelledPredictions:
    """One fold's labelled rows and the members' outputs for the same rows."""

    outputs: TargetOutputs
    rows: LabelledRows

    @property
    def truth(self) -> Array:
        """(n,) labels."""
        return self.rows.truth


def compare_combinations(
    validation: LabelledPredictions,
    test: LabelledPredictions,
    error: Array,
    *,
    drop_factor: float | None,
    resampling: Resampling,
) -> dict[str, dict[str, Any]]:
    """Error of every way to combine: harmful members dropped, and (`_of_all`) kept; and what the ensemble's is less.

    Args:
        validation: what each way is fitted on.
        test: what it is judged on.
        error: (n,) absolute errors of the ensemble on the test rows.
        drop_factor: see `Combination`.
        resampling: for the intervals.
    """
    table: dict[str, dict[str, Any]] = {}
    for method in METHODS:
        for suffix, factor in (("", drop_factor), ("_of_all", None)):
            tuning = tune(validation.outputs, validation.truth, method=method, drop_factor=factor)
            this_error = np.abs(test.truth - tuning.point_estimate(test.outputs))
            table[method + suffix] = {
                "mae": mean_with_interval(this_error, resampling),
                "ensemble_mae_minus_this": paired_difference(error, this_error, resampling),
                "validation_mae": float(np.abs(validation.truth - tuning.point_estimate(validation.outputs)).mean()),
                "weights": tuning.combination.weights,
            }
    return table


def rows_of_members(
    validation: LabelledPredictions, test: LabelledPredictions, *, lower_bound: float | None
) -> dict[str, dict[str, NDArray[Any]]]:
    """What the metrics need of each member alone, as if it were the ensemble: calibrated by itself, in the same strata.

    Returns:
        By member, see `metric_table.judged_rows`.
    """
    judged = {}
    for name in test.outputs.members:
        fitted = fit_target(
            validation.outputs.only(name), validation.rows, method="mean", drop_factor=None, lower_bound=lower_bound
        )
        alone = fitted.predict(test.outputs.only(name))
        judged[name] = judged_rows(fitted, alone, test.truth, strata=test.rows.strata, sources=test.rows.sources)
    return judged


def compare_calibration(tuning: Tuning, test: LabelledPredictions, resampling: Resampling) -> dict[str, Any]:
    """Quality of the predictive distribution before and after the temperature."""
    estimate = tuning.point_estimate(test.outputs)
    judged = {}
    for name, mixture in (
        ("before", tuning.combination.mixture(test.outputs.members)),
        ("after", tuning.mixture(test.outputs)),
    ):
        rows = distribution_rows(mixture, estimate, test.truth)
        low, high = mixture.quantile((1 - LEVEL) / 2), mixture.quantile((1 + LEVEL) / 2)
        judged[name] = {
            **bootstrap(DISTRIBUTION_METRICS, rows, resampling),
            "quantile_coverage_90": coverage(test.truth, low, high),
            "quantile_width_90": mean_width(low, high),
        }
    return judged


def mean_with_interval(error: Array, resampling: Resampling) -> Estimate:
    """Mean absolute error with its bootstrap interval."""
    return bootstrap({"mae": POINT_METRICS["mae"]}, {"error": error}, resampling)["mae"]
