"""A chemistry that no fold holds: how far the error bars can be trusted there, and what mends them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from uncertainty_data import Inputs

from matscout import columns
from matscout.ensemble.conformal import conformal_quantile
from matscout.ensemble.intervals import coverage, mean_width
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.ensemble.shift import reweighted_interval
from matscout.graphs.store import GraphStore
from matscout.params import Params

N_LABELLED = 60  # rows of the new chemistry whose labels the second remedy may see
LEVEL = 0.9


def measure_shift(params: Params, inputs: Inputs, members: Path, ensemble: Path, ids: list[str]) -> dict[str, Any]:
    """Coverage, width and error on the held-out chemistry, before and after each remedy."""
    predictor = EnsemblePredictor.load(members, ensemble)
    store = GraphStore.open(inputs.graphs)
    new = predictor.predict(store, store.rows_of(ids))
    validation = pd.read_parquet(ensemble / "predictions.parquet")
    validation = validation[validation[columns.FOLD] == columns.VALIDATION]
    test = pd.read_parquet(ensemble / "predictions.parquet").query("fold == 'test'")
    labels = pd.read_parquet(inputs.materials).set_index(columns.MATERIAL_ID)
    figures: dict[str, Any] = {
        "n": len(new),
        "flagged": share_flagged(new),
        "flagged_in_distribution": share_flagged(test),
        "targets": {},
    }
    for target, settings in params.targets.items():
        truth = labels.loc[new[columns.MATERIAL_ID], settings.label].to_numpy(float)
        known = np.isfinite(truth)
        rows = new[known].reset_index(drop=True)
        figures["targets"][target] = remedies(predictor, params, validation, rows, truth[known], target)
    return figures


def share_flagged(table: pd.DataFrame) -> dict[str, float]:
    """Share of the rows that are far from the training set, that hold an unseen element, or either."""
    far = table[columns.FAR_FROM_TRAINING].to_numpy(bool)
    unseen = (table[columns.UNSEEN_ELEMENTS] != "").to_numpy(bool)
    return {"far": float(far.mean()), "unseen": float(unseen.mean()), "either": float((far | unseen).mean())}


def remedies(
    predictor: EnsemblePredictor, params: Params, validation: pd.DataFrame, rows: pd.DataFrame, truth: Any, target: str
) -> dict[str, Any]:
    fitted = predictor.calibration.targets[target]
    plain = rows[target + columns.LO90].to_numpy(), rows[target + columns.HI90].to_numpy()
    weighted = reweighted_interval(validation, rows, target, fitted, targets=list(params.targets))
    scale = rows[target + columns.STD].to_numpy() + fitted.tuning.softening
    estimate = rows[target].to_numpy()
    labelled = np.random.default_rng(params.ensemble.seed).permutation(len(rows)) < min(N_LABELLED, len(rows) // 2)
    quantile = conformal_quantile(np.abs(truth - estimate)[labelled] / scale[labelled], LEVEL)
    grouped = estimate - quantile * scale, estimate + quantile * scale
    is_far = rows[columns.FAR_FROM_TRAINING].to_numpy(bool)
    return {
        "mae": float(np.abs(truth - estimate).mean()),
        "before": _judged(truth, *plain),
        "before_near_only": _judged(truth[~is_far], plain[0][~is_far], plain[1][~is_far]),
        "weighted": _judged(truth, *weighted),
        f"own_quantile_of_{int(labelled.sum())}_labels": _judged(
            truth[~labelled], grouped[0][~labelled], grouped[1][~labelled]
        ),
    }


def _judged(truth: Any, low: Any, high: Any) -> dict[str, Any]:
    finite = np.isfinite(high)
    return {
        "n": len(truth),
        "coverage_90": coverage(truth, low, high),
        "width_90": mean_width(low[finite], high[finite]) if finite.any() else None,
        "share_without_finite_interval": float(1 - finite.mean()),
    }
