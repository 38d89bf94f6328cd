"""What any ensemble has to beat, trained on the same rows: a constant, and gradient boosting on compositions.

Its features are those of Ward et al., "A general-purpose machine learning framework for predicting properties of
inorganic materials" (2016), section "composition-based": of the elements' tabulated properties the weighted mean, mean
absolute deviation, minimum, maximum and range over the elements present, with the number of elements.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from matscout.models.layers.element_embedding import element_table

Array = NDArray[np.float64]

BOOSTING_ROUNDS = 400
LEARNING_RATE = 0.08


def baseline_predictions(
    training_features: Array, training_labels: Array, features: Array, *, lower_bound: float | None, seed: int
) -> dict[str, Array]:
    """Predict new rows with models that the ensemble must beat.

    Args:
        training_features: (n, n_features) composition features of the labelled training rows.
        training_labels: (n,) in the target's unit.
        features: (m, n_features) features of the rows to predict.
        lower_bound: least value of the property, in its unit; None = there is none.
        seed: seed of the gradient boosting.

    Returns:
        (m,) predictions in the target's unit by baseline: `mean`, `median`, `gradient_boosting`.
    """
    boosting = HistGradientBoostingRegressor(
        loss="absolute_error",  # the error that the table compares
        max_iter=BOOSTING_ROUNDS,
        learning_rate=LEARNING_RATE,
        max_leaf_nodes=31,
        early_stopping=False,  # pyright: ignore[reportArgumentType] (documented as bool or "auto")
        random_state=seed,
    )
    # its threads spin while they wait and slow down whatever shares the cores: one thread is faster, and exact
    with threadpool_limits(limits=1, user_api="openmp"):
        boosted = boosting.fit(training_features, training_labels).predict(features)
    return {
        "mean": np.full(len(features), training_labels.mean()),
        "median": np.full(len(features), np.median(training_labels)),
        "gradient_boosting": boosted if lower_bound is None else np.maximum(boosted, lower_bound),
    }


def composition_features(fractions: Array) -> Array:
    """(n, 118) atomic fractions -> (n, n_features)."""
    table = element_table().astype(np.float64)
    fractions = np.pad(fractions, ((0, 0), (1, 0)))  # by atomic number, from 0, as the table
    present = fractions > 0
    mean = fractions @ table
    blocks = [mean, *(_extremes(present, table)), _mean_absolute_deviation(fractions, mean, table)]
    norms = np.stack([present.sum(axis=1), np.square(fractions).sum(axis=1), fractions.max(axis=1)], axis=1)
    return np.concatenate([*blocks, norms], axis=1)


def _extremes(present: NDArray[np.bool_], table: Array) -> tuple[Array, Array, Array]:
    low = np.stack([np.where(present, column, np.inf).min(axis=1) for column in table.T], axis=1)
    high = np.stack([np.where(present, column, -np.inf).max(axis=1) for column in table.T], axis=1)
    return low, high, high - low


def _mean_absolute_deviation(fractions: Array, mean: Array, table: Array) -> Array:
    columns = [
        (fractions * np.abs(column - mean[:, [position]])).sum(axis=1) for position, column in enumerate(table.T)
    ]
    return np.stack(columns, axis=1)
