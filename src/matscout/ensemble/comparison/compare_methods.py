"""Compare the ensemble with single members, other ways to combine them, baselines, and constant widths.

The value of scaling by the spread shows in comparison with intervals of one width for all rows, on the same test rows.
A constant width with the same overall coverage covers too many easy rows and too few of those that are uncertain or far
from the training set. A second constant is therefore wide enough that no stratum falls below `FLOOR`, which the scaled
intervals have to reach too.

The baselines are trained on the same rows: a constant, and gradient boosting on compositions. Its features are those
of Ward et al., "A general-purpose machine learning framework for predicting properties of inorganic materials" (2016),
section "composition-based": weighted mean, mean absolute deviation, minimum, maximum and range of the tabulated
properties of the elements present, and the number of elements.

`metrics.json` holds these figures for each target, all of them on the test fold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from matscout.ensemble.calibration.conformal import FEWEST_ROWS, conformal_quantile
from matscout.ensemble.calibration.target_calibration import (
    METAL,
    NON_METAL,
    LabelledRows,
    TargetCalibration,
    TargetPrediction,
    Tuning,
    fit_target,
    fit_tuning,
)
from matscout.ensemble.comparison.metric_table import (
    DISTRIBUTION_METRICS,
    POINT_METRICS,
    distribution_rows,
    judge,
    judged_rows,
    paired_difference,
)
from matscout.ensemble.metrics import Estimate, Resampling, bootstrap, coverage, mean_width, uncertainty_curves
from matscout.ensemble.mixture import METHODS, TargetOutputs
from matscout.models.layers.element_embedding import element_table

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
    """Error of every way to combine members, with harmful members dropped and (`_of_all`) with all members.

    Args:
        validation: what each way is fitted on.
        test: what its error is measured on.
        error: (n,) absolute errors of the ensemble on the test rows, in the target's unit.
        drop_factor: see `Combination`; None keeps all members.
        resampling: resampling for the intervals of the metrics.

    Returns:
        By combination: `mae`, `ensemble_mae_minus_this`, `validation_mae` and `weights`.
    """
    table: dict[str, dict[str, Any]] = {}
    for method in METHODS:
        for suffix, factor in (("", drop_factor), ("_of_all", None)):
            tuning = fit_tuning(validation.outputs, validation.truth, method=method, drop_factor=factor)
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
    """What the metrics need of each member alone, calibrated by itself in the same strata.

    Args:
        validation: rows that calibrate a member.
        test: rows that the metrics are taken on.
        lower_bound: least value of the property, in its unit; None = there is none.

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
    """Quality of the predictive distribution before and after the temperature.

    Args:
        tuning: fitted on the validation fold.
        test: labelled test rows.
        resampling: resampling for the intervals of the metrics.

    Returns:
        `before` and `after`: negative log-likelihood, CRPS, calibration errors, coverage and width of 90 % intervals.
    """
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


Masks = dict[str, NDArray[np.bool_]]

FLOOR = 0.85  # least coverage of a stratum
N_GROUPS = 5  # strata by distance and by spread: fifths of the validation rows


@dataclass(frozen=True)
class LabelledEstimates:
    """n labelled rows: error of the estimate, and what decides their stratum."""

    truth: Array
    estimate: Array
    spread: Array
    distance: Array
    strata: NDArray[np.str_]

    @classmethod
    def of(cls, rows: LabelledRows, prediction: TargetPrediction, distance: Array) -> Self:
        """Gather what decides the widths of n rows.

        Args:
            rows: labels and strata.
            prediction: calibrated, of the same rows.
            distance: (n,) from the training set.

        Returns:
            The n rows.
        """
        return cls(rows.truth, prediction.estimate, prediction.mixture.std(), distance, rows.strata)

    @property
    def error(self) -> Array:
        """(n,) absolute."""
        return np.abs(self.truth - self.estimate)


