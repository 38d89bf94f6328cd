"""Prediction of crystals that nobody has checked: which of them the ensemble can speak of, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.screen.quarantine import Refusal
from matscout.ensemble.distributions.mixture import Mixture
from matscout.ensemble.predictor import NOT_FINITE, EnsemblePredictor
from matscout.graphs.store.graph_store import GraphStore

PREDICTION_NOT_FINITE = "prediction_not_finite"  # a reason beside those of `graphs.cells`


@dataclass(frozen=True)
class Predicted:
    """What the ensemble says of the crystals that have a graph and a finite prediction.

    Attributes:
        rows: (n,) their places among the crystals that were given.
        table: one row each, see `EnsemblePredictor.predict`.
        mixtures: each target's calibrated distribution of the same rows.
        refusals: the others, with reasons.
    """

    rows: NDArray[np.int64]
    table: pd.DataFrame
    mixtures: Mapping[str, Mixture]
    refusals: Sequence[Refusal]


def predict_usable(
    predictor: EnsemblePredictor,
    ids: Sequence[str],
    crystals: Sequence[Crystal],
    *,
    device: str = "cpu",
    compiled: bool = False,
) -> Predicted:
    """The ensemble's word on the crystals that have a graph and a finite prediction; ids are unique."""
    store, faults = GraphStore.from_usable(ids, crystals, predictor.graphs)
    table, mixtures = predictor.predict_mixtures(store, device=device, compiled=compiled)
    reasons = {fault.row: (fault.reason, fault.detail) for fault in faults}
    rows = np.array([row for row in range(len(ids)) if row not in reasons], dtype=np.int64)
    said = np.isin(store.ids, table[columns.MATERIAL_ID].to_numpy(dtype=np.str_))
    reasons |= {int(row): (PREDICTION_NOT_FINITE, NOT_FINITE) for row in rows[~said]}
    return Predicted(rows[said], table, mixtures, [Refusal(ids[row], *reasons[row]) for row in sorted(reasons)])
