"""Which members count and how: against hand computation and exhaustive search."""

import json

import numpy as np
import pytest
from simulated_members import laplace_world

from matscout.ensemble.mixture import Combination, choose_combination, stacking_weights


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def test_median_and_mean_are_numpys(rng):
    estimates = {name: rng.normal(size=20) for name in "abcd"}
    stacked = np.stack(list(estimates.values()))
    for method, function in (("median", np.median), ("mean", np.mean)):
        combination = choose_combination(estimates, np.zeros(20), method=method, drop_factor=None)
        np.testing.assert_allclose(combination.point_estimate(estimates), function(stacked, axis=0))


def test_harmful_member_is_dropped_and_recorded(rng):
    truth = rng.normal(size=300)
    estimates = {name: truth + 0.1 * rng.normal(size=300) for name in "abc"} | {"bad": truth + rng.normal(size=300)}
    combination = choose_combination(estimates, truth, method="median", drop_factor=2.0)
    assert combination.dropped == ("bad",)
    assert list(combination.weights) == ["a", "b", "c"]
    assert combination.validation_mae["bad"] == pytest.approx(np.abs(truth - estimates["bad"]).mean())
    kept = choose_combination(estimates, truth, method="median", drop_factor=None)
    assert kept.dropped == ()


def test_dropped_member_does_not_touch_the_estimate(rng):
    members, truth = laplace_world(rng, 200)
    estimates = {name: member.median() for name, member in members.members.items()} | {"bad": np.full(200, 1e6)}
    combination = choose_combination(estimates, truth, method="mean", drop_factor=2.0)
    assert np.abs(combination.point_estimate(estimates)).max() < 100


def test_stacking_finds_the_best_mixture_of_two():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=400)
    estimates = np.stack([truth + 0.2 * rng.normal(size=400), truth + 0.4 * rng.normal(size=400)], axis=1)
    weights = stacking_weights(estimates, truth)
    shares = np.linspace(0, 1, 2001)
    errors = [np.abs(truth - estimates @ [share, 1 - share]).mean() for share in shares]
    assert np.abs(truth - estimates @ weights).mean() == pytest.approx(min(errors), abs=1e-5)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()


def test_stacking_ignores_a_useless_member(rng):
    truth = rng.normal(size=300)
    estimates = np.stack([truth + 0.1 * rng.normal(size=300), 10 * rng.normal(size=300)], axis=1)
    assert stacking_weights(estimates, truth)[1] < 0.02


def test_json_keeps_everything(rng):
    estimates = {name: rng.normal(size=20) for name in ("z", "a", "m")}
    combination = choose_combination(estimates, np.zeros(20), method="stack", drop_factor=1.5)
    read = Combination.from_json(json.loads(json.dumps(combination.to_json(), sort_keys=True)))
    assert read == combination
    assert list(read.weights) == list(combination.weights)


def test_weights_are_those_of_the_estimate_and_the_mixture_has_all_members_equally(rng):
    members, truth = laplace_world(rng, 300)
    estimates = {name: member.median() for name, member in members.members.items()}
    estimates |= {next(iter(estimates)): truth}  # the first is always right, so that it gets all the weight
    combination = choose_combination(estimates, truth, method="stack", drop_factor=None)
    np.testing.assert_allclose(combination.point_estimate(estimates), truth, atol=1e-6)
    mixture = combination.mixture(members.members)
    np.testing.assert_allclose(mixture.weights, 1 / len(estimates))
    expected = np.mean([member.cdf(truth) for member in members.members.values()], axis=0)
    np.testing.assert_allclose(mixture.cdf(truth), expected)
