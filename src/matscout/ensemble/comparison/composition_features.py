"""A crystal's composition as numbers: statistics of its elements' tabulated properties.

The features of Ward et al., "A general-purpose machine learning framework for predicting properties of
inorganic materials" (2016), section "composition-based": weighted mean, mean absolute deviation,
minimum, maximum and range over the elements present, with the number of elements.
"""

import numpy as np
from numpy.typing import NDArray

from matscout.models.layers.element_embedding import element_table

Array = NDArray[np.float64]


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
