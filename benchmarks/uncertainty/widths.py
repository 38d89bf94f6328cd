"""How narrow can 90 % intervals be? Every way of scaling them that was tried, on one ensemble's held-out rows.

Each way is a positive scale s(x) fitted on the validation fold; the interval is estimate ± q s(x), q the conformal
quantile of |error| / s. Scores are cross-fitted in five parts of the validation fold, so that no row is scored by
a scale that saw its error. The test fold only judges. Widths are not cut at zero here, so that targets compare.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import HuberRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.uncertainty.narrowest import narrowest_steps
from matscout import columns
from matscout.compositions import atomic_fractions
from matscout.curated_table import CuratedTable
from matscout.ensemble.calibration.conformal import conformal_quantile
from matscout.ensemble.comparison.compare_methods import composition_features

Array = NDArray[np.float64]
Fit = Callable[["Rows", Array], Callable[["Rows"], Array]]

LEVEL, N_PARTS, N_GROUPS, SEED = 0.9, 5, 5, 17
SMALL = 1e-4


@dataclass(frozen=True)
class Rows:
    """What n rows show before their label is known: `spread` (n,), and features (n, n_features) of difficulty.

    `chemistry` (n, n_chemical) are composition features.
    """

    spread: Array
    features: Array
    chemistry: Array

    def take(self, rows: NDArray[np.bool_]) -> "Rows":
        """Some of them."""
        return Rows(self.spread[rows], self.features[rows], self.chemistry[rows])


def rows_of(table: pd.DataFrame, target: str, targets: list[str]) -> Rows:
    """Spreads, their parts, the range of the members, the distance, the estimates, size and variety of the crystal."""
    members = table[[name for name in table if str(name).startswith(f"{target}__")]].to_numpy(float)
    logs = [table[target + columns.STD], table[target + columns.ALEATORIC_STD], table[target + columns.EPISTEMIC_STD]]
    logs += [table[columns.TRAINING_DISTANCE], np.ptp(members, axis=1), members.std(axis=1)]
    logs += [table[name + columns.STD] for name in targets if name != target]
    plain = [table[name] for name in targets]
    plain += [table[columns.SPECIES].map(len), table[columns.SPECIES].map(lambda symbols: len(set(symbols)))]
    if columns.METAL_PROBABILITY in table:
        plain.append(table[columns.METAL_PROBABILITY])
    features = [np.log(np.asarray(log, float) + SMALL) for log in logs] + [np.asarray(one, float) for one in plain]
    fractions = atomic_fractions(table[columns.SPECIES])
    chemistry = np.concatenate([fractions, composition_features(fractions)], axis=1)
    return Rows(table[target + columns.STD].to_numpy(float), np.stack(features, axis=1), chemistry)


def constant(_rows: Rows, _error: Array) -> Callable[[Rows], Array]:
    """One width for all."""
    return lambda new: np.ones(len(new.spread))


def power(exponent: float) -> Fit:
    """Spread to a power; 1 is proportional to the spread, 0 is constant."""
    return lambda _rows, _error: lambda new: (new.spread + SMALL) ** exponent


def softened(share: float) -> Fit:
    """Spread plus a share of the mean spread."""
    return lambda rows, _error: lambda new: new.spread + share * rows.spread.mean()


def in_squares(share: float) -> Fit:
    """Root of spread squared plus a share of the mean spread squared."""
    return lambda rows, _error: lambda new: np.hypot(new.spread, share * rows.spread.mean())


def steps(n_bins: int) -> Fit:
    """The 90 % quantile of the error in each of `n_bins` bins of spread (Mondrian)."""

    def fit(rows: Rows, error: Array) -> Callable[[Rows], Array]:
        edges = np.quantile(rows.spread, np.linspace(0, 1, n_bins + 1)[1:-1])
        own = np.digitize(rows.spread, edges)
        width = np.array([conformal_quantile(error[own == b], LEVEL) for b in range(n_bins)])
        return lambda new: np.maximum(width[np.digitize(new.spread, edges)], SMALL)

    return fit


def regressed(exponent: float = 1.0) -> Fit:
    """A robust linear model of log |error| on the features, to a power."""

    def fit(rows: Rows, error: Array) -> Callable[[Rows], Array]:
        floor = max(float(np.quantile(error, 0.1)), SMALL)
        model = make_pipeline(StandardScaler(), HuberRegressor(alpha=1.0, max_iter=1000))
        model.fit(rows.features, np.log(np.maximum(error, floor)))
        low, high = np.log(floor), np.log(error.max())
        return lambda new: np.exp(np.clip(exponent * model.predict(new.features), low, high))

    return fit


def boosting(**settings: Any) -> HistGradientBoostingRegressor:
    """Slow steps, no rows set aside."""
    return HistGradientBoostingRegressor(learning_rate=0.05, early_stopping=False, random_state=SEED, **settings)


def boosted(quantile: float, exponent: float = 1.0) -> Fit:
    """Gradient boosting of a quantile of |error| on the features, to a power (conformalised quantile regression)."""

    def fit(rows: Rows, error: Array) -> Callable[[Rows], Array]:
        model = boosting(loss="quantile", quantile=quantile, max_iter=60, max_leaf_nodes=4, min_samples_leaf=30)
        with threadpool_limits(limits=1, user_api="openmp"):  # its threads wait for each other actively
            model.fit(rows.features, error)
        floor = float(np.quantile(error, 0.25))
        return lambda new: np.maximum(model.predict(new.features), floor) ** exponent

    return fit


def boosted_log(exponent: float) -> Fit:
    """Gradient boosting of log |error| on the features and the composition, to a power."""

    def fit(rows: Rows, error: Array) -> Callable[[Rows], Array]:
        floor = max(float(np.quantile(error, 0.1)), SMALL)
        model = boosting(max_iter=150, max_leaf_nodes=6, l2_regularization=1.0)
        with threadpool_limits(limits=1, user_api="openmp"):
            model.fit(np.hstack([rows.features, rows.chemistry]), np.log(error + floor))
        return lambda new: np.exp(exponent * model.predict(np.hstack([new.features, new.chemistry])))

    return fit


WAYS: dict[str, Fit] = {
    "constant": constant,
    **{f"spread^{exponent:g}": power(exponent) for exponent in (0.25, 0.5, 0.75, 1.0)},
    **{f"spread + {share:g} mean": softened(share) for share in (0.25, 0.5, 1.0, 2.0)},
    **{f"sqrt(spread² + ({share:g} mean)²)": in_squares(share) for share in (0.5, 1.0)},
    **{f"quantile in {n} bins of spread": steps(n) for n in (3, 5)},
    "regression of log error": regressed(),
    "regression of log error, ^0.5": regressed(0.5),
    "boosted median of error": boosted(0.5),
    "boosted 90 % quantile of error": boosted(0.9),
    "boosted 90 % quantile of error, ^0.5": boosted(0.9, 0.5),
    **{f"boosted log error, composition too, ^{exponent:g}": boosted_log(exponent) for exponent in (0.75, 1.0)},
}


LIMITED = ("spread^1", "boosted log error, composition too, ^1")  # scales by which `narrowest_steps` cuts the rows
N_STEPS, FLOOR = (5, 10), 0.85


def measure_widths(predictions: Path, materials: Path, targets: list[str]) -> dict[str, Any]:
    """By target, `ways`: every way's mean width, coverage and ranking of errors; `limits`: of `narrowest_steps`."""
    species = CuratedTable(materials).rows([columns.MATERIAL_ID, columns.SPECIES])
    table = pd.read_parquet(predictions).merge(species, on=columns.MATERIAL_ID)
    return {target: _measure(table, target, targets) for target in targets}


