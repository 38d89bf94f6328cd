"""`metrics.json`: one target's figures on the test fold, and beside them everything it is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.bootstrap import Resampling
from matscout.ensemble.calibration import METAL, NON_METAL, TargetCalibration
from matscout.ensemble.comparison import (
    LabelledPredictions,
    compare_calibration,
    compare_combinations,
    compare_constant_width,
    compare_members,
    mean_with_interval,
)
from matscout.ensemble.curves import uncertainty_curves
from matscout.ensemble.intervals import coverage, mean_width
from matscout.ensemble.judgement import judge, judged_rows, paired_difference
from matscout.ensemble.predictions import TargetPrediction

Array = NDArray[np.float64]
Labels = NDArray[np.str_]

N_DECILES = 10


@dataclass(frozen=True)
class RowFacts:
    """What is known of one target's n labelled test rows.

    Attributes:
        truth: (n,) labels.
        strata: (n,) predicted metal or non-metal.
        sources: (n,) database.
        is_metal: (n,) by the label of the gap, false where unknown; null without a gap target.
        distance: (n,) from the training set.
        is_far: (n,) flagged as far.
        baselines: (n,) predictions by baseline.
    """

    truth: Array
    strata: Labels
    sources: Labels
    is_metal: NDArray[np.bool_] | None
    distance: Array
    is_far: NDArray[np.bool_]
    baselines: Mapping[str, Array]


def measure_target(
    fitted: TargetCalibration,
    prediction: TargetPrediction,
    validation: LabelledPredictions,
    test: LabelledPredictions,
    rows: RowFacts,
    *,
    unit: str,
    resampling: Resampling,
) -> dict[str, Any]:
    """Everything that `metrics.json` says about one target.

    Args:
        fitted: on the validation fold.
        prediction: calibrated, for the test rows.
        validation: labelled validation rows, for the comparisons' own fits.
        test: labelled test rows.
        rows: what else is known of the test rows.
        unit: of the target.
        resampling: for the intervals.
    """
    judged = judged_rows(fitted, prediction, rows.truth, strata=rows.strata, sources=rows.sources)
    members = compare_members(validation, test, resampling)
    best = min(members, key=lambda name: members[name]["mae"]["value"])
    best_error = np.abs(rows.truth - test.outputs.members[best].median())
    boosted_error = np.abs(rows.truth - rows.baselines["gradient_boosting"])
    combination = fitted.tuning.combination
    validation_error = np.abs(validation.truth - fitted.tuning.point_estimate(validation.outputs))
    return {
        "unit": unit,
        "n_test": len(rows.truth),
        "n_validation": len(validation.truth),
        "combination": combination.to_json(),
        "ensemble": judge(judged, _subsets(rows), is_hurdle=prediction.mixture.has_hurdle, resampling=resampling),
        "best_member": {"name": best, **members[best]},
        "members": members,
        "combinations": compare_combinations(
            validation, test, drop_factor=combination.drop_factor, resampling=resampling
        ),
        "baselines": {
            name: {"mae": mean_with_interval(np.abs(rows.truth - predicted), resampling)}
            for name, predicted in rows.baselines.items()
        },
        "mae_minus_best_member": paired_difference(judged["error"], best_error, resampling),
        "mae_minus_gradient_boosting": paired_difference(judged["error"], boosted_error, resampling),
        "calibration": compare_calibration(fitted.tuning, test, resampling),
        "constant_width": compare_constant_width(
            validation_error,
            rows.truth,
            prediction.estimate,
            scaled_width=mean_width(judged["low_0.9"], judged["high_0.9"]),
            lower_bound=fitted.lower_bound,
        ),
        "distance_deciles": _deciles(judged, rows.distance),
        "conformal_notes": list(fitted.conformal.notes),
        "curves": uncertainty_curves(judged),
    }


def _subsets(rows: RowFacts) -> dict[str, NDArray[np.bool_]]:
    """All; metals and non-metals by label and by prediction; each source; near and far."""
    subsets = {"all": np.ones(len(rows.truth), dtype=bool)}
    if rows.is_metal is not None:
        subsets |= {"metal": rows.is_metal, "non_metal": ~rows.is_metal}
        subsets |= {f"predicted_{name}": rows.strata == name for name in (METAL, NON_METAL)}
    subsets |= {f"source:{source}": rows.sources == source for source in sorted(set(rows.sources.tolist()))}
    return subsets | {"near": ~rows.is_far, "far": rows.is_far}


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
