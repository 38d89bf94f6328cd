"""The columns of a prediction table: point estimate, spread and its parts, interval, members, flags."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import ATOMIC_NUMBERS, SYMBOLS
from matscout.ensemble.calibration.conformal import POOLED
from matscout.ensemble.calibration.ensemble_calibration import EnsembleCalibration
from matscout.ensemble.calibration.target_calibration import STRATA, TargetPrediction, strata_of
from matscout.ensemble.distributions.mixture import Mixture, TargetOutputs
from matscout.graphs.store.graph_store import GraphStore

Array = NDArray[np.float64]
Labels = NDArray[np.str_]

INTERVAL_LEVEL = 0.9
CHUNK_ROWS = 4096


def calibrated(calibration: EnsembleCalibration, outputs: Mapping[str, TargetOutputs]) -> dict[str, TargetPrediction]:
    """Each target's calibrated prediction from the members' outputs."""
    return {target: fitted.predict(outputs[target]) for target, fitted in calibration.targets.items()}


def strata(metal_target: str | None, mixtures: Mapping[str, Mixture], n_rows: int) -> tuple[Labels, tuple[str, ...]]:
    """(n,) stratum of each row, and which strata there can be."""
    if metal_target is None:
        return np.full(n_rows, POOLED), ()
    return strata_of(mixtures[metal_target].probability_zero()), STRATA


def prediction_table(
    calibration: EnsembleCalibration,
    outputs: Mapping[str, TargetOutputs],
    predictions: Mapping[str, TargetPrediction],
    *,
    ids: Sequence[str] | Labels,
    sources: Labels | None = None,
) -> pd.DataFrame:
    """One row a crystal: id, then for each target the columns of `columns.py`, then the metal probability.

    Args:
        calibration: fitted on the validation fold.
        outputs: of the members, by target.
        predictions: what `calibrated` made of them.
        ids: material ids.
        sources: database of each row; without it, intervals are those of all databases together.
    """
    mixtures = {target: prediction.mixture for target, prediction in predictions.items()}
    stratum, _ = strata(calibration.metal_target, mixtures, len(ids))
    table: dict[str, Array | Sequence[str] | Labels] = {columns.MATERIAL_ID: np.asarray(ids, dtype=object)}
    for target, prediction in predictions.items():
        fitted = calibration.targets[target]
        low, high = fitted.interval(prediction, stratum, INTERVAL_LEVEL, sources)
        table[target] = prediction.estimate
        table[target + columns.STD] = prediction.mixture.std()
        table[target + columns.LO90], table[target + columns.HI90] = low, high
        table[target + columns.ALEATORIC_STD] = prediction.mixture.aleatoric_std()
        table[target + columns.EPISTEMIC_STD] = prediction.mixture.epistemic_std()
        for member, distribution in outputs[target].members.items():
            table[columns.member_column(target, member)] = distribution.median()
    if calibration.metal_target is not None:
        table[columns.METAL_PROBABILITY] = mixtures[calibration.metal_target].probability_zero()
    return pd.DataFrame(table)


def unseen_elements(store: GraphStore, rows: NDArray[np.int64], trained: Sequence[str]) -> list[str]:
    """Per row the symbols that no training crystal holds, comma-separated by atomic number; empty if none."""
    is_unseen = np.ones(len(SYMBOLS), dtype=bool)
    is_unseen[[ATOMIC_NUMBERS[symbol] for symbol in trained]] = False
    found: list[str] = []
    for start in range(0, len(rows), CHUNK_ROWS):
        graph = store.batch(rows[start : start + CHUNK_ROWS], n_neighbors=1, cutoff=1.0)
        numbers, crystals = graph.atomic_numbers.numpy(), graph.crystal_of_atom.numpy()
        unseen: dict[int, set[int]] = {}
        for atom in np.flatnonzero(is_unseen[numbers]):
            unseen.setdefault(int(crystals[atom]), set()).add(int(numbers[atom]))
        found += [",".join(SYMBOLS[z] for z in sorted(unseen.get(row, ()))) for row in range(graph.n_crystals)]
    return found
