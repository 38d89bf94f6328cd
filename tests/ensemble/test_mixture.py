"""Mixtures of Laplace and hurdle distributions against closed forms, quadrature and brute force."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import laplace, loglaplace

from matscout.ensemble.mixture import Mixture
from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.laplace import Laplace
from matscout.models.families.log_laplace import LogLaplace


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def laplaces(rng, n=7, n_members=3):
    return Mixture.of([Laplace(rng.normal(size=n), rng.uniform(0.1, 1, n)) for _ in range(n_members)])


def hurdles(rng, n=7, n_members=3):
    return Mixture.of(
        [HurdleLaplace(rng.uniform(0, 1, n), rng.uniform(-0.5, 3, n), rng.uniform(0.1, 1, n)) for _ in range(n_members)]
    )


def test_log_density_of_a_laplace_is_scipys():
    value = np.array([-2.0, 0.0, 0.3, 5.0])
    one = Laplace(np.full(4, 0.3), np.full(4, 0.7))
    np.testing.assert_allclose(one.log_density(value), laplace(0.3, 0.7).logpdf(value))


def test_density_of_a_hurdle_integrates_to_the_probability_of_a_value():
    for loc in (-1.0, 0.0, 2.0):
        one = HurdleLaplace(np.array([0.3]), np.array([loc]), np.array([0.5]))
        mass, _ = quad(lambda y, d=one: float(np.exp(d.log_density(np.array([y])))[0]), 1e-12, 30, points=[2.0])
        assert mass == pytest.approx(0.7, abs=1e-6)
        assert np.exp(one.log_density(np.zeros(1)))[0] == pytest.approx(0.3)


def log_laplaces(rng, n=7, n_members=3):
    return Mixture.of([LogLaplace(rng.normal(3, 0.3, n), rng.uniform(0.05, 0.3, n)) for _ in range(n_members)])


def test_log_density_of_a_log_laplace_is_scipys():
    value = np.array([-1.0, 0.0, 0.5, 20.0, 90.0])
    one = LogLaplace(np.full(5, 3.0), np.full(5, 0.4))
    np.testing.assert_allclose(one.log_density(value), loglaplace(1 / 0.4, scale=np.exp(3.0)).logpdf(value))


def test_a_log_laplace_mixture_is_its_samples(rng):
    mixture = log_laplaces(rng)
    draws = np.concatenate([c.sample(rng, 100_000) for c in mixture.components])
    for level in (0.05, 0.5, 0.95):
        np.testing.assert_allclose((draws <= mixture.quantile(level)).mean(axis=0), level, atol=0.005)
    truth = np.full(7, 25.0)
    shuffled = rng.permutation(draws)
    pairs = np.abs(shuffled[:150_000] - shuffled[150_000:]).mean(axis=0)
    np.testing.assert_allclose(mixture.crps(truth), np.abs(draws - truth).mean(axis=0) - pairs / 2, rtol=0.03)
    assert not mixture.has_hurdle
    assert hurdles(rng).has_hurdle


def test_tempering_a_log_laplace_stretches_its_logarithm(rng):
    mixture = log_laplaces(rng)
    low, middle, high = (np.log(mixture.quantile(level)) for level in (0.1, 0.5, 0.9))
    alike = Mixture.of([mixture.components[0]] * 2)
    wide = alike.tempered(2.0)
    for level in (0.1, 0.5, 0.9):
        loc = mixture.components[0].loc
        np.testing.assert_allclose(np.log(wide.quantile(level)) - loc, 2 * (np.log(alike.quantile(level)) - loc))
    assert (np.log(mixture.tempered(1.5).quantile(0.9)) > high).all()
    assert (low < middle).all()


def test_a_log_laplace_without_variance_keeps_a_finite_error_bar():
    mixture = Mixture.of([LogLaplace(np.array([4.0]), np.array([s])) for s in (0.4, 1.2)])
    parts = np.array([mixture.std()[0], mixture.aleatoric_std()[0], mixture.epistemic_std()[0]])
    assert np.isfinite(parts).all()
    assert parts[2] == 0  # the medians agree


def test_certain_hurdle_has_a_finite_log_density():
    one = HurdleLaplace(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([0.5, 0.5]))
    assert np.isfinite(one.log_density(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("make", [laplaces, hurdles])
def test_moments_and_cdf_match_samples(make, rng):
    mixture = make(rng)
    draws = np.concatenate([c.sample(rng, 200_000) for c in mixture.components])  # (3 * 200000, n)
    np.testing.assert_allclose(mixture.mean(), draws.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(mixture.std(), draws.std(axis=0), rtol=0.01)
    np.testing.assert_allclose(mixture.cdf(np.full(7, 0.8)), (draws <= 0.8).mean(axis=0), atol=0.005)
    np.testing.assert_allclose(mixture.probability_zero(), (draws == 0).mean(axis=0), atol=0.005)


def test_aleatoric_is_noise_and_epistemic_is_disagreement():
    alike = Mixture.of([Laplace(np.array([1.0]), np.array([0.5]))] * 4)
    assert alike.epistemic_std()[0] == 0
    assert alike.aleatoric_std()[0] == pytest.approx(np.sqrt(2) * 0.5)
    apart = Mixture.of([Laplace(np.array([loc]), np.array([1e-9])) for loc in (0.0, 2.0)])
    assert apart.epistemic_std()[0] == pytest.approx(1)
    assert apart.aleatoric_std()[0] == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("make", [laplaces, hurdles])
@pytest.mark.parametrize("level", [0.05, 0.5, 0.95])
def test_quantile_inverts_the_cdf(make, level, rng):
    mixture = make(rng, n=200)
    quantile = mixture.quantile(level)
    above = mixture.cdf(quantile)
    assert (above >= level - 1e-12).all()
    is_atom = quantile == 0
    np.testing.assert_allclose(above[~is_atom], level, atol=1e-9)
    assert (mixture.probability_zero()[is_atom] >= level).all()
    assert ((mixture.probability_zero() >= level) == is_atom)[mixture.probability_zero() > 0].all()


def test_equal_members_are_one_member():
    member = Laplace(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    mixture = Mixture.of([member, member])
    np.testing.assert_allclose(mixture.quantile(0.9), member.quantile(0.9))
    np.testing.assert_allclose(mixture.std(), member.std())


def test_temperature_scales_a_laplace_mixture_exactly(rng):
    mixture = laplaces(rng)
    hot = mixture.tempered(2.5)
    np.testing.assert_allclose(hot.mean(), mixture.mean())
    np.testing.assert_allclose(hot.std(), 2.5 * mixture.std())
    np.testing.assert_allclose(hot.epistemic_std(), 2.5 * mixture.epistemic_std())


def test_temperature_one_changes_nothing(rng):
    mixture = hurdles(rng)
    for level in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(mixture.tempered(1.0).quantile(level), mixture.quantile(level), atol=1e-9)


def test_temperature_divides_the_log_odds_of_a_hurdle():
    one = Mixture.of([HurdleLaplace(np.array([0.8]), np.array([1.0]), np.array([0.2]))])
    assert one.tempered(2.0).probability_zero()[0] == pytest.approx(2 / 3)  # odds 4 -> 2


def test_crps_of_a_laplace_is_the_closed_form():
    truth = np.array([-3.0, -0.2, 0.0, 0.1, 4.0])
    scale = 0.7
    one = Mixture.of([Laplace(np.zeros(5), np.full(5, scale))])
    distance = np.abs(truth)
    closed = distance + scale * np.exp(-distance / scale) - 0.75 * scale
    np.testing.assert_allclose(one.crps(truth), closed, rtol=2e-3)


@pytest.mark.parametrize("make", [laplaces, hurdles])
def test_crps_matches_the_energy_form_by_brute_force(make, rng):
    # E|X - y| - E|X - X'| / 2 from a fine grid of quantiles of the mixture
    mixture = make(rng)
    truth = np.array([0.0, 0.0, 0.2, 1.0, 2.0, 3.0, 0.5])
    levels = (np.arange(500) + 0.5) / 500
    draws = np.stack([mixture.quantile(level) for level in levels])  # (500, n)
    first = np.abs(draws - truth).mean(axis=0)
    weights = 2 * levels - 1  # E|X - X'| = 2 sum_i (2 u_i - 1) x_i / n
    second = 2 * (weights[:, None] * draws).mean(axis=0)
    np.testing.assert_allclose(mixture.crps(truth), first - second / 2, rtol=1e-2, atol=4e-3)


def test_weights_choose_the_member():
    first, second = Laplace(np.zeros(1), np.ones(1)), Laplace(np.full(1, 5.0), np.ones(1))
    mixture = Mixture.of([first, second], np.array([0.0, 1.0]))
    assert mixture.median()[0] == pytest.approx(5)
    np.testing.assert_allclose(mixture.log_density(np.full(1, 5.0)), second.log_density(np.full(1, 5.0)))


def test_a_moved_mixture_is_the_same_elsewhere():
    rng = np.random.default_rng(3)
    mixture = Mixture.of([Laplace(rng.normal(size=50), rng.uniform(0.1, 2, 50)) for _ in range(3)])
    by, value = rng.normal(size=50), rng.normal(size=50)
    moved = mixture.moved(by)
    np.testing.assert_allclose(moved.cdf(value + by), mixture.cdf(value))
    np.testing.assert_allclose(moved.quantile(0.3), mixture.quantile(0.3) + by, atol=1e-9)
    np.testing.assert_allclose(moved.std(), mixture.std())
