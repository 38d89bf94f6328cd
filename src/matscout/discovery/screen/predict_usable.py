"""Prediction of unchecked crystals: those that the ensemble can predict, and why it cannot predict the others.

A rejected crystal is a row of the quarantine, with its reason.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.ensemble.mixture import Mixture
from matscout.ensemble.predictor import NOT_FINITE, EnsemblePredictor
from matscout.graphs.graph_store import GraphStore

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


QUARANTINE_NAME: Final = "quarantine.parquet"


REASON: Final = "reason"


DETAIL: Final = "detail"


QUARANTINE_SCHEMA: Final = pa.schema([(name, pa.string()) for name in (columns.CANDIDATE_ID, REASON, DETAIL)])


def quarantine_table(rejections: Sequence[Rejection]) -> pa.Table:
    """One row a rejection, in their order."""
    rows = [{columns.CANDIDATE_ID: item.material_id, REASON: item.reason, DETAIL: item.detail} for item in rejections]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def summarise_quarantine(quarantine: pa.Table) -> dict[str, object]:
    """How many could not be judged, in all and by reason."""
    reasons = Counter(quarantine.column(REASON).to_pylist())
    return {"n_quarantined": quarantine.num_rows, "quarantined_by_reason": dict(sorted(reasons.items()))}
