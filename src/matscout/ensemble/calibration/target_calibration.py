"""From members to one calibrated prediction per target: combination, temperature, conformal interval.

The validation fold fits all of it. The rows that give the conformal scores must not have tuned what they
score, so scores are cross-fitted: each part of the validation fold is scored by a tuning on the others
(cross-conformal prediction, Vovk 2015), and every row counts. The final tuning uses all of them.

For another population than the validation fold (another database, another chemistry) there are two remedies. With
labels of some of its rows, it gets its own conformal quantiles (`conformal.fit_conformal` gives every source with
enough validation rows its own). Without labels, weighted conformal prediction (Tibshirani et al., "Conformal prediction
under covariate shift", 2019) counts validation rows by how much they resemble the new ones. It corrects for other
materials, not for labels of another meaning.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.ensemble.calibration.conformal import ConformalQuantiles, fit_conformal, weighted_quantile
from matscout.ensemble.mixture import (
    Combination,
    Method,
    Mixture,
    Shape,
    TargetOutputs,
    Temperature,
    central_interval,
    central_scores,
    choose_combination,
    fit_temperature,
    scaled_interval,
    scaled_scores,
)

Array = NDArray[np.float64]
Labels = NDArray[np.str_]

METAL, NON_METAL = "metal", "non_metal"
STRATA = (METAL, NON_METAL)
N_PARTS = 5
SCALE_POWER = 0.75  # not fitted: parts that chose differently would have scores in different units


@dataclass(frozen=True)
class LabelledRows:
    """Validation rows that have one target's label.

    Attributes:
        truth: (n,) labels in the target's unit.
        strata: (n,) as predicted by the ensemble: `metal` or `non_metal`; `all` without a gap target.
        possible_strata: what predictions can fall into, present here or not.
        sources: (n,) database.
        groups: (n,) duplicate group: a whole group is scored by one tuning.
    """

    truth: Array
    strata: Labels
    possible_strata: tuple[str, ...]
    sources: Labels
    groups: Labels


@dataclass(frozen=True)
class TargetPrediction:
    """One target of n crystals: (n,) point estimate and calibrated mixture."""

    estimate: Array
    mixture: Mixture


@dataclass(frozen=True)
class Tuning:
    """What is fitted before the conformal step.

    Attributes:
        combination: members, weights, method.
        temperature: temperature of the mixture.
        scale_power: power of the standard deviation to which `scaled` intervals are proportional: 1 gives rows
            of large spread the widest intervals, 0 gives all rows one width; in between, overconfident rows do not
            dominate the scores.
    """

    combination: Combination
    temperature: Temperature
    scale_power: float

    def mixture(self, outputs: TargetOutputs) -> Mixture:
        """The calibrated predictive distribution."""
        return self.combination.mixture(outputs.members).tempered(self.temperature.at(outputs.distance))

    def point_estimate(self, outputs: TargetOutputs) -> Array:
        """(n,) point estimate, untouched by the temperature."""
        return self.combination.point_estimate(
            {name: outputs.members[name].median() for name in self.combination.weights}
        )

    def predict(self, outputs: TargetOutputs) -> TargetPrediction:
        """Estimate and distribution."""
        return TargetPrediction(self.point_estimate(outputs), self.mixture(outputs))

    def scores(self, shape: Shape, prediction: TargetPrediction, truth: Array) -> Array:
        """Conformal scores: the least quantile whose interval holds the truth.

        Args:
            shape: shape of the intervals.
            prediction: prediction of n crystals.
            truth: (n,) labels in the target's unit.

        Returns:
            (n,).
        """
        if shape == "central":
            return central_scores(truth, prediction.mixture)
        return scaled_scores(truth, prediction.estimate, self.scale(prediction.mixture.std()))

    def interval(self, shape: Shape, prediction: TargetPrediction, quantile: Array) -> tuple[Array, Array]:
        """Intervals at given quantiles of the scores.

        Args:
            shape: shape of the intervals.
            prediction: prediction of n crystals.
            quantile: (n,) quantile of the scores.

        Returns:
            (n,) low and (n,) high in the target's unit.
        """
        if shape == "central":
            return central_interval(quantile, prediction.estimate, prediction.mixture)
        return scaled_interval(quantile, prediction.estimate, self.scale(prediction.mixture.std()))

    def scale(self, spread: Array) -> Array:
        """(n,) what `scaled` intervals are proportional to, from (n,) calibrated standard deviations."""
        return spread**self.scale_power


@dataclass(frozen=True)
class TargetCalibration:
    """Everything that turns members' distributions of one target into its columns.

    Attributes:
        tuning: before the conformal step.
        shape: shape of the intervals; `central` where the property has a least value, which makes distributions
            lopsided.
        conformal: quantiles of the scores.
        lower_bound: least value of the property; None = there is none.
    """

    tuning: Tuning
    shape: Shape
    conformal: ConformalQuantiles
    lower_bound: float | None

    def interval(
        self, prediction: TargetPrediction, strata: Labels, level: float, sources: Labels | None = None
    ) -> tuple[Array, Array]:
        """Intervals by the quantile of each row's stratum and source.

        Args:
            prediction: prediction of n crystals.
            strata: (n,) such as `metal`.
            level: coverage, one of the levels that were fitted.
            sources: (n,) database of each row; None = quantiles of all databases together.

        Returns:
            (n,) low and (n,) high in the target's unit.
        """
        return self.tuning.interval(self.shape, prediction, self.conformal.lookup(strata, level, sources))

    def predict(self, outputs: TargetOutputs) -> TargetPrediction:
        """Estimate and distribution from the members' outputs."""
        return self.tuning.predict(outputs)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; `from_json` reads it back."""
        return {
            "combination": self.tuning.combination.to_json(),
            "temperature": asdict(self.tuning.temperature),
            "scale_power": self.tuning.scale_power,
            "shape": self.shape,
            "conformal": self.conformal.to_json(),
            "lower_bound": self.lower_bound,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """From `to_json`."""
        combination = Combination.from_json(content["combination"])
        tuning = Tuning(combination, Temperature(**content["temperature"]), content["scale_power"])
        conformal = ConformalQuantiles.from_json(content["conformal"])
        return cls(tuning, content["shape"], conformal, content["lower_bound"])


def fit_tuning(
    outputs: TargetOutputs,
    truth: Array,
    *,
    method: Method,
    drop_factor: float | None,
    scale_power: float = SCALE_POWER,
) -> Tuning:
    """Fit combination and temperature on labelled rows that no member was trained on.

    Args:
        outputs: outputs of the members for n rows.
        truth: (n,) labels in the target's unit.
        method: method of combining the members.
        drop_factor: see `Combination`; None keeps all members.
        scale_power: see `Tuning`.

    Returns:
        What is fitted before the conformal step.
    """
    estimates = {name: distribution.median() for name, distribution in outputs.members.items()}
    combination = choose_combination(estimates, truth, method=method, drop_factor=drop_factor)
    mixture = combination.mixture(outputs.members)
    temperature = fit_temperature(mixture, outputs.distance, truth)
    return Tuning(combination, temperature, scale_power)


def fit_target(
    outputs: TargetOutputs,
    rows: LabelledRows,
    *,
    method: Method,
    drop_factor: float | None,
    lower_bound: float | None,
    scale_power: float = SCALE_POWER,
) -> TargetCalibration:
    """Tune on all rows; conformal quantiles from cross-fitted scores.

    Args:
        outputs: outputs of the members for the n validation rows.
        rows: their labels and groups.
        method: method of combining the members.
        drop_factor: see `Combination`; None keeps all members.
        lower_bound: least value of the property, in its unit; None = there is none.
        scale_power: see `Tuning`.

    Returns:
        The target's calibration.

    Raises:
        InputError: there is no row.
    """
    fit = partial(fit_tuning, method=method, drop_factor=drop_factor, scale_power=scale_power)
    shape: Shape = "scaled" if lower_bound is None else "central"
    scores = np.empty(len(rows.truth))
    parts = parts_of(rows.groups)
    for part in np.unique(parts):
        scored = parts == part
        # validation sets of a handful of rows can fall into one part, which then has to tune itself
        fitted = ~scored if not scored.all() else scored
        tuning = fit(outputs.take(fitted), rows.truth[fitted])
        scores[scored] = tuning.scores(shape, tuning.predict(outputs.take(scored)), rows.truth[scored])
    conformal = fit_conformal(scores, rows.strata, rows.sources, expected=rows.possible_strata)
    return TargetCalibration(fit(outputs, rows.truth), shape, conformal, lower_bound)


def strata_of(metal_probability: Array) -> Labels:
    """(n,) `metal` where a gap of zero is at least as likely as not."""
    return np.where(metal_probability >= 0.5, METAL, NON_METAL)


def parts_of(groups: Sequence[str] | Labels, n_parts: int = N_PARTS) -> NDArray[np.int64]:
    """(n,) part of each row, by the hash of its group: stable when other rows come or go."""
    digests = [hashlib.sha256(group.encode()).digest() for group in groups]
    return np.array([int.from_bytes(digest[:8], "big") % n_parts for digest in digests], dtype=np.int64)


SMALLEST_STD = 1e-6
LARGEST_RATIO = 20.0  # of two rows: a larger estimate is extrapolation, and single rows would dominate


def shift_features(table: pd.DataFrame, targets: Sequence[str]) -> Array:
    """(n, n_features) of a prediction table: distance from training, spreads, metal probability.

    A few numbers that decide the error, rather than all of the embedding: the ratio of two densities is
    learnt from hundreds of rows.
    """
    features = [np.log(table[columns.TRAINING_DISTANCE].to_numpy(np.float64) + SMALLEST_STD)]
    features += [np.log(table[target + columns.STD].to_numpy(np.float64) + SMALLEST_STD) for target in targets]
    if columns.METAL_PROBABILITY in table:
        features.append(table[columns.METAL_PROBABILITY].to_numpy(np.float64))
    return np.stack(features, axis=1)


def likelihood_ratios(calibration: Array, new: Array) -> tuple[Array, Array]:
    """Density of the new population over the old one's, (n,) at calibration rows and (m,) at new rows.

    From the odds of a logistic regression that tells the two apart (Tibshirani et al. 2019, eq. 9);
    the common factor does not matter. Ratios are cut at `LARGEST_RATIO` times their median.
    """
    from sklearn.linear_model import LogisticRegression  # nothing that predicts needs it
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(np.concatenate([calibration, new]))
    is_new = np.repeat([0, 1], [len(calibration), len(new)])
    model = LogisticRegression().fit(scaler.transform(np.concatenate([calibration, new])), is_new)
    log_odds = model.decision_function(scaler.transform(np.concatenate([calibration, new])))
    ratio = np.exp(log_odds - np.median(log_odds[: len(calibration)]))
    ratio = np.minimum(ratio, LARGEST_RATIO)
    return ratio[: len(calibration)], ratio[len(calibration) :]


def reweighted_interval(
    calibration: pd.DataFrame, new: pd.DataFrame, target: str, fitted: TargetCalibration, *, targets: Sequence[str]
) -> tuple[Array, Array]:
    """90 % intervals of new rows from the validation rows that resemble them.

    Args:
        calibration: validation rows of predictions.parquet.
        new: m rows of a prediction table.
        target: target whose interval.
        fitted: the target's calibration.
        targets: all targets, whose spreads describe a row.

    Returns:
        (m,) low and (m,) high in the target's unit; infinite where no validation row resembles a new one.
    """
    known = calibration.loc[calibration[target + columns.TRUTH].notna().to_numpy(bool)]
    error = (known[target + columns.TRUTH] - known[target]).abs().to_numpy(np.float64)
    scores = error / _scale(known, target, fitted)
    weights, new_weights = likelihood_ratios(shift_features(known, targets), shift_features(new, targets))
    half_width = weighted_quantile(scores, weights, new_weights, 0.9) * _scale(new, target, fitted)
    estimate = new[target].to_numpy(np.float64)
    low = estimate - half_width
    return (low if fitted.lower_bound is None else np.maximum(low, fitted.lower_bound)), estimate + half_width


def _scale(table: pd.DataFrame, target: str, fitted: TargetCalibration) -> Array:
    return fitted.tuning.scale(table[target + columns.STD].to_numpy(np.float64))
