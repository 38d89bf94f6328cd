"""Calibration of a world whose distributions are known: it must find the truth, and matter."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom
from simulated_members import hurdle_world, laplace_world

from matscout.ensemble.calibration.target_calibration import (
    METAL,
    SCALE_POWER,
    STRATA,
    LabelledRows,
    TargetCalibration,
    fit_target,
    fit_tuning,
    parts_of,
    strata_of,
)
from matscout.ensemble.comparison.metric_table import distribution_rows
from matscout.ensemble.metrics import coverage, miscalibration_area
from matscout.ensemble.mixture import Mixture, TargetOutputs, Temperature, fit_temperature
from matscout.models.families.laplace import Laplace

SETTINGS = {"method": "median", "drop_factor": 2.0}


@pytest.fixture
def rng():
    return np.random.default_rng(21)


def rows_of(truth, strata=None):
    n = len(truth)
    strata = np.full(n, "all") if strata is None else strata
    groups = np.array([f"g{i}" for i in range(n)])
    return LabelledRows(truth, strata, STRATA if METAL in strata else (), np.full(n, "mp"), groups)


def split(members, truth, n_validation):
    rows = np.arange(len(truth))
    validation, test = rows[:n_validation], rows[n_validation:]
    return (members.take(validation), truth[validation]), (members.take(test), truth[test])


@pytest.mark.parametrize("spread_error", [0.25, 1.0, 3.0])
def test_temperature_finds_how_wrong_the_spread_is(spread_error, rng):
    members, truth = laplace_world(rng, 20_000, spread_error=spread_error, member_noise=0.0, n_members=1)
    temperature = fit_temperature(Mixture.of(list(members.members.values())), members.distance, truth).value
    assert temperature == pytest.approx(1 / spread_error, rel=0.03)


def test_temperature_of_an_honest_hurdle_is_one(rng):
    members, truth = hurdle_world(rng, 20_000, member_noise=0.0, n_members=1)
    assert fit_temperature(Mixture.of(list(members.members.values())), members.distance, truth).value == pytest.approx(
        1, abs=0.03
    )
    members, truth = hurdle_world(rng, 20_000, member_noise=0.0, n_members=1, sharpness=2.0)
    assert fit_temperature(Mixture.of(list(members.members.values())), members.distance, truth).value == pytest.approx(
        2, rel=0.1
    )


def test_temperature_finds_how_errors_grow_with_distance(rng):
    distance = np.exp(rng.uniform(-1, 1, 20_000))
    loc, scale = rng.normal(size=20_000), rng.uniform(0.1, 1, 20_000)
    truth = rng.laplace(loc, 1.5 * scale * distance**0.7)
    fitted = fit_temperature(Mixture.of([Laplace(loc, scale)]), distance, truth)
    assert fitted.value == pytest.approx(1.5, rel=0.03)
    assert fitted.distance_exponent == pytest.approx(0.7, abs=0.05)


def test_temperature_never_trusts_far_crystals_more_and_stops_where_it_knows_nothing():
    temperature = Temperature(2.0, 0.5)
    assert temperature.at(np.array([1.0, 4.0, 400.0])).tolist() == [2.0, 4.0, 4.0]
    rng = np.random.default_rng(0)
    distance, loc = np.exp(rng.uniform(-1, 1, 4000)), np.zeros(4000)
    truth = rng.laplace(loc, 1 / distance)
    assert fit_temperature(Mixture.of([Laplace(loc, np.ones(4000))]), distance, truth).distance_exponent == 0


def test_temperature_mends_likelihood_and_calibration(rng):
    members, truth = laplace_world(rng, 6000, spread_error=0.3)
    (seen, seen_truth), (new, new_truth) = split(members, truth, 3000)
    tuning = fit_tuning(seen, seen_truth, **SETTINGS)
    estimate = tuning.point_estimate(new)
    before = distribution_rows(tuning.combination.mixture(new.members), estimate, new_truth)
    after = distribution_rows(tuning.mixture(new), estimate, new_truth)
    assert after["nll"].mean() < before["nll"].mean() - 0.3
    assert miscalibration_area(after["pit_low"], after["pit_high"]) < 0.02
    assert miscalibration_area(before["pit_low"], before["pit_high"]) > 0.1  # what switching it off would leave


def in_binomial_band(share, n, level, n_calibration):
    """Whether a test coverage agrees with the level: binomial noise of the test and beta noise of the calibration."""
    deviation = np.sqrt(level * (1 - level) * (1 / n + 1 / n_calibration))
    return abs(share - level) < 3 * deviation + 1 / n_calibration


@pytest.mark.parametrize("spread_error", [0.3, 1.0])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_intervals_cover_what_they_promise_however_wrong_the_members(spread_error, level, rng):
    members, truth = laplace_world(rng, 5000, spread_error=spread_error)
    (seen, seen_truth), (new, new_truth) = split(members, truth, 1000)
    fitted = fit_target(seen, rows_of(seen_truth), **SETTINGS, lower_bound=None)
    low, high = fitted.interval(fitted.predict(new), np.full(4000, "all"), level)
    assert in_binomial_band(coverage(new_truth, low, high), 4000, level, 1000)


def test_without_calibration_overconfident_members_do_not_cover(rng):
    members, truth = laplace_world(rng, 3000, spread_error=0.3)
    raw = Mixture.of(list(members.members.values()))
    share = coverage(truth, raw.quantile(0.05), raw.quantile(0.95))
    assert share < binom(3000, 0.9).ppf(1e-6) / 3000


def test_coverage_over_many_small_worlds_keeps_the_guarantee():
    # 40 validation rows each: the tuning's freedom must not eat the promise
    shares = []
    for seed in range(60):
        members, truth = laplace_world(np.random.default_rng(seed), 240, spread_error=0.5)
        (seen, seen_truth), (new, new_truth) = split(members, truth, 40)
        fitted = fit_target(seen, rows_of(seen_truth), **SETTINGS, lower_bound=None)
        low, high = fitted.interval(fitted.predict(new), np.full(200, "all"), 0.9)
        shares.append(coverage(new_truth, low, high))
    assert np.mean(shares) > 0.9 - 3 * np.std(shares) / np.sqrt(60)
    assert np.mean(shares) < 0.94


def test_hurdle_intervals_cover_in_both_strata_and_stay_above_zero(rng):
    members, truth = hurdle_world(rng, 9000, member_noise=0.5)
    strata = strata_of(Mixture.of(list(members.members.values())).probability_zero())
    (seen, seen_truth), (new, new_truth) = split(members, truth, 3000)
    fitted = fit_target(seen, rows_of(seen_truth, strata[:3000]), **SETTINGS, lower_bound=0.0)
    estimate = fitted.tuning.point_estimate(new)
    low, high = fitted.interval(fitted.predict(new), strata[3000:], 0.9)
    assert (low >= 0).all()
    assert (low <= estimate).all()
    assert (estimate <= high).all()
    for name in STRATA:
        rows = strata[3000:] == name
        assert coverage(new_truth[rows], low[rows], high[rows]) > 0.885
    assert (
        coverage(new_truth[strata[3000:] == "non_metal"], *(x[strata[3000:] == "non_metal"] for x in (low, high)))
        < 0.915
    )


def test_scaled_intervals_are_narrower_than_constant_ones(rng):
    members, truth = laplace_world(rng, 4000)
    (seen, seen_truth), (new, _) = split(members, truth, 2000)
    fitted = fit_target(seen, rows_of(seen_truth), **SETTINGS, lower_bound=None)
    low, high = fitted.interval(fitted.predict(new), np.full(2000, "all"), 0.9)
    constant = 2 * np.quantile(np.abs(seen_truth - fitted.tuning.point_estimate(seen)), 0.9)
    assert (high - low).mean() < 0.9 * constant


def test_where_spreads_are_noisy_their_power_is_narrower_than_they_are_and_than_one_width(rng):
    members, truth = laplace_world(rng, 12_000, spread_noise=0.3)
    (seen, seen_truth), (new, new_truth) = split(members, truth, 6000)
    widths = {}
    for power in (0.0, SCALE_POWER, 1.0):
        fitted = fit_target(seen, rows_of(seen_truth), **SETTINGS, lower_bound=None, scale_power=power)
        low, high = fitted.interval(fitted.predict(new), np.full(6000, "all"), 0.9)
        assert in_binomial_band(coverage(new_truth, low, high), 6000, 0.9, 6000)
        widths[power] = (high - low).mean()
    assert widths[SCALE_POWER] < 0.95 * widths[1.0]
    assert widths[SCALE_POWER] < 0.95 * widths[0.0]


def test_a_hurdle_s_central_intervals_are_narrower_than_scaled_ones_that_cover_as_much(rng):
    members, truth = hurdle_world(rng, 6000, member_noise=0.5)
    (seen, seen_truth), (new, new_truth) = split(members, truth, 3000)
    everywhere = np.full(3000, "all")
    central = fit_target(seen, rows_of(seen_truth), **SETTINGS, lower_bound=0.0)
    scaled = fit_target(seen, rows_of(seen_truth), **SETTINGS, lower_bound=None)
    assert (central.shape, scaled.shape) == ("central", "scaled")
    found = {}
    for fitted in (central, scaled):
        low, high = fitted.interval(fitted.predict(new), everywhere, 0.9)
        low = np.maximum(low, 0)
        assert coverage(new_truth, low, high) == pytest.approx(0.9, abs=0.025)
        found[fitted.shape] = (high - low).mean()
    assert found["central"] < 0.9 * found["scaled"]


def test_one_overcertain_row_does_not_break_the_score(rng):
    members, truth = laplace_world(rng, 500)
    parameters = members.members["m0"].parameters().copy()
    certain = {name: type(m).from_parameters(parameters * [1.0, 1e-12]) for name, m in members.members.items()}
    fitted = fit_target(TargetOutputs(certain, members.distance), rows_of(truth), **SETTINGS, lower_bound=None)
    assert np.isfinite(list(fitted.conformal.quantiles["all"].values())).all()


def test_duplicate_groups_stay_in_one_part():
    parts = parts_of(["a", "b", "a", "c", "b"])
    assert parts[0] == parts[2]
    assert parts[1] == parts[4]
    assert len(set(parts_of([f"x{i}" for i in range(200)]).tolist())) == 5


def test_stratum_is_metal_from_even_odds():
    assert strata_of(np.array([0.2, 0.5, 0.9])).tolist() == ["non_metal", "metal", "metal"]


def test_json_round_trip_predicts_the_same(rng):
    members, truth = hurdle_world(rng, 400)
    strata = strata_of(Mixture.of(list(members.members.values())).probability_zero())
    fitted = fit_target(members, rows_of(truth, strata), **SETTINGS, lower_bound=0.0)
    assert TargetCalibration.from_json(json.loads(json.dumps(fitted.to_json(), sort_keys=True))) == fitted


def test_method_decides_the_estimate(rng):
    members, truth = laplace_world(rng, 300)
    estimates = np.stack([m.median() for m in members.members.values()])
    tuned = fit_tuning(members, truth, method="mean", drop_factor=None)
    np.testing.assert_allclose(tuned.point_estimate(members), estimates.mean(axis=0))
    assert replace(tuned, temperature=Temperature(9.0, 0.0)).point_estimate(members) == pytest.approx(
        tuned.point_estimate(members)
    )
