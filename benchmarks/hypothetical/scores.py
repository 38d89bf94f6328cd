"""What estimates are worth on labelled hypothetical crystals: pure functions of arrays.

Energies are in eV/atom, gaps in eV. An estimate of NaN is one that could not be made: it counts as "not stable", and
stays out of every error.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.hypothetical.rows import CASTELLI, GRADES, WBM, LabelledSet
from matscout import columns
from matscout.compositions import atomic_fractions
from matscout.ensemble.metrics import (
    coverage,
    mean_absolute_error,
    mean_width,
    r_squared,
    roc_auc,
    root_mean_squared_error,
    spearman,
)

Array = NDArray[np.float64]
Figures = dict[str, Any]

STABLE = 0.0  # eV/atom above the hull, at most
UNIQUE_PROTOTYPES_STABLE = 33_374 / 215_488  # share of WBM's unique prototypes, which Matbench Discovery ranks by
LARGE_ERROR = 0.2  # eV/atom: what a flag, a distance or a spread should find
N_RESAMPLES = 2000
N_FOLDS = 5
RIDGE = 1e-3  # of the offsets per element, in rows of a pure element
# by falling electronegativity: the first that a crystal holds names its kind
ANIONS = {
    "F": "fluorides", "O": "oxides", "Cl": "chlorides", "N": "nitrides", "Br": "bromides",
    "I": "iodides", "S": "sulfides", "Se": "selenides", "Te": "tellurides",
}  # fmt: skip
NO_ANION = "without these"


def energy_scores(truth: Array, estimate: Array) -> Figures:
    """Errors of a formation energy; the bias is the mean of estimate - truth."""
    known = np.isfinite(estimate) & np.isfinite(truth)
    truth, estimate = truth[known], estimate[known]
    return {
        "rows": len(known),
        "without_estimate": int((~known).sum()),
        "mae": mean_absolute_error(truth, estimate),
        "rmse": root_mean_squared_error(truth, estimate),
        "bias": float((estimate - truth).mean()),
        "r2": r_squared(truth, estimate),
    }


def stability_scores(above_hull: Array, truth: Array, estimate: Array) -> Figures:
    """Stability as Matbench Discovery scores it (Riebesell et al., Nature Machine Intelligence 2025).

    The energy above the hull is taken as `above_hull` + `estimate` - `truth`; stable is what lies at or below 0. DAF,
    the discovery acceleration factor, is precision over the share of stable rows. R² is of the energies above the hull.
    The reweighted F1 and DAF give stable rows the share that they have among all unique prototypes.

    Args:
        above_hull: (n,) true energy above the hull.
        truth: (n,) true formation energy.
        estimate: (n,) of the formation energy.
    """
    estimated = above_hull + estimate - truth
    is_stable, called = above_hull <= STABLE, np.nan_to_num(estimated, nan=np.inf) <= STABLE
    hit, missed, false = (is_stable & called).sum(), (is_stable & ~called).sum(), (~is_stable & called).sum()
    prevalence = float(is_stable.mean())
    precision = _ratio(hit, hit + false)
    share = UNIQUE_PROTOTYPES_STABLE
    weight = _ratio(share / (1 - share), prevalence / (1 - prevalence)) if prevalence < 1 else float("nan")
    low, high = _f1_interval(np.array([hit, missed, false, len(called) - hit - missed - false]))
    return energy_scores(truth, estimate) | {
        "r2": r_squared(above_hull[np.isfinite(estimated)], estimated[np.isfinite(estimated)]),
        "prevalence": prevalence,
        "called_stable": int(called.sum()),
        "precision": precision,
        "recall": _ratio(hit, hit + missed),
        "f1": _ratio(2 * hit, 2 * hit + missed + false),
        "f1_low": low,
        "f1_high": high,
        "daf": _ratio(precision, prevalence),
        "f1_reweighted": _ratio(2 * weight * hit, weight * (2 * hit + missed) + false),
        "daf_reweighted": _ratio(weight * hit, weight * hit + false) / share,
    }


def gap_scores(truth: Array, estimate: Array, metal_probability: Array) -> Figures:
    """Errors of a band gap beside calling every row a metal, and how well metals are told from the others."""
    known = np.isfinite(truth) & np.isfinite(estimate)
    truth, estimate, probability = truth[known], estimate[known], metal_probability[known]
    is_metal = truth == 0
    return {
        "rows": int(known.sum()),
        "metals": float(is_metal.mean()),
        "mae": mean_absolute_error(truth, estimate),
        "bias": float((estimate - truth).mean()),
        "mae_if_all_metal": float(truth.mean()),
        "metal_auc": roc_auc(is_metal, probability),
        "metals_called_metal": float((probability[is_metal] >= 0.5).mean()) if is_metal.any() else float("nan"),
        "others_called_metal": float((probability[~is_metal] >= 0.5).mean()) if not is_metal.all() else float("nan"),
    }


def trust_scores(truth: Array, table: pd.DataFrame, target: str) -> Figures:
    """What the error bars and flags of a prediction table say of the errors.

    Args:
        truth: (n,) labels.
        table: n predictions, in their order; NaN where none could be made.
        target: formation energy, in eV/atom.
    """
    table, truth = table[table[target].notna()], truth[table[target].notna().to_numpy(bool)]
    low, high = (table[target + end].to_numpy(np.float64) for end in (columns.LO90, columns.HI90))
    is_wrong = np.abs(table[target].to_numpy(np.float64) - truth) > LARGE_ERROR
    is_far = table[columns.FAR_FROM_TRAINING].to_numpy(bool)
    finite = np.isfinite(high - low)
    return {
        "coverage_90": coverage(truth, low, high),
        "width_90": mean_width(low[finite], high[finite]) if finite.any() else float("nan"),
        "share_of_large_errors": float(is_wrong.mean()),
        "flagged": float(is_far.mean()),
        "auc_of_large_errors": {
            "far_from_training": roc_auc(is_wrong, is_far.astype(np.float64)),
            "training_distance": roc_auc(is_wrong, table[columns.TRAINING_DISTANCE].to_numpy(np.float64)),
            "std": roc_auc(is_wrong, table[target + columns.STD].to_numpy(np.float64)),
        },
    }


def other_reference_scores(truth: Array, estimate: Array, fractions: Array) -> Figures:
    """Agreement with labels of another functional and other references, of which an offset per element is unknown.

    The offsets are fitted to `truth` - `estimate` by ridge regression, each fifth of the rows with those of the other
    four. The same fit to `truth` alone says what offsets explain without any estimate.

    Args:
        truth: (n,) labels.
        estimate: (n,) of the formation energy.
        fractions: (n, n_elements) atomic fractions.
    """
    known = np.isfinite(estimate)
    truth, estimate, fractions = truth[known], estimate[known], fractions[known]
    return {
        "rows": len(truth),
        "correlation": float(np.corrcoef(truth, estimate)[0, 1]),
        "rank_correlation": spearman(truth, estimate),
        "mae_one_offset": mean_absolute_error(truth - estimate, np.full(len(truth), np.median(truth - estimate))),
        "mae_offset_per_element": float(np.abs(_residuals(truth - estimate, fractions)).mean()),
        "mae_offsets_alone": float(np.abs(_residuals(truth, fractions)).mean()),
    }


def kinds_of(rows: LabelledSet) -> NDArray[np.str_]:
    """(n,) fluorides, oxides, ...: by the most electronegative element; `NO_ANION` for intermetallics and the rest."""
    held = [set(crystal.species) for crystal in rows.crystals]
    return np.array([next((kind for anion, kind in ANIONS.items() if anion in each), NO_ANION) for each in held])


def score_set(rows: LabelledSet, table: pd.DataFrame) -> Figures:
    """All figures of one set.

    Args:
        rows: crystals with labels.
        table: the ensemble's predictions of all sets, indexed by id.
    """
    table = table.reindex(rows.ids)
    target = columns.FORMATION_ENERGY
    truth, estimate = rows.formation_energy, table[target].to_numpy(np.float64)
    if rows.name == CASTELLI:
        fractions = atomic_fractions([crystal.species for crystal in rows.crystals])
        return {"energy": other_reference_scores(truth, estimate, fractions)}
    figures: Figures = {"energy": energy_scores(truth, estimate), "trust": trust_scores(truth, table, target)}
    if columns.BAND_GAP in table and np.isfinite(rows.band_gap).any():
        gap, metal = (table[name].to_numpy(np.float64) for name in (columns.BAND_GAP, columns.METAL_PROBABILITY))
        figures["gap"] = gap_scores(rows.band_gap, gap, metal)
    if rows.name == WBM:
        figures["stability"] = stability_by_grade(rows, estimate)
        kinds = kinds_of(rows)
        figures["kinds"] = {
            kind: energy_scores(truth[kinds == kind], estimate[kinds == kind]) for kind in sorted(set(kinds.tolist()))
        }
    return figures


def stability_by_grade(wbm: LabelledSet, estimate: Array) -> Figures:
    """`stability_scores` of the rows of each grade that has any."""
    graded = {grade: wbm.of_grade(grade) for grade in GRADES}
    return {
        grade: stability_scores(wbm.above_hull[chosen], wbm.formation_energy[chosen], estimate[chosen])
        for grade, chosen in graded.items()
        if chosen.any()
    }


def score_known(predictions: pd.DataFrame) -> Figures:
    """The same figures of the test fold, from the table that `evaluate` wrote."""
    test = predictions[predictions[columns.FOLD] == columns.TEST]
    target = columns.FORMATION_ENERGY
    test = test[test[target + columns.TRUTH].notna()]
    truth = test[target + columns.TRUTH].to_numpy(np.float64)
    figures = {
        "energy": energy_scores(truth, test[target].to_numpy(np.float64)),
        "trust": trust_scores(truth, test, target),
    }
    if columns.BAND_GAP in test:
        gap = [columns.BAND_GAP + columns.TRUTH, columns.BAND_GAP, columns.METAL_PROBABILITY]
        figures["gap"] = gap_scores(*(test[name].to_numpy(np.float64) for name in gap))
    return figures


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _f1_interval(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Percentile bootstrap, 95 %: resampled rows have multinomial counts of hits, missed, false calls, others."""
    drawn = np.random.default_rng(0).multinomial(counts.sum(), counts / counts.sum(), size=N_RESAMPLES)
    hit, missed, false, _ = drawn.T
    f1 = 2 * hit / np.maximum(2 * hit + missed + false, 1)
    low, high = np.quantile(f1, [0.025, 0.975])
    return float(low), float(high)


def _residuals(values: Array, fractions: Array) -> Array:
    """(n,) what a linear fit on `fractions`, made without the row's fold, leaves of `values`."""
    fold = np.random.default_rng(0).permutation(len(values)) % N_FOLDS
    left = np.empty(len(values))
    for each in range(N_FOLDS):
        inside = fold != each
        known = fractions[inside]
        normal = known.T @ known + RIDGE * np.eye(known.shape[1])
        left[~inside] = values[~inside] - fractions[~inside] @ np.linalg.solve(normal, known.T @ values[inside])
    return left
