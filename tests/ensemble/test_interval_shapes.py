"""Nested intervals against their definition: a truth lies inside exactly from its score on."""

import numpy as np
import pytest

from matscout.ensemble.mixture import (
    Mixture,
    central_interval,
    central_scores,
    scaled_interval,
    scaled_scores,
)
from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.laplace import Laplace


@pytest.fixture
def rng():
    return np.random.default_rng(14)


def hurdles(rng, n):
    return Mixture.of(
        [HurdleLaplace(rng.uniform(0, 1, n), rng.uniform(-0.5, 3, n), rng.uniform(0.1, 1, n)) for _ in range(3)]
    )


def test_central_interval_holds_the_truth_from_its_score_on(rng):
    mixture = hurdles(rng, 400)
    truth = np.where(rng.random(400) < 0.4, 0.0, rng.uniform(0.01, 5, 400))
    scores = central_scores(truth, mixture)
    assert ((scores >= 0) & (scores <= 1)).all()
    median = mixture.median()
    for step, inside in ((1e-6, True), (-1e-6, False)):
        usable = (scores + step > 0) & (scores + step < 1)
        low, high = central_interval(np.clip(scores + step, 0, 1), median, mixture)
        held = (truth >= low - 1e-9) & (truth <= high + 1e-9) if inside else (truth >= low) & (truth <= high)
        assert (held[usable] == inside).all()


def test_central_interval_encloses_its_probability_and_stays_above_zero(rng):
    mixture = hurdles(rng, 300)
    low, high = central_interval(np.full(300, 0.8), mixture.median(), mixture)
    enclosed = mixture.cdf(high) - mixture.cdf_below(low)
    assert (enclosed >= 0.8 - 1e-9).all()
    continuous = (low > 0) & (high > 0)
    np.testing.assert_allclose(enclosed[continuous], 0.8, atol=1e-9)
    assert (low >= 0).all()


def test_a_sure_metal_gets_a_point_and_a_wrongly_sure_one_a_score_near_one():
    mixture = Mixture.of([HurdleLaplace(np.array([0.999, 0.999]), np.array([1.0, 1.0]), np.array([0.3, 0.3]))])
    assert central_scores(np.array([0.0, 2.0]), mixture) == pytest.approx([0.0, 1.0], abs=1e-3)
    low, high = central_interval(np.full(2, 0.9), np.zeros(2), mixture)
    assert low.tolist() == high.tolist() == [0.0, 0.0]


def test_central_interval_of_a_laplace_is_the_scaled_one(rng):
    loc, scale = rng.normal(size=50), rng.uniform(0.1, 2, 50)
    mixture = Mixture.of([Laplace(loc, scale)])
    central = central_interval(np.full(50, 0.9), loc, mixture)
    scaled = scaled_interval(np.full(50, np.log(10)), loc, scale)  # P(|x| <= b ln 10) = 0.9
    np.testing.assert_allclose(central, scaled, atol=1e-9)
    assert scaled_scores(loc + scale * np.log(10), loc, scale) == pytest.approx(np.log(10))


def test_estimate_lies_inside_even_where_it_is_not_the_mixture_s_own(rng):
    mixture = hurdles(rng, 100)
    estimate = mixture.median() + rng.normal(size=100) ** 2
    for probability in (0.0, 0.5, 1.0):
        low, high = central_interval(np.full(100, probability), estimate, mixture)
        assert ((low <= estimate) & (estimate <= high)).all()
        assert np.isfinite(high).all()
