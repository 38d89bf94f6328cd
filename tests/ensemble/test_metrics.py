"""Metrics against definitions, brute force and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import norm, spearmanr
from sklearn.metrics import r2_score, roc_auc_score

from matscout.ensemble import metrics
from matscout.ensemble.metrics import Resampling, bootstrap


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_point_errors_are_their_definitions(rng):
    truth, estimate = rng.normal(size=50), rng.normal(size=50)
    assert metrics.root_mean_squared_error(truth, estimate) == pytest.approx(np.sqrt(np.mean((truth - estimate) ** 2)))
    assert metrics.mean_absolute_error(truth, estimate) == pytest.approx(np.mean(abs(truth - estimate)))
    assert metrics.r_squared(truth, estimate) == pytest.approx(r2_score(truth, estimate))
    assert np.isnan(metrics.r_squared(np.ones(3), np.zeros(3)))


def test_ranks_agree_with_scipy_and_sklearn_with_ties(rng):
    first, second = rng.integers(0, 6, 80).astype(float), rng.integers(0, 6, 80).astype(float)
    assert metrics.spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    positive = rng.random(80) < 0.3
    assert metrics.roc_auc(positive, first) == pytest.approx(roc_auc_score(positive, first))


def test_undefined_is_nan():
    assert np.isnan(metrics.spearman(np.ones(4), np.arange(4.0)))
    assert np.isnan(metrics.roc_auc(np.ones(4, bool), np.arange(4.0)))
    assert np.isnan(metrics.ause(np.zeros(4), np.arange(4.0)))


def test_sparsification_by_brute_force(rng):
    error, spread = rng.random(30), rng.random(30)
    curve = metrics.sparsification_curve(error, spread)
    for n_removed in range(30):
        kept = sorted(range(30), key=lambda i: spread[i])[: 30 - n_removed]
        assert curve[n_removed] == pytest.approx(np.mean(error[kept]))


def test_ause_bounds(rng):
    error = rng.random(400)
    assert metrics.ause(error, error) == pytest.approx(0)
    assert metrics.ause(error, error**3) == pytest.approx(0)  # only the ranks count
    constant = metrics.ause(error, np.ones(400))
    # the oracle's curve of uniform errors is E (1 - f), the flat one E: area 1/2
    assert constant == pytest.approx(0.5, abs=0.05)
    assert metrics.ause(error, -error) > constant


def test_metrics_do_not_depend_on_the_order_of_rows(rng):
    error, spread = rng.random(60), rng.integers(0, 4, 60).astype(float)
    order = rng.permutation(60)
    assert metrics.ause(error, spread) == pytest.approx(metrics.ause(error[order], spread[order]))


def test_most_certain_share(rng):
    error, spread = np.arange(10.0), np.arange(10.0)
    assert metrics.error_of_most_certain(error, spread, 0.5) == pytest.approx(2.0)
    assert metrics.error_of_most_certain(error, spread, 1.0) == pytest.approx(4.5)
    assert metrics.error_of_most_certain(error[:1], spread[:1], 0.05) == 0


def test_ence_of_calibrated_gaussians_is_small_and_of_halved_spreads_is_one(rng):
    spread = rng.uniform(0.2, 2, 200_000)
    error = np.abs(rng.normal(size=200_000)) * spread
    assert metrics.expected_normalized_calibration_error(error, spread) < 0.02
    assert metrics.expected_normalized_calibration_error(error, spread / 2) == pytest.approx(1, abs=0.03)
    assert np.isnan(metrics.expected_normalized_calibration_error(error[:5], np.zeros(5)))


@pytest.mark.parametrize("n", [1, 7, 23, 40])
def test_ence_is_its_definition_bin_by_bin(n):
    rng = np.random.default_rng(n)
    error, spread = rng.exponential(size=n), np.where(rng.random(n) < 0.2, 0.0, rng.uniform(0.1, 2, n))
    terms = []
    for rows in np.array_split(np.argsort(spread, kind="stable"), min(metrics.N_BINS, n)):
        predicted, found = (np.sqrt(np.mean(values[rows] ** 2)) for values in (spread, error))
        terms += [abs(predicted - found) / predicted] if predicted > 0 else []
    expected = np.mean(terms) if terms else np.nan
    assert metrics.expected_normalized_calibration_error(error, spread) == pytest.approx(expected, nan_ok=True)


def test_miscalibration_area_of_gaussians(rng):
    truth = rng.normal(size=100_000)
    calibrated = norm.cdf(truth)
    assert metrics.miscalibration_area(calibrated, calibrated) < 0.005
    # spreads twice too small: observed share below the level-p quantile is Phi(z_p / 2)
    narrow = norm.cdf(truth / 0.5)
    levels = metrics.LEVEL_GRID[1:-1]
    expected = np.abs(norm.cdf(norm.ppf(levels) / 2) - levels).mean() * 0.98
    assert metrics.miscalibration_area(narrow, narrow) == pytest.approx(expected, abs=0.005)


def test_an_atom_predicted_rightly_is_calibrated(rng):
    is_zero = rng.random(100_000) < 0.4
    pit = np.where(is_zero, 0.4, 0.4 + 0.6 * rng.random(100_000))
    low = np.where(is_zero, 0.0, pit)
    assert metrics.miscalibration_area(low, pit) < 0.005
    assert metrics.miscalibration_area(pit, pit) > 0.05  # the jump taken for a point would look miscalibrated


def test_bootstrap_interval_of_a_mean_is_the_central_limit(rng):
    rows = {"x": rng.normal(size=400)}
    estimate = bootstrap({"mean": lambda r: float(r["x"].mean())}, rows, Resampling(2000, 1))["mean"]
    half_width = (estimate["high"] - estimate["low"]) / 2
    assert half_width == pytest.approx(1.96 * rows["x"].std() / 20, rel=0.1)
    again = bootstrap({"mean": lambda r: float(r["x"].mean())}, rows, Resampling(2000, 1))["mean"]
    assert again == estimate


def test_bootstrap_of_nothing_is_null():
    nothing = bootstrap({"mean": lambda r: float(r["x"].mean())}, {"x": np.empty(0)}, Resampling(10, 1))
    assert nothing == {"mean": {"value": None, "low": None, "high": None}}
