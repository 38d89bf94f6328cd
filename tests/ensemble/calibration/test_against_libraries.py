"""Our scores and intervals against those of `scoringrules` and `crepes`, which know nothing of this house."""

import numpy as np
import pytest

from matscout.ensemble.calibration.conformal import LEVELS, fit_conformal
from matscout.ensemble.mixture import Mixture
from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.laplace import Laplace

scoringrules = pytest.importorskip("scoringrules", reason="scoringrules (extra `dev`) is the oracle")
crepes = pytest.importorskip("crepes", reason="crepes (extra `dev`) is the oracle")


@pytest.fixture
def rng():
    return np.random.default_rng(31)


def test_crps_of_a_laplace(rng):
    loc, scale, truth = rng.normal(size=50), rng.uniform(0.05, 2, 50), rng.normal(size=50)
    ours = Mixture.of([Laplace(loc, scale)]).crps(truth)
    np.testing.assert_allclose(ours, scoringrules.crps_laplace(truth, loc, scale), rtol=2e-3)


def test_crps_of_a_hurdle_below_zero_is_that_of_an_exponential_with_a_mass_at_zero(rng):
    zero, scale = rng.uniform(0, 1, 60), rng.uniform(0.05, 2, 60)
    truth = np.where(rng.random(60) < 0.4, 0.0, rng.exponential(size=60))
    ours = Mixture.of([HurdleLaplace(zero, np.full(60, -0.3), scale)]).crps(truth)
    theirs = scoringrules.crps_exponentialM(truth, zero, 0.0, scale)
    np.testing.assert_allclose(ours, theirs, rtol=3e-3, atol=1e-4)


def test_crps_of_a_mixture_is_that_of_many_draws(rng):
    members = [HurdleLaplace(rng.uniform(0, 1, 5), rng.uniform(0, 3, 5), rng.uniform(0.1, 1, 5)) for _ in range(3)]
    draws = np.concatenate([member.sample(rng, 4000) for member in members]).T  # (5, 12000)
    truth = np.array([0.0, 0.4, 1.0, 2.5, 4.0])
    theirs = scoringrules.crps_ensemble(truth, draws, estimator="qd")
    np.testing.assert_allclose(Mixture.of(members).crps(truth), theirs, rtol=0.03, atol=3e-3)


@pytest.mark.parametrize("level", LEVELS)
def test_intervals_are_those_of_a_mondrian_conformal_regressor(level, rng):
    residual, sigma = rng.normal(size=400), rng.uniform(0.5, 2, 400)
    strata = np.where(rng.random(400) < 0.3, "metal", "non_metal")
    fitted = fit_conformal(np.abs(residual) / sigma, strata, np.full(400, "mp"), expected=("metal", "non_metal"))
    new_sigma, new_strata, estimate = rng.uniform(0.5, 2, 30), strata[:30], rng.normal(size=30)
    half_width = fitted.lookup(new_strata, level) * new_sigma
    theirs = crepes.ConformalRegressor()
    theirs.fit(residual, sigmas=sigma, bins=strata)
    expected = theirs.predict_int(estimate, sigmas=new_sigma, bins=new_strata, confidence=level)
    np.testing.assert_allclose(np.stack([estimate - half_width, estimate + half_width], axis=1), expected)
