"""Intervals for another population than the validation fold: another database, another chemistry.

Two remedies. With labels of some of its rows, its own conformal quantiles (`conformal.fit_conformal`
gives every source with enough validation rows its own). Without labels, weighted conformal prediction
(Tibshirani et al., "Conformal prediction under covariate shift", 2019): validation rows count by how
much they resemble the new ones. It corrects for other materials, not for labels of another meaning.
Nothing that predicts imports this file: it loads scikit-learn.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from matscout import columns
from matscout.ensemble.calibration.conformal import weighted_quantile
from matscout.ensemble.calibration.target_calibration import TargetCalibration

Array = NDArray[np.float64]

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