def _measure(table: pd.DataFrame, target: str, targets: list[str]) -> dict[str, Any]:
    table = table[table[target + columns.TRUTH].notna()]
    folds = {name: table[table[columns.FOLD] == name] for name in (columns.VALIDATION, columns.TEST)}
    seen, new = folds[columns.VALIDATION], folds[columns.TEST]
    error, new_error = (np.abs(rows[target + columns.TRUTH] - rows[target]).to_numpy(float) for rows in (seen, new))
    rows, new_rows = rows_of(seen, target, targets), rows_of(new, target, targets)
    groups = {
        "distance": _fifths(new[columns.TRAINING_DISTANCE].to_numpy(float)),
        "spread": _fifths(new_rows.spread),
        "metal": (new.get(columns.METAL_PROBABILITY, pd.Series(0.0, new.index)) >= 0.5).to_numpy(int),
    }
    parts = np.random.default_rng(SEED).permutation(len(error)) % N_PARTS
    judged: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for name, fit in WAYS.items():
        score, scale = np.empty(len(error)), np.empty(len(error))
        for part in range(N_PARTS):
            held = parts == part
            scale[held] = fit(rows.take(~held), error[~held])(rows.take(held))
        score = error / scale
        quantile = conformal_quantile(score, LEVEL)
        new_scale = fit(rows, error)(new_rows)
        inside = new_error <= quantile * new_scale
        judged[name] = {
            "validation_width": float(2 * quantile * scale.mean()),
            "width": float(2 * quantile * new_scale.mean()),
            "coverage": float(inside.mean()),
            "spearman": float(spearmanr(new_scale, new_error).statistic) if np.ptp(new_scale) else None,
            **{
                f"least_by_{key}": min(float(inside[own == g].mean()) for g in np.unique(own))
                for key, own in groups.items()
            },
            "farthest_fifth": float(inside[groups["distance"] == N_GROUPS - 1].mean()),
            "widest_fifth": float(inside[groups["spread"] == N_GROUPS - 1].mean()),
        }
        if name in LIMITED:
            limits[name] = {
                str(n): [2 * narrowest_steps(new_error, new_scale, n, floor) for floor in (0.0, FLOOR)] for n in N_STEPS
            }
    return {"ways": judged, "limits": limits}


def _fifths(values: Array) -> NDArray[np.int64]:
    return (np.argsort(np.argsort(values, kind="stable"), kind="stable") * N_GROUPS) // len(values)


if __name__ == "__main__":
    import sys

    folder, crystals = map(Path, sys.argv[1:3])
    for target, found in measure_widths(folder / "predictions.parquet", crystals, sys.argv[3:]).items():
        print(pd.DataFrame(found["ways"]).T.astype(float).round(3).to_string(), target, found["limits"], sep="\n")
