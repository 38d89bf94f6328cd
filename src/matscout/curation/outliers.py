"""Find labels that differ from all rows of the same chemistry: robust outliers of the formation energy.

Gradient boosting first predicts the energy from the formula, for each row with trees that saw no row of its
formula. The residual is compared with those of the rows nearest in composition, so that a family of unstable
hypothetical phases is not an outlier among its neighbours.
"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymatgen.core import Element
from scipy.spatial import KDTree
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from matscout import columns
from matscout.compositions import fractions_of_formulas
from matscout.crystal import N_ELEMENTS, SYMBOLS
from matscout.curation.reference_offsets import MAD_TO_STD
from matscout.curation.splits import composition_keys, draw
from matscout.progress import progress

N_NEIGHBORS: Final = 24
MIN_ROWS: Final = 500  # with fewer rows, the trees learn nothing, and no row is checked
N_FOLDS: Final = 3
SEED: Final = 17
FLOOR: Final = 0.1  # eV/atom: polymorphs and databases differ by that much, however well neighbours agree

Array = NDArray[np.float64]


def label_outliers(materials: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Rows whose published formation energy lies far from those of similar compositions.

    The scale is the neighbours' median absolute deviation and a floor, in quadrature.

    Args:
        materials: rows with formula and published formation energy.
        threshold: smallest deviation, in scales, that counts as an outlier.

    Returns:
        `value`, `expected`, `scale` (eV/atom) and `deviation` of each outlier, on its index.
    """
    labelled = materials.loc[materials[columns.FORMATION_ENERGY].notna()]
    energies = labelled[columns.FORMATION_ENERGY].to_numpy(dtype=np.float64)
    if len(energies) < MIN_ROWS:
        return pd.DataFrame(columns=pd.Index(["value", "expected", "scale", "deviation"]), dtype=np.float64)
    fractions = fractions_of_formulas(labelled[columns.FORMULA])
    features = composition_features(fractions)
    predicted = _predict_from_formula(labelled, np.hstack([fractions, features]), energies)
    typical, scale = _among_neighbors(features, energies - predicted)
    expected = predicted + typical
    deviation = np.abs(energies - expected) / scale
    found = np.flatnonzero(deviation > threshold)
    return pd.DataFrame(
        {"value": energies[found], "expected": expected[found], "scale": scale[found], "deviation": deviation[found]},
        index=labelled.index[found],
    )


def _predict_from_formula(labelled: pd.DataFrame, features: Array, energies: Array) -> Array:
    """(n,) energies predicted from composition alone, with trees that saw no row of the same formula."""
    folds = (draw(composition_keys(labelled), SEED) * N_FOLDS).astype(int)
    predicted = np.zeros(len(energies))
    with threadpool_limits(limits=1, user_api="openmp"):  # sums of several threads round differently
        for fold in progress(range(N_FOLDS), description="looking for label outliers"):
            trees = HistGradientBoostingRegressor(
                loss="absolute_error",
                max_leaf_nodes=63,
                learning_rate=0.15,
                early_stopping=False,  # type: ignore[arg-type]  # a bool is what it documents
                random_state=SEED,
            )
            trees.fit(features[folds != fold], energies[folds != fold])
            predicted[folds == fold] = trees.predict(features[folds == fold])
    return predicted


def _among_neighbors(features: Array, residuals: Array) -> tuple[Array, Array]:
    """Median and robust scale (n,), eV/atom, of the residuals of each row's neighbours in composition."""
    _, neighbors = KDTree(features).query(features, k=N_NEIGHBORS + 1)
    values = np.where(neighbors == np.arange(len(features))[:, None], np.nan, residuals[neighbors])
    typical = np.nanmedian(values, axis=1)
    spread = MAD_TO_STD * np.nanmedian(np.abs(values - typical[:, None]), axis=1)
    return typical, np.hypot(spread, FLOOR)


def composition_features(fractions: Array) -> Array:
    """(n, 6) means and spreads over the atoms of electronegativity, group and row, in standard units.

    Args:
        fractions: (n, 118) atomic fractions, column z - 1.
    """
    properties = _element_properties()
    means = fractions @ properties
    spreads = np.sqrt(np.maximum(fractions @ properties**2 - means**2, 0.0))
    return np.hstack([means, spreads])


def _element_properties() -> Array:
    """(118, 3) electronegativity, group and row of the periodic table, each with mean 0 and deviation 1."""
    table = np.zeros((N_ELEMENTS, 3))
    for z in range(1, N_ELEMENTS + 1):
        element = Element(SYMBOLS[z])
        electronegativity = element.data.get("X")  # not .X, which warns about noble gases
        known = isinstance(electronegativity, int | float) and np.isfinite(electronegativity)
        table[z - 1] = (electronegativity if known else 2.0, element.group, element.row)
    return (table - table.mean(axis=0)) / table.std(axis=0)
