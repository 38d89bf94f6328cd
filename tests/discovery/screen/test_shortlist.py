"""The diverse batch against the definition of its greedy step."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from matscout.crystal import Crystal
from matscout.discovery.screen.shortlist import LENGTH_SCALE, crystal_features, diverse_batch


def greedy_by_determinants(quality, features, size):
    squared = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    kernel = quality[:, None] * np.exp2(-squared / LENGTH_SCALE**2) * quality[None]
    taken = []
    for _ in range(size):
        others = [i for i in range(len(quality)) if i not in taken]
        gains = [np.linalg.det(kernel[np.ix_([*taken, i], [*taken, i])]) for i in others]
        taken.append(others[int(np.argmax(gains))])
    return taken


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_each_step_takes_the_row_that_raises_the_determinant_most(seed):
    rng = np.random.default_rng(seed)
    quality, features = rng.uniform(0.1, 1, 9), rng.normal(size=(9, 3))
    assert diverse_batch(quality, features, 4) == greedy_by_determinants(quality, features, 4)


def test_a_copy_of_a_good_row_waits_behind_a_worse_but_different_one():
    features = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert diverse_batch(np.array([0.9, 0.9, 0.3]), features, 3) == [0, 2, 1]


def test_fewer_rows_than_asked_for_are_all_taken_once():
    assert sorted(diverse_batch(np.zeros(3), np.zeros((3, 2)), 10)) == [0, 1, 2]


def test_features_measure_composition_first():
    def rock_salt(*species, edge=5.0):
        return Crystal(np.eye(3) * edge, species, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))

    crystals = [rock_salt("Na", "Cl"), rock_salt("Na", "Br"), rock_salt("K", "I"), rock_salt("Na", "Cl", edge=5.1)]
    features = crystal_features(crystals, [225, 225, 225, 225])
    distance = np.linalg.norm(features - features[0], axis=1)
    assert distance[0] == 0 < distance[3] < distance[1] < distance[2]
    np.testing.assert_allclose(distance[2], 1.0)  # no element in common
