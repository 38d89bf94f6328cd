"""Constant widths beside scaled ones, in a world whose spreads are known."""

import numpy as np
import pytest

from matscout.ensemble.comparison.compare_methods import FLOOR, LEVEL, LabelledEstimates, compare_widths, strata_by_name


@pytest.fixture
def rng():
    return np.random.default_rng(9)


def world(rng, n):
    """Laplace errors whose scale doubles from the middle fifth to the widest; distance says nothing."""
    scale = np.exp(0.6 * rng.normal(size=n))
    truth = rng.laplace(np.zeros(n), scale)
    strata = np.where(rng.random(n) < 0.4, "metal", "non_metal")
    return LabelledEstimates(truth, np.zeros(n), np.sqrt(2) * scale, rng.random(n), strata)


def compared(rng, **changes):
    validation, test = world(rng, 8000), world(rng, 8000)
    half_width = test.spread / np.sqrt(2) * np.log(10)  # the Laplace's own 90 % quantile
    ours = -half_width, half_width
    return compare_widths(validation, test, ours, **({"lower_bound": None} | changes)), test


def test_the_usual_constant_covers_as_much_overall_but_not_the_widest_fifth(rng):
    found, _ = compared(rng)
    assert found["scaled"]["coverage_90"] == pytest.approx(LEVEL, abs=0.01)
    assert found["constant"]["coverage_90"] == pytest.approx(LEVEL, abs=0.01)
    assert found["scaled"]["least_coverage_of_a_stratum"] > 0.88
    assert found["constant"]["coverage_by_stratum"]["spread, fifth 5"] < 0.75
    assert found["constant"]["coverage_by_stratum"]["distance, fifth 5"] == pytest.approx(0.9, abs=0.02)


def test_the_constant_that_holds_the_floor_does_so_in_every_stratum_and_is_much_wider(rng):
    found, _ = compared(rng)
    holding = found["constant_holding_floor"]
    assert holding["least_coverage_of_a_stratum"] == pytest.approx(FLOOR, abs=0.02)
    assert holding["narrower_by"] > 0.2
    assert holding["narrower_by"] == pytest.approx(1 - found["scaled"]["width_90"] / holding["width_90"])
    assert holding["width_90"] > found["constant"]["width_90"]


def test_widths_by_brute_force(rng):
    found, test = compared(rng)
    half = found["constant"]["width_90_uncut"] / 2
    assert np.mean(np.abs(test.truth) <= half) == pytest.approx(found["constant"]["coverage_90"])
    metal = test.strata == "metal"
    assert found["strata"]["predicted metal"] == metal.sum()
    assert found["constant"]["coverage_by_stratum"]["predicted metal"] == np.mean(np.abs(test.truth[metal]) <= half)


def test_a_bound_cuts_the_constant_and_both_widths_are_told(rng):
    found, _ = compared(rng, lower_bound=0.0)
    assert found["constant"]["width_90"] == pytest.approx(found["constant"]["width_90_uncut"] / 2)


def test_fifths_are_those_of_the_validation_rows():
    rows = LabelledEstimates(np.zeros(10), np.zeros(10), np.arange(10.0), np.arange(10.0)[::-1], np.full(10, "metal"))
    borders = {"spread": np.array([2.0, 4.0, 6.0, 8.0]), "distance": np.array([100.0, 101.0, 102.0, 103.0])}
    masks = strata_by_name(rows, borders)
    assert masks["spread, fifth 1"].tolist() == [True, True] + [False] * 8
    assert "distance, fifth 5" not in masks
    assert masks["predicted metal"].all()
