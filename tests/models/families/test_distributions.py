"""Closed forms against scipy, numerical integration and sampling."""

import numpy as np
import pytest
from scipy import integrate, stats

from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.laplace import Laplace
from matscout.models.families.log_laplace import LogLaplace

LAPLACE = Laplace(np.array([-1.2, 0.0, 3.0]), np.array([0.4, 1.0, 0.05]))
HURDLE = HurdleLaplace(
    probability_zero=np.array([0.0, 0.3, 0.9, 0.49, 1.0, 0.2, 0.0]),
    loc=np.array([2.0, 0.5, 1.0, 3.0, 1.0, -0.4, 1e-9]),
    scale=np.array([0.3, 0.8, 0.1, 0.2, 0.5, 0.7, 0.6]),
)
LOG_LAPLACE = LogLaplace(np.array([4.0, 0.0, -2.0]), np.array([0.2, 0.3, 0.1]))
HEAVY = LogLaplace(np.array([4.0, 4.0, 4.0, 4.0]), np.array([0.49, 0.5, 0.99, 1.0]))
LEVELS = np.array([1e-6, 0.05, 0.25, 0.5, 0.75, 0.95, 1 - 1e-9])[:, None]


def truncated_density(hurdle: HurdleLaplace, row: int):
    """The positive part as defined: a Laplace around max(loc, 0), cut at zero, normalised numerically."""
    mode, scale = max(hurdle.loc[row], 0.0), hurdle.scale[row]
    mass = stats.laplace(mode, scale).sf(0.0)
    return lambda x: stats.laplace(mode, scale).pdf(x) / mass


