"""Non-dominated sorting against its definition, and the order of a ranking."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from matscout import rank_candidates
from matscout.discovery.rank.pareto import pareto_front, pareto_layers
from matscout.errors import InputError

POINTS = st.integers(1, 4).flatmap(
    lambda k: st.integers(1, 40).flatmap(
        # few distinct values: ties and duplicates are where sorting goes wrong
        lambda n: arrays(np.float64, (n, k), elements=st.integers(-3, 3).map(float) | st.floats(-1, 1))
    )
)


def dominated(points):
    """By definition: some other point is nowhere larger and somewhere smaller."""
    return np.array([any((other <= p).all() and (other < p).any() for other in points) for p in points])


@settings(deadline=None)
@given(POINTS)
def test_the_front_is_what_nothing_dominates(points):
    np.testing.assert_array_equal(pareto_front(points), ~dominated(points))


@settings(deadline=None)
@given(POINTS)
def test_layers_are_fronts_peeled_one_by_one(points):
    layers, remaining = pareto_layers(points), np.arange(len(points))
    for layer in range(1, layers.max() + 1):
        front = ~dominated(points[remaining])
        assert set(remaining[front]) == set(np.flatnonzero(layers == layer))
        remaining = remaining[~front]
    assert not len(remaining)


@settings(deadline=None)
@given(POINTS, st.integers(0, 2**31))
def test_the_front_does_not_depend_on_the_order_of_rows(points, seed):
    order = np.random.default_rng(seed).permutation(len(points))
    np.testing.assert_array_equal(pareto_front(points[order]), pareto_front(points)[order])


def test_two_hundred_thousand_points_in_four_objectives():
    points = np.random.default_rng(0).normal(size=(200_000, 4))
    front = points[pareto_front(points)]
    assert 100 < len(front) < 2000
    worse = points[:500]
    covered = (front[None] <= worse[:, None]).all(axis=2).any(axis=1)
    assert covered.all()  # every point is on the front or behind a point of it


TABLE = pd.DataFrame(
    {
        "name": list("abcdef"),
        "band_gap": [1.4, 1.2, 0.2, 1.5, 3.0, 1.4],
        "formation_energy_per_atom": [-1.0, -2.0, -4.0, -0.5, -3.0, -1.0],
    }
)
WINDOW = {"column": "band_gap", "window": [1.0, 1.8]}
LOW = {"column": "formation_energy_per_atom", "direction": "minimize"}


def test_those_that_meet_the_window_come_first_by_front_then_the_nearest():
    ranked = rank_candidates(TABLE, [WINDOW, LOW])
    assert ranked["name"].tolist() == ["b", "a", "f", "d", "c", "e"]
    assert ranked["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert ranked["goal_met"].tolist() == [True] * 4 + [False] * 2
    assert set(ranked.loc[ranked["pareto_front"], "name"]) == {"b", "c"}  # e is beaten by c in energy and distance


def test_equal_candidates_keep_their_order_and_share_a_front():
    ranked = rank_candidates(TABLE, [WINDOW, LOW]).set_index("name")
    assert ranked.loc["a", "pareto_layer"] == ranked.loc["f", "pareto_layer"]
    assert ranked.loc["a", "rank"] < ranked.loc["f", "rank"]


def test_directions_mean_what_they_say():
    best = rank_candidates(TABLE, [{"column": "band_gap", "direction": "maximize"}]).iloc[0]
    assert best["name"] == "e"


def test_probabilities_replace_distances_where_the_table_has_them():
    table = TABLE.assign(band_gap_in_window=[0.1, 0.2, 0.3, 0.9, 0.5, 0.1])
    assert rank_candidates(table, [WINDOW]).set_index("name").loc["d", "pareto_front"]


def test_the_table_given_is_not_changed():
    before = TABLE.copy(deep=True)
    rank_candidates(TABLE, [WINDOW, LOW])
    pd.testing.assert_frame_equal(TABLE, before)


@pytest.mark.parametrize(
    ("table", "objectives", "words"),
    [
        (TABLE.iloc[:0], [LOW], "no candidates to rank"),
        (TABLE, [], "at least one objective"),
        (TABLE, [{"column": "hardness", "direction": "maximize"}], "'hardness' is not a column"),
        (TABLE.assign(band_gap=[1, 2, np.nan, 4, 5, 6]), [WINDOW], "1 of 6 candidates have no finite 'band_gap'"),
    ],
)
def test_what_cannot_be_ranked_is_said(table, objectives, words):
    with pytest.raises(InputError, match=words):
        rank_candidates(table, objectives)
