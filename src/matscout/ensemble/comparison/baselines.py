"""What any ensemble has to beat, trained on the same rows: a constant, and gradient boosting on compositions."""

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

Array = NDArray[np.float64]

BOOSTING_ROUNDS = 400
LEARNING_RATE = 0.08


def baseline_predictions(
    training_features: Array, training_labels: Array, features: Array, *, lower_bound: float | None, seed: int
) -> dict[str, Array]:
    """(m,) predictions for new rows, by baseline.

    Args:
        training_features: (n, n_features) composition features of the labelled training rows.
        training_labels: (n,).
        features: (m, n_features) of the rows to predict.
        lower_bound: least value of the property; null = none.
        seed: of the boosting.
    """
    boosting = HistGradientBoostingRegressor(
        loss="absolute_error",  # the error that the table compares
        max_iter=BOOSTING_ROUNDS,
        learning_rate=LEARNING_RATE,
        max_leaf_nodes=31,
        early_stopping=False,  # pyright: ignore[reportArgumentType] (documented as bool or "auto")
        random_state=seed,
    )
    # its threads wait for each other actively and stop whatever shares the cores: one is faster, and exact
    with threadpool_limits(limits=1, user_api="openmp"):
        boosted = boosting.fit(training_features, training_labels).predict(features)
    return {
        "mean": np.full(len(features), training_labels.mean()),
        "median": np.full(len(features), np.median(training_labels)),
        "gradient_boosting": boosted if lower_bound is None else np.maximum(boosted, lower_bound),
    }
