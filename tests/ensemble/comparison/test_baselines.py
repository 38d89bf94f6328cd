"""Composition features against hand computation; baselines on functions they can and cannot learn."""

import numpy as np

from matscout.compositions import atomic_fractions
from matscout.ensemble.comparison.compare_methods import baseline_predictions, composition_features
from matscout.models.layers.element_embedding import element_table


def test_features_by_hand():
    table = element_table().astype(float)
    titanium, oxygen = table[22], table[8]
    features = composition_features(atomic_fractions([["Ti", "O", "O"]]))[0]
    mean = (titanium + 2 * oxygen) / 3
    deviation = (abs(titanium - mean) + 2 * abs(oxygen - mean)) / 3
    low, high = np.minimum(titanium, oxygen), np.maximum(titanium, oxygen)
    np.testing.assert_allclose(features[:-3], np.concatenate([mean, low, high, high - low, deviation]), atol=1e-6)
    np.testing.assert_allclose(features[-3:], [2, 5 / 9, 2 / 3])


def test_features_do_not_depend_on_order_or_cell():
    one, two = composition_features(atomic_fractions([["Ti", "O", "O"], ["O", "Ti", "O", "O", "Ti", "O"]]))
    np.testing.assert_allclose(one, two)


def test_baselines_are_constants_and_a_learner():
    rng = np.random.default_rng(0)
    features = rng.random((400, 3))
    labels = np.maximum(3 * features[:, 0] - 1, 0)
    made = baseline_predictions(features[:300], labels[:300], features[300:], lower_bound=0.0, seed=1)
    assert (made["mean"] == labels[:300].mean()).all()
    assert (made["median"] == np.median(labels[:300])).all()
    assert np.abs(made["gradient_boosting"] - labels[300:]).mean() < 0.1 * np.abs(made["mean"] - labels[300:]).mean()
    assert made["gradient_boosting"].min() >= 0
    again = baseline_predictions(features[:300], labels[:300], features[300:], lower_bound=0.0, seed=1)
    np.testing.assert_array_equal(made["gradient_boosting"], again["gradient_boosting"])
