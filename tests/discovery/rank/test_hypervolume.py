"""Hypervolume against inclusion and exclusion of boxes, and what is drawn from the ensemble."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matscout.discovery.rank.pareto import (
    draw_targets,
    drawn_costs,
    expected_improvement,
    front_probability,
    hypervolume,
    improvements,
)
from matscout.ensemble.mixture import Mixture
from matscout.models.families.laplace import Laplace
from matscout.params import Objective

POINTS = st.integers(1, 4).flatmap(
    lambda k: st.integers(0, 7).flatmap(
        lambda n: arrays(np.float64, (n, k), elements=st.integers(-2, 6).map(lambda i: i / 4) | st.floats(0, 1))
    )
)


def union_of_boxes(points, reference):
    """Inclusion and exclusion over all subsets: boxes from each point to the reference corner."""
    volume = 0.0
    for size in range(1, len(points) + 1):
        for chosen in combinations(points, size):
            corner = np.max(chosen, axis=0)
            volume -= (-1) ** size * np.prod(np.maximum(reference - corner, 0))
    return volume


@settings(deadline=None)
@given(POINTS)
def test_it_is_the_volume_of_the_union_of_boxes(points):
    reference = np.ones(points.shape[1])
    assert hypervolume(points, reference) == pytest.approx(union_of_boxes(points, reference), abs=1e-9)


@settings(deadline=None)
@given(POINTS, st.integers(0, 2**31))
def test_an_improvement_is_what_the_point_adds(points, seed):
    reference = np.ones(points.shape[1])
    new = np.random.default_rng(seed).uniform(-0.2, 1.2, (4, points.shape[1]))
    before = hypervolume(points, reference)
    expected = [hypervolume(np.vstack([points, point]), reference) - before for point in new]
    np.testing.assert_allclose(improvements(new, points, reference), expected, atol=1e-9)


def test_a_large_front_agrees_with_monte_carlo():
    rng = np.random.default_rng(0)
    points = rng.dirichlet(np.ones(4), 60)  # a simplex: all on the front
    samples = rng.uniform(size=(200_000, 4))
    dominated = np.zeros(len(samples), dtype=bool)
    for point in points:
        dominated |= (point <= samples).all(axis=1)
    assert hypervolume(points, np.ones(4)) == pytest.approx(dominated.mean(), abs=0.004)


def objective(column, direction):
    return Objective(column=column, window=None, direction=direction)


@pytest.fixture
def world():
    """Two members with opposite views of two crystals; both are certain."""
    sure = np.full(2, 1e-9)
    first, second = Laplace(np.array([0.0, 1.0]), sure), Laplace(np.array([2.0, 1.0]), sure)
    mixtures = {"a": Mixture.of([first, second]), "b": Mixture.of([first, second])}
    return mixtures, {target: {"m": 0.5, "n": 0.5} for target in mixtures}


def test_a_draw_believes_one_member_in_everything(world):
    drawn = draw_targets(*world, 400, np.random.default_rng(0))
    np.testing.assert_allclose(drawn["a"], drawn["b"], atol=1e-6)
    assert drawn["a"][:, 0].mean() == pytest.approx(1.0, abs=0.15)


def test_front_probability_is_the_share_of_draws(world):
    drawn = draw_targets(*world, 400, np.random.default_rng(0))
    costs = drawn_costs(drawn, [objective("a", "minimize"), objective("b", "minimize")], None)
    probability = front_probability(costs)
    np.testing.assert_allclose(probability, [0.5, 0.5], atol=0.1)  # each wins when its member is believed
    assert probability.sum() == pytest.approx(1.0)


def test_expected_improvement_is_zero_behind_the_known_front_and_grows_in_front():
    known = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    behind, ahead, further = [0.9, 0.95], [0.5, 0.5], [0.25, 0.25]
    values = expected_improvement(np.array([[behind, ahead, further]] * 3), known)
    spread = known.std(axis=0)
    assert values[0] > 0  # between the two extremes there was room
    assert values[0] < values[1] < values[2]
    assert values[1] == pytest.approx(0.25 / spread.prod())
