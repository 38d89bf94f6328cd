"""What scaling by the spread is worth: intervals of one width for all rows beside ours, on the same test rows.

Two comparisons. A constant width of the same coverage overall pays for the easy rows with the hard ones: it
covers too few of the rows that are far or doubtful. So a second constant is as wide as it must be for no
stratum to lie below `FLOOR`, which is what ours has to hold too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.calibration.conformal import FEWEST_ROWS, conformal_quantile
from matscout.ensemble.calibration.target_calibration import LabelledRows, TargetPrediction
from matscout.ensemble.metrics.interval_metrics import coverage, mean_width

Array = NDArray[np.float64]
Masks = dict[str, NDArray[np.bool_]]

LEVEL = 0.9
FLOOR = 0.85  # least coverage of a stratum
N_GROUPS = 5  # strata by distance and by spread: fifths of the validation rows


@dataclass(frozen=True)
class Judged:
    """n labelled rows: error of the estimate, and what decides their stratum."""

    truth: Array
    estimate: Array
    spread: Array
    distance: Array
    strata: NDArray[np.str_]

    @classmethod
    def of(cls, rows: LabelledRows, prediction: TargetPrediction, distance: Array) -> Self:
        """From labels, calibrated predictions and distances of the same rows."""
        return cls(rows.truth, prediction.estimate, prediction.mixture.std(), distance, rows.strata)

    @property
    def error(self) -> Array:
        """(n,) absolute."""
        return np.abs(self.truth - self.estimate)


def compare_widths(
    validation: Judged, test: Judged, ours: tuple[Array, Array], *, lower_bound: float | None
) -> dict[str, Any]:
    """Mean width, coverage and coverage of every stratum: one width, one width that holds the floor, ours.

    Args:
        validation: rows that set the constant widths and the borders of the fifths.
        test: rows that judge.
        ours: (n,) low and high of the 90 % intervals of the test rows.
        lower_bound: see `TargetCalibration`; null = none. Constant widths are told with and without the cut there.
    """
    borders = _borders(validation)
    seen, new = strata_by_name(validation, borders), strata_by_name(test, borders)
    usual = _quantile(validation.error, LEVEL)
    floors = [_quantile(validation.error[rows], FLOOR) for rows in seen.values() if rows.sum() >= FEWEST_ROWS]
    holding = max([usual, *floors])
    judged = {"scaled": _judge(test, ours, new)}
    for name, constant in (("constant", usual), ("constant_holding_floor", holding)):
        low, high = test.estimate - constant, test.estimate + constant
        judged[name] = _judge(test, (low if lower_bound is None else np.maximum(low, lower_bound), high), new)
        judged[name]["narrower_by"] = _narrower(judged["scaled"]["width_90"], judged[name]["width_90"])
        judged[name]["width_90_uncut"] = 2 * constant
        judged[name]["narrower_by_uncut"] = _narrower(judged["scaled"]["width_90"], 2 * constant)
    return {**judged, "strata": {name: int(rows.sum()) for name, rows in new.items()}}


def strata_by_name(rows: Judged, borders: Mapping[str, Array]) -> Masks:
    """(n,) masks: what the ensemble takes a row for, fifths by distance, fifths by spread."""
    masks: Masks = {f"predicted {name}": rows.strata == name for name in sorted(set(rows.strata.tolist()))}
    for name, values in (("distance", rows.distance), ("spread", rows.spread)):
        group = np.digitize(values, borders[name])
        masks |= {f"{name}, fifth {g + 1}": group == g for g in range(N_GROUPS)}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _borders(validation: Judged) -> dict[str, Array]:
    inner = np.linspace(0, 1, N_GROUPS + 1)[1:-1]
    return {"distance": np.quantile(validation.distance, inner), "spread": np.quantile(validation.spread, inner)}


def _quantile(error: Array, level: float) -> float:
    return min(conformal_quantile(error, level), float(error.max()))


def _judge(test: Judged, interval: tuple[Array, Array], strata: Masks) -> dict[str, Any]:
    low, high = interval
    by_stratum = {name: coverage(test.truth[rows], low[rows], high[rows]) for name, rows in strata.items()}
    counted = [by_stratum[name] for name, rows in strata.items() if rows.sum() >= FEWEST_ROWS]
    return {
        "coverage_90": coverage(test.truth, low, high),
        "width_90": mean_width(low, high),
        "median_width_90": float(np.median(high - low)),
        "least_coverage_of_a_stratum": min(counted, default=None),
        "coverage_by_stratum": by_stratum,
    }


def _narrower(ours: float, constant: float) -> float:
    return 1 - ours / constant if constant > 0 else 0.0