def test_laplace_is_scipys():
    oracle = stats.laplace(LAPLACE.loc, LAPLACE.scale)
    x = np.linspace(-4, 4, 41)[:, None]
    np.testing.assert_allclose(LAPLACE.cdf(x), oracle.cdf(x), rtol=1e-12)
    np.testing.assert_allclose(LAPLACE.quantile(LEVELS), oracle.ppf(LEVELS), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(LAPLACE.mean(), oracle.mean())
    np.testing.assert_allclose(LAPLACE.std(), oracle.std())
    np.testing.assert_allclose(LAPLACE.median(), LAPLACE.loc)


@pytest.mark.parametrize("row", range(len(HURDLE)))
def test_hurdle_moments_and_cdf_are_integrals_of_its_density(row):
    density = truncated_density(HURDLE, row)
    weight = 1.0 - HURDLE.probability_zero[row]
    kink = [max(HURDLE.loc[row], 0.0)]

    def integral(function, upper=40.0):
        return integrate.quad(function, 0.0, upper, points=[k for k in kink if k < upper], limit=200)[0]

    mean = weight * integral(lambda x: x * density(x))
    second = weight * integral(lambda x: x * x * density(x))
    np.testing.assert_allclose(HURDLE.mean()[row], mean, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(HURDLE.std()[row], np.sqrt(second - mean**2), rtol=1e-6, atol=1e-8)
    for x in (0.1, 0.5, 1.7):
        expected = HURDLE.probability_zero[row] + weight * integral(density, upper=x)
        np.testing.assert_allclose(HURDLE.cdf(x)[row], expected, rtol=1e-7)


def test_a_location_below_zero_is_an_exponential():
    exponential = stats.expon(scale=0.7)
    positive = HurdleLaplace(np.zeros(1), np.array([-0.4]), np.array([0.7]))
    np.testing.assert_allclose(positive.quantile(LEVELS), exponential.ppf(LEVELS), rtol=1e-7)
    np.testing.assert_allclose(positive.mean(), 0.7)
    np.testing.assert_allclose(positive.std(), 0.7)


def test_hurdle_jumps_at_zero_and_is_nothing_below():
    np.testing.assert_array_equal(HURDLE.cdf(-1e-9), 0.0)
    np.testing.assert_allclose(HURDLE.cdf(0.0), HURDLE.probability_zero, atol=1e-12)
    np.testing.assert_allclose(HURDLE.cdf(1e3), 1.0)


def test_quantile_inverts_cdf_where_it_is_continuous():
    x = HURDLE.quantile(LEVELS)
    above = HURDLE.probability_zero < LEVELS
    np.testing.assert_array_equal(x[~above], 0.0)
    np.testing.assert_allclose(HURDLE.cdf(x)[above], np.broadcast_to(LEVELS, x.shape)[above], rtol=1e-9)
    assert (np.diff(x, axis=0) >= 0).all()


def test_median_is_zero_where_a_metal_is_more_likely_than_not():
    np.testing.assert_array_equal(HURDLE.median()[[2, 4]], 0.0)
    assert (HURDLE.median()[[0, 1, 3]] > 0).all()
    np.testing.assert_allclose(HURDLE.median()[0], 2.0, atol=1e-3)  # next to nothing is cut off, so the mode


@pytest.mark.parametrize("distribution", [LAPLACE, HURDLE, LOG_LAPLACE])
def test_median_minimises_the_mean_absolute_error(distribution):
    draws = distribution.sample(np.random.default_rng(0), 100_000)
    best = np.abs(draws - distribution.median()).mean(axis=0)
    for shift in (-0.05, 0.05):
        assert (best <= np.abs(draws - distribution.median() - shift).mean(axis=0) + 1e-12).all()


@pytest.mark.parametrize("distribution", [LAPLACE, HURDLE, LOG_LAPLACE])
def test_samples_follow_the_distribution(distribution):
    draws = distribution.sample(np.random.default_rng(1), 200_000)
    assert draws.shape == (200_000, len(distribution))
    np.testing.assert_allclose(draws.mean(axis=0), distribution.mean(), atol=0.01, rtol=0.005)
    np.testing.assert_allclose(draws.std(axis=0), distribution.std(), atol=0.02, rtol=0.05)
    for q in (0.1, 0.6, 0.95):
        share = (draws <= distribution.quantile(q)).mean(axis=0)
        np.testing.assert_allclose(share, np.maximum(distribution.cdf(distribution.quantile(q)), q), atol=0.005)


@pytest.mark.parametrize("distribution", [LAPLACE, HURDLE, LOG_LAPLACE])
def test_parameters_and_rows_come_back(distribution):
    rows = np.array([2, 0])
    taken = distribution.take(rows)
    assert type(taken) is type(distribution)
    np.testing.assert_array_equal(taken.parameters(), distribution.parameters()[rows])
    np.testing.assert_array_equal(taken.median(), distribution.median()[rows])


def test_log_laplace_is_scipys():
    """SciPy's loglaplace(c, scale): c = 1 / scale of the logarithm, its scale the median."""
    oracle = stats.loglaplace(1 / LOG_LAPLACE.scale, scale=np.exp(LOG_LAPLACE.loc))
    x = np.concatenate([[-1.0, 0.0], np.geomspace(1e-3, 1e3, 41)])[:, None]
    np.testing.assert_allclose(LOG_LAPLACE.cdf(x), oracle.cdf(x), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(LOG_LAPLACE.quantile(LEVELS), oracle.ppf(LEVELS), rtol=1e-6)
    np.testing.assert_allclose(LOG_LAPLACE.mean(), oracle.mean())
    np.testing.assert_allclose(LOG_LAPLACE.median(), np.exp(LOG_LAPLACE.loc))


def test_log_laplace_variance_is_an_integral_of_its_density():
    for row in range(len(LOG_LAPLACE)):
        log = stats.laplace(LOG_LAPLACE.loc[row], LOG_LAPLACE.scale[row])
        kink = [log.mean()]
        moment = [
            integrate.quad(lambda y, k=k, log=log: np.exp(k * y) * log.pdf(y), -20, 30, points=kink, limit=400)[0]
            for k in (1, 2)
        ]
        np.testing.assert_allclose(LOG_LAPLACE.std()[row], np.sqrt(moment[1] - moment[0] ** 2), rtol=1e-5)


def test_heavy_tails_have_no_moments_and_say_so_but_keep_an_error_bar():
    np.testing.assert_array_equal(np.isfinite(HEAVY.std()), [True, False, False, False])
    np.testing.assert_array_equal(np.isfinite(HEAVY.mean()), [True, True, True, False])
    assert (np.diff(HEAVY.spread()) > 0).all()
    assert np.isfinite(LogLaplace(np.array([5.0]), np.array([300.0])).quantile(1 - 1e-9)).all()


def test_the_error_bar_of_a_narrow_log_laplace_is_that_of_the_laplace_it_becomes():
    narrow = LogLaplace(np.array([4.0]), np.array([1e-4]))
    laplace = Laplace(np.exp([4.0]), np.exp([4.0]) * 1e-4)
    low, high = laplace.quantile(0.15865525393145707), laplace.quantile(0.8413447460685429)
    np.testing.assert_allclose(narrow.spread(), (high - low) / 2, rtol=1e-4)
    gaussian = stats.norm(0, 1)
    np.testing.assert_allclose(gaussian.ppf(0.8413447460685429), 1.0)


@pytest.mark.parametrize("distribution", [LAPLACE, HURDLE])
def test_where_moments_exist_they_are_centre_and_error_bar(distribution):
    np.testing.assert_array_equal(distribution.center(), distribution.mean())
    np.testing.assert_array_equal(distribution.spread(), distribution.std())


def test_head_columns_become_distributions():
    hurdle = HurdleLaplace.from_head(np.array([[0.0, 1.0, 0.5], [-800.0, 2.0, 0.1], [800.0, 2.0, 0.1]], np.float32))
    np.testing.assert_allclose(hurdle.probability_zero, [0.5, 0.0, 1.0], atol=1e-300)
    np.testing.assert_array_equal(hurdle.loc, [1.0, 2.0, 2.0])
    laplace = Laplace.from_head(np.array([[1.0, 0.5]], np.float32))
    assert (laplace.loc, laplace.scale) == (np.array([1.0]), np.array([0.5]))


def test_an_empty_batch_is_empty():
    empty = HurdleLaplace.from_head(np.empty((0, 3)))
    assert empty.median().shape == empty.std().shape == (0,)
