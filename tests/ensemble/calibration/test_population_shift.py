"""Weighted conformal prediction on a simulated shift with known answer."""

import numpy as np
import pandas as pd
import pytest

from matscout.ensemble.calibration.conformal import conformal_quantile, fit_conformal
from matscout.ensemble.calibration.target_calibration import (
    TargetCalibration,
    Tuning,
    likelihood_ratios,
    reweighted_interval,
)
from matscout.ensemble.metrics import coverage
from matscout.ensemble.mixture import Combination, Temperature


@pytest.fixture
def rng():
    return np.random.default_rng(6)


def test_ratio_of_two_gaussians_is_the_exponential_of_the_shift(rng):
    # N(1, 1) over N(0, 1) at x is exp(x - 1/2)
    old, new = rng.normal(size=(20_000, 1)), rng.normal(size=(20_000, 1)) + 1
    ratio, _ = likelihood_ratios(old, new)
    inside = np.abs(old[:, 0]) < 1.5
    expected = np.exp(old[inside, 0])
    np.testing.assert_allclose(ratio[inside] / ratio[inside].mean(), expected / expected.mean(), rtol=0.1)


def world(rng, n, distance):
    """Errors grow with the distance from training faster than the predicted spread does."""
    std = rng.uniform(0.1, 0.3, n)
    estimate = rng.uniform(0, 3, n)
    truth = estimate + std * distance**2 * rng.laplace(size=n)
    return pd.DataFrame(
        {"gap": estimate, "gap_std": std, "gap_true": truth, "training_distance": distance, "metal_probability": 0.1}
    )


def test_far_rows_are_covered_after_reweighting_and_not_before(rng):
    seen = world(rng, 4000, rng.uniform(0.5, 2.0, 4000))
    far = world(rng, 2000, 2.0 - 0.4 * rng.random(2000))
    scores = np.abs(seen["gap_true"] - seen["gap"]).to_numpy() / seen["gap_std"].to_numpy()
    strata = np.full(4000, "all")
    combination = Combination("median", {"m": 1.0}, {"m": 0.1}, None)
    fitted = TargetCalibration(
        Tuning(combination, Temperature(1.0, 0.0), 1.0),
        "scaled",
        fit_conformal(scores, strata, strata, expected=()),
        lower_bound=None,
    )
    half_width = conformal_quantile(scores, 0.9) * far["gap_std"].to_numpy()
    truth = far["gap_true"].to_numpy()
    before = coverage(truth, far["gap"].to_numpy() - half_width, far["gap"].to_numpy() + half_width)
    after = coverage(truth, *reweighted_interval(seen, far, "gap", fitted, targets=["gap"]))
    assert before < 0.85
    assert 0.87 < after < 0.94
