"""Prediction of unchecked crystals: those that the ensemble can predict, and why it cannot predict the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.ensemble.distributions.mixture import Mixture
from matscout.ensemble.predictor import NOT_FINITE, EnsemblePredictor
from matscout.graphs.store.graph_store import GraphStore

PREDICTION_NOT_FINITE = "prediction_not_finite"  # a reason beside those of `crystal_checks`


@dataclass(frozen=True)
class Predicted:
    """Predictions for the crystals that have a graph and a finite prediction.

    Attributes:
        rows: (n,) their places among the crystals that were given.
        table: one row each, see `EnsemblePredictor.predict`.
        mixtures: each target's calibrated distribution of the same rows.
        rejections: the others, with reasons.
    """

    rows: NDArray[np.int64]
    table: pd.DataFrame
    mixtures: Mapping[str, Mixture]
    rejections: Sequence[Rejection]


def predict_usable(predictor: EnsemblePredictor, ids: Sequence[str], crystals: Sequence[Crystal]) -> Predicted:
    """Predict the crystals that have a graph and a finite prediction.

    Args:
        predictor: the ensemble.
        ids: n unique ids.
        crystals: n cells, Å.

    Returns:
        Predictions of the usable crystals, in their order, and why the others have none.
    """
    store, rejections = GraphStore.from_usable(ids, crystals, predictor.graphs)
    table, mixtures = predictor.predict_mixtures(store)
    without = {rejection.row for rejection in rejections}
    rows = np.array([row for row in range(len(ids)) if row not in without], dtype=np.int64)
    said = np.isin(store.ids, table[columns.MATERIAL_ID].to_numpy(dtype=np.str_))
    rejections += [
        Rejection(material_id=ids[row], row=row, reason=PREDICTION_NOT_FINITE, detail=NOT_FINITE)
        for row in map(int, rows[~said])
    ]
    return Predicted(rows[said], table, mixtures, sorted(rejections, key=lambda rejection: rejection.row))
