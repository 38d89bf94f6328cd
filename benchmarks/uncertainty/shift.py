"""A chemistry that no fold holds: how far the error bars can be trusted there, and what mends them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.uncertainty.members_and_rows import Inputs
from matscout import columns
from matscout.curated_table import CuratedTable
from matscout.ensemble.calibration.conformal import conformal_quantile
from matscout.ensemble.calibration.target_calibration import TargetCalibration, TargetPrediction, reweighted_interval
from matscout.ensemble.metrics import coverage, mean_width
from matscout.ensemble.mixture import Mixture
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.graphs.graph_store import GraphStore
from matscout.params import Params

Array = NDArray[np.float64]

N_LABELLED = 60  # rows of the new chemistry whose labels the second remedy may see
LEVEL = 0.9


def measure_shift(params: Params, inputs: Inputs, members: Path, ensemble: Path, ids: list[str]) -> dict[str, Any]:
    """Coverage, width and error on the held-out chemistry, before and after each remedy."""
    predictor = EnsemblePredictor.load(members, ensemble)
    store = GraphStore.open(inputs.graphs)
    new, mixtures = predictor.predict_mixtures(store, store.rows_of(ids))
    validation = pd.read_parquet(ensemble / "predictions.parquet")
    validation = validation[validation[columns.FOLD] == columns.VALIDATION]
    test = pd.read_parquet(ensemble / "predictions.parquet").query("fold == 'test'")
    labels = CuratedTable(inputs.materials).rows().set_index(columns.MATERIAL_ID)
    figures: dict[str, Any] = {
        "n": len(new),
        "flagged": share_flagged(new),
        "flagged_in_distribution": share_flagged(test),
        "targets": {},
    }
    for target, settings in params.targets.items():
        truth = labels.loc[new[columns.MATERIAL_ID], settings.label].to_numpy(float)
        known = np.isfinite(truth)
        rows = Shifted(new[known].reset_index(drop=True), mixtures[target].take(known), truth[known])
        figures["targets"][target] = remedies(predictor, params, validation, rows, target)
    return figures


def share_flagged(table: pd.DataFrame) -> dict[str, float]:
    """Share of the rows that are far from the training set, that hold an unseen element, or either."""
    far = table[columns.FAR_FROM_TRAINING].to_numpy(bool)
    unseen = (table[columns.UNSEEN_ELEMENTS] != "").to_numpy(bool)
    return {"far": float(far.mean()), "unseen": float(unseen.mean()), "either": float((far | unseen).mean())}


@dataclass(frozen=True)
class Shifted:
    """Labelled rows of another population: prediction table, one target's calibrated mixture, (n,) labels."""

    table: pd.DataFrame
    mixture: Mixture
    truth: Array


def remedies(
    predictor: EnsemblePredictor, params: Params, validation: pd.DataFrame, rows: Shifted, target: str
) -> dict[str, Any]:
    """Error on `rows`, coverage and width as calibrated, weighted without labels, and with a few labels."""
    fitted, table, truth = predictor.calibration.targets[target], rows.table, rows.truth
    plain = table[target + columns.LO90].to_numpy(), table[target + columns.HI90].to_numpy()
    is_far = table[columns.FAR_FROM_TRAINING].to_numpy(bool)
    labelled = np.random.default_rng(params.ensemble.seed).permutation(len(table)) < min(N_LABELLED, len(table) // 2)
    low, high = _own_quantile(fitted, rows, labelled, target)
    weighted = reweighted_interval(validation, table, target, fitted, targets=list(params.targets))
    return {
        "mae": float(np.abs(truth - table[target].to_numpy()).mean()),
        "bias": float(np.median(truth - table[target].to_numpy())),
        "before": judged(truth, *plain),
        "before_near_only": judged(truth[~is_far], plain[0][~is_far], plain[1][~is_far]),
        "weighted": judged(truth, *weighted),
        f"own_quantile_of_{int(labelled.sum())}_labels": judged(truth[~labelled], low[~labelled], high[~labelled]),
    }


def _own_quantile(
    fitted: TargetCalibration, rows: Shifted, labelled: NDArray[np.bool_], target: str
) -> tuple[Array, Array]:
    """(n,) low and high with the conformal quantile of the labelled rows alone: group-wise conformal."""
    prediction = TargetPrediction(rows.table[target].to_numpy(float), rows.mixture)
    scores = fitted.tuning.scores(fitted.shape, prediction, rows.truth)
    quantile = np.full(len(scores), conformal_quantile(scores[labelled], LEVEL))
    return fitted.tuning.interval(fitted.shape, prediction, quantile)


def judged(truth: Array, low: Array, high: Array) -> dict[str, Any]:
    """Coverage and mean width; a row may have no finite interval, which covers it."""
    if len(truth) == 0:
        return {"n": 0, "coverage_90": None, "width_90": None, "share_without_finite_interval": None}
    finite = np.isfinite(high)
    return {
        "n": len(truth),
        "coverage_90": coverage(truth, low, high),
        "width_90": mean_width(low[finite], high[finite]) if finite.any() else None,
        "share_without_finite_interval": float(1 - finite.mean()),
    }