def compare_widths(
    validation: LabelledEstimates, test: LabelledEstimates, ours: tuple[Array, Array], *, lower_bound: float | None
) -> dict[str, Any]:
    """Width and coverage of our intervals, of one constant width, and of a constant width that holds the floor.

    Args:
        validation: rows that set the constant widths and the borders of the fifths.
        test: n rows that widths and coverage are measured on.
        ours: (n,) low and (n,) high of the 90 % intervals of the test rows.
        lower_bound: least value of the property; None = there is none. Constant widths are given with and without the
            cut there.

    Returns:
        By kind of interval: mean width in the target's unit, coverage, coverage of every stratum; `strata`: rows of
        each.
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


def strata_by_name(rows: LabelledEstimates, borders: Mapping[str, Array]) -> Masks:
    """(n,) masks: predicted kind, fifths by distance, fifths by spread."""
    masks: Masks = {f"predicted {name}": rows.strata == name for name in sorted(set(rows.strata.tolist()))}
    for name, values in (("distance", rows.distance), ("spread", rows.spread)):
        group = np.digitize(values, borders[name])
        masks |= {f"{name}, fifth {g + 1}": group == g for g in range(N_GROUPS)}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _borders(validation: LabelledEstimates) -> dict[str, Array]:
    inner = np.linspace(0, 1, N_GROUPS + 1)[1:-1]
    return {"distance": np.quantile(validation.distance, inner), "spread": np.quantile(validation.spread, inner)}


def _quantile(error: Array, level: float) -> float:
    return min(conformal_quantile(error, level), float(error.max()))


def _judge(test: LabelledEstimates, interval: tuple[Array, Array], strata: Masks) -> dict[str, Any]:
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


BOOSTING_ROUNDS = 400
LEARNING_RATE = 0.08


def baseline_predictions(
    training_features: Array, training_labels: Array, features: Array, *, lower_bound: float | None, seed: int
) -> dict[str, Array]:
    """Predict new rows with models that the ensemble must beat.

    Args:
        training_features: (n, n_features) composition features of the labelled training rows.
        training_labels: (n,) in the target's unit.
        features: (m, n_features) features of the rows to predict.
        lower_bound: least value of the property, in its unit; None = there is none.
        seed: seed of the gradient boosting.

    Returns:
        (m,) predictions in the target's unit by baseline: `mean`, `median`, `gradient_boosting`.
    """
    boosting = HistGradientBoostingRegressor(
        loss="absolute_error",  # the error that the table compares
        max_iter=BOOSTING_ROUNDS,
        learning_rate=LEARNING_RATE,
        max_leaf_nodes=31,
        early_stopping=False,  # pyright: ignore[reportArgumentType] (documented as bool or "auto")
        random_state=seed,
    )
    # its threads spin while they wait and slow down whatever shares the cores: one thread is faster, and exact
    with threadpool_limits(limits=1, user_api="openmp"):
        boosted = boosting.fit(training_features, training_labels).predict(features)
    return {
        "mean": np.full(len(features), training_labels.mean()),
        "median": np.full(len(features), np.median(training_labels)),
        "gradient_boosting": boosted if lower_bound is None else np.maximum(boosted, lower_bound),
    }


def composition_features(fractions: Array) -> Array:
    """(n, 118) atomic fractions -> (n, n_features)."""
    table = element_table().astype(np.float64)
    fractions = np.pad(fractions, ((0, 0), (1, 0)))  # by atomic number, from 0, as the table
    present = fractions > 0
    mean = fractions @ table
    blocks = [mean, *(_extremes(present, table)), _mean_absolute_deviation(fractions, mean, table)]
    norms = np.stack([present.sum(axis=1), np.square(fractions).sum(axis=1), fractions.max(axis=1)], axis=1)
    return np.concatenate([*blocks, norms], axis=1)


def _extremes(present: NDArray[np.bool_], table: Array) -> tuple[Array, Array, Array]:
    low = np.stack([np.where(present, column, np.inf).min(axis=1) for column in table.T], axis=1)
    high = np.stack([np.where(present, column, -np.inf).max(axis=1) for column in table.T], axis=1)
    return low, high, high - low


def _mean_absolute_deviation(fractions: Array, mean: Array, table: Array) -> Array:
    columns = [
        (fractions * np.abs(column - mean[:, [position]])).sum(axis=1) for position, column in enumerate(table.T)
    ]
    return np.stack(columns, axis=1)


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
