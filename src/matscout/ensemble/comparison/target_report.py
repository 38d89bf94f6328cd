"""`metrics.json`: one target's figures on the test fold, and those of everything that it is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.calibration.target_calibration import METAL, NON_METAL, LabelledRows, TargetCalibration
from matscout.ensemble.comparison.compare_methods import (
    LEVEL,
    LabelledEstimates,
    LabelledPredictions,
    compare_calibration,
    compare_combinations,
    compare_widths,
    mean_with_interval,
    rows_of_members,
)
from matscout.ensemble.comparison.metric_table import judge, judged_rows, paired_difference
from matscout.ensemble.metrics import Resampling, coverage, mean_width, uncertainty_curves

Array = NDArray[np.float64]

N_DECILES = 10


@dataclass(frozen=True)
class RowFacts:
    """What is known of one target's n labelled test rows beside their `LabelledRows`.

    Attributes:
        is_metal: (n,) whether the label of the gap is a metal's, False where unknown; None without a gap target.
        distance: (n,) from the training set.
        is_far: (n,) flagged as far.
        baselines: (n,) predictions by baseline.
    """

    is_metal: NDArray[np.bool_] | None
    distance: Array
    is_far: NDArray[np.bool_]
    baselines: Mapping[str, Array]


def measure_target(
    fitted: TargetCalibration,
    validation: LabelledPredictions,
    test: LabelledPredictions,
    facts: RowFacts,
    *,
    unit: str,
    resampling: Resampling,
) -> dict[str, Any]:
    """Everything that `metrics.json` says about one target.

    Args:
        fitted: on the validation fold.
        validation: labelled validation rows, for the comparisons' own fits.
        test: labelled test rows.
        facts: what else is known of the test rows.
        unit: unit of the target, as text.
        resampling: resampling for the intervals of the metrics.

    Returns:
        The target's block of `metrics.json`.
    """
    prediction = fitted.predict(test.outputs)
    judged = judged_rows(fitted, prediction, test.truth, strata=test.rows.strata, sources=test.rows.sources)
    subsets = _subsets(test.rows, facts)
    is_hurdle = prediction.mixture.has_hurdle
    alone = rows_of_members(validation, test, lower_bound=fitted.lower_bound)
    best = min(alone, key=lambda name: alone[name]["error"].mean())  # in hindsight, which favours the member
    every = {"all": subsets["all"]}
    members = {
        name: judge(rows, every, is_hurdle=is_hurdle, resampling=resampling)["all"] for name, rows in alone.items()
    }
    boosted_error = np.abs(test.truth - facts.baselines["gradient_boosting"])
    combination = fitted.tuning.combination
    return {
        "unit": unit,
        "n_test": len(test.truth),
        "n_validation": len(validation.truth),
        "combination": combination.to_json(),
        "ensemble": judge(judged, subsets, is_hurdle=is_hurdle, resampling=resampling),
        "best_member": {
            "name": best,
            "rows": judge(alone[best], subsets, is_hurdle=is_hurdle, resampling=resampling),
        },
        "members": {
            name: {**metrics, "validation_mae": combination.validation_mae[name]} for name, metrics in members.items()
        },
        "combinations": compare_combinations(
            validation, test, judged["error"], drop_factor=combination.drop_factor, resampling=resampling
        ),
        "baselines": {
            name: {"mae": mean_with_interval(np.abs(test.truth - predicted), resampling)}
            for name, predicted in facts.baselines.items()
        },
        "mae_minus_best_member": paired_difference(judged["error"], alone[best]["error"], resampling),
        "mae_minus_gradient_boosting": paired_difference(judged["error"], boosted_error, resampling),
        "calibration": compare_calibration(fitted.tuning, test, resampling),
        "widths": _widths(fitted, validation, test),
        "distance_deciles": _deciles(judged, facts.distance),
        "conformal_notes": list(fitted.conformal.notes),
        "curves": uncertainty_curves(judged),
    }


def _subsets(rows: LabelledRows, facts: RowFacts) -> dict[str, NDArray[np.bool_]]:
    """All; metals and non-metals by label and by prediction; each source; near and far."""
    subsets = {"all": np.ones(len(rows.truth), dtype=bool)}
    if facts.is_metal is not None:
        subsets |= {"metal": facts.is_metal, "non_metal": ~facts.is_metal}
        subsets |= {f"predicted_{name}": rows.strata == name for name in (METAL, NON_METAL)}
    subsets |= {f"source:{source}": rows.sources == source for source in sorted(set(rows.sources.tolist()))}
    return subsets | {"near": ~facts.is_far, "far": facts.is_far}


def _widths(fitted: TargetCalibration, validation: LabelledPredictions, test: LabelledPredictions) -> dict[str, Any]:
    prediction = fitted.predict(test.outputs)
    return compare_widths(
        LabelledEstimates.of(validation.rows, fitted.predict(validation.outputs), validation.outputs.distance),
        LabelledEstimates.of(test.rows, prediction, test.outputs.distance),
        fitted.interval(prediction, test.rows.strata, LEVEL, test.rows.sources),
        lower_bound=fitted.lower_bound,
    )


def _deciles(judged: Mapping[str, NDArray[Any]], distance: Array) -> list[dict[str, float]]:
    """Error, spread and coverage by distance from the training set, nearest tenth first."""
    order = np.argsort(distance, kind="stable")
    return [
        {
            "n": len(part),
            "distance_low": float(distance[part].min()),
            "distance_high": float(distance[part].max()),
            "mae": float(judged["error"][part].mean()),
            "mean_std": float(judged["std"][part].mean()),
            "coverage_90": coverage(judged["truth"][part], judged["low_0.9"][part], judged["high_0.9"][part]),
            "width_90": mean_width(judged["low_0.9"][part], judged["high_0.9"][part]),
        }
        for part in np.array_split(order, min(N_DECILES, len(order)))
    ]
