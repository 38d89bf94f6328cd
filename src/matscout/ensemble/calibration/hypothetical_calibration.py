"""Calibration for hypothetical crystals, on held-out ones that a potential labelled.

The validation fold holds known compounds. Members err more on hypothetical ones, and their spreads do not show by how
much. So tuning and conformal step are fitted a second time, on hypothetical crystals that trained no member. Their
labels are a potential's energies, not DFT's. A random draw of the potential's estimated error is added to each label,
so that the intervals hold for DFT energies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.compositions import is_surely_metal
from matscout.crystal import SYMBOLS
from matscout.ensemble.calibration.conformal import POOLED
from matscout.ensemble.calibration.ensemble_calibration import CHUNK_ROWS, INTERVAL_LEVEL, EnsembleCalibration, strata
from matscout.ensemble.calibration.fit_calibration import labels_of, metal_target_of
from matscout.ensemble.calibration.target_calibration import (
    LabelledRows,
    TargetCalibration,
    TargetPrediction,
    fit_target,
)
from matscout.ensemble.members import run_members
from matscout.ensemble.metrics import coverage
from matscout.ensemble.mixture import TargetOutputs
from matscout.ensemble.training_distance import TrainingReference
from matscout.graphs.graph_store import GraphStore
from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.registry import FAMILIES
from matscout.models.inference import ON_CPU
from matscout.models.saved_member import LoadedMember
from matscout.params import Params, Target

Array = NDArray[np.float64]

SCALE_POWER = 1.0  # see `Tuning`; higher than for known crystals, since spreads differ tenfold between kinds of crystal
METAL_BY_COMPOSITION = 0.95  # least probability of no gap; 96 % of WBM's compounds of such compositions have none
LEAST_WEIGHT = 0.15  # of a surrogate: with less, it takes more time in a screening than its part of the error is worth
DROP_FACTOR = 1.5  # times the median network's error; a network that errs more only widens the intervals
FEWEST_ROWS = 100  # labelled rows that a target needs for a calibration of its own


@dataclass(frozen=True)
class HypotheticalRows:
    """Held-out hypothetical crystals and the members' outputs for them.

    Attributes:
        table: one row per crystal: labels with their noise, source, duplicate group.
        outputs: outputs by target, rows as in `table`.
        surrogates: names of those of the outputs that are no member's.
    """

    table: pd.DataFrame
    outputs: Mapping[str, TargetOutputs]
    surrogates: frozenset[str] = frozenset()


def run_hypothetical(
    loaded: Sequence[LoadedMember],
    surrogates: Sequence[LoadedMember],
    store: GraphStore,
    folds: pd.DataFrame,
    reference: TrainingReference,
) -> HypotheticalRows:
    """Run all members and surrogates on the fold `calibration`, which may be empty.

    Args:
        loaded: the members.
        surrogates: the surrogates.
        store: graphs of the training set.
        folds: see `read_folds`.
        reference: reference for the distance from the training set.

    Returns:
        The fold's rows and the members' outputs for them, by target; no outputs if the fold is empty.
    """
    table = folds.loc[(folds[columns.FOLD] == columns.CALIBRATION).to_numpy(bool)].reset_index(drop=True)
    if table.empty:
        return HypotheticalRows(table, {})
    rows = store.rows_of(table[columns.MATERIAL_ID].to_numpy(str))
    outputs = run_members(loaded, store, rows, plan=ON_CPU, description="hypothetical", surrogates=surrogates)
    names = frozenset(surrogate.name for surrogate in surrogates)
    return HypotheticalRows(table, outputs.at(reference.distance(outputs.embeddings)), names)


def fit_hypothetical(
    unmade: HypotheticalRows, known: Mapping[str, TargetCalibration], params: Params
) -> dict[str, TargetCalibration]:
    """Calibrate every target that has at least `FEWEST_ROWS` labels.

    Args:
        unmade: the hypothetical crystals.
        known: calibration of the same targets for known crystals; it decides which crystals count as metals.
        params: sections `targets` and `ensemble`.

    Returns:
        Calibration by target, without the targets that have too few labels.
    """
    fitted = {}
    for name, target in params.targets.items():
        labelled = _is_labelled(unmade.table, target)
        if labelled.sum() < FEWEST_ROWS:
            continue
        fit = partial(
            fit_target,
            rows=_labelled_rows(unmade, labelled, target, known, params),
            method="stack",  # thousands of labelled rows are enough to fit weights
            drop_factor=DROP_FACTOR,
            lower_bound=FAMILIES[target.head].LOWER_BOUND,
            scale_power=SCALE_POWER,
        )
        outputs = unmade.outputs[name].take(labelled)
        fitted[name] = fit(outputs)
        weights = fitted[name].tuning.combination.weights
        kept = [one for one in outputs.members if one not in unmade.surrogates or weights.get(one, 0) >= LEAST_WEIGHT]
        if len(kept) < len(outputs.members):
            fitted[name] = fit(outputs.only(*kept))
    return fitted


def _is_labelled(table: pd.DataFrame, target: Target) -> NDArray[np.bool_]:
    """(n,) rows with a label and its error. Gaps of zero that were set by composition have no error: not labelled."""
    if target.noise is None or table.empty:
        return np.zeros(len(table), dtype=bool)
    return table[target.label].notna().to_numpy(bool) & table[target.noise].notna().to_numpy(bool)


def _labelled_rows(
    unmade: HypotheticalRows,
    labelled: NDArray[np.bool_],
    target: Target,
    known: Mapping[str, TargetCalibration],
    params: Params,
) -> LabelledRows:
    metal = metal_target_of(params.targets)
    mixtures = {} if metal is None else {metal: known[metal].predict(unmade.outputs[metal]).mixture}
    stratum, possible = strata(metal, mixtures, len(unmade.table))
    table = unmade.table.loc[labelled]
    return LabelledRows(
        truth=_dft_like(table, target, seed=params.ensemble.seed),
        strata=stratum[labelled],
        possible_strata=possible,
        sources=table[columns.SOURCE].to_numpy(str),
        groups=table[columns.DUPLICATE_GROUP].to_numpy(str),
    )


def _dft_like(table: pd.DataFrame, target: Target, *, seed: int) -> Array:
    """(n,) labels plus a draw of the potential's error, Laplace-distributed: many errors are small, few are large."""
    noise = np.zeros(len(table)) if target.noise is None else table[target.noise].to_numpy(np.float64, na_value=0.0)
    return labels_of(table, target) + np.random.default_rng(seed).laplace(size=len(table)) * noise / np.sqrt(2.0)


def measure_hypothetical(
    calibration: EnsembleCalibration, unmade: HypotheticalRows, targets: Mapping[str, Target]
) -> dict[str, Any]:
    """Errors against the potential's labels (not DFT's) and coverage of these labels.

    Args:
        calibration: calibration with the part for hypothetical crystals.
        unmade: the crystals.
        targets: targets by name.

    Returns:
        By target that has a calibration for hypothetical crystals: number of rows and metrics.
    """
    measured = {}
    for name, fitted in calibration.hypothetical.items():
        rows = _is_labelled(unmade.table, targets[name])
        prediction = fitted.predict(unmade.outputs[name].take(rows))
        truth = labels_of(unmade.table.loc[rows], targets[name])
        stratum = np.full(len(truth), POOLED)
        low, high = fitted.interval(prediction, stratum, INTERVAL_LEVEL)
        measured[name] = {
            "n": len(truth),
            "mae_to_potential": float(np.abs(prediction.estimate - truth).mean()),
            "bias_to_potential": float((prediction.estimate - truth).mean()),
            "coverage_90_of_potential": coverage(truth, low, high),
        }
    return measured


def surely_metals(store: GraphStore, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether no oxidation states balance a crystal's composition, see `is_surely_metal`."""
    found: list[bool] = []
    for start in range(0, len(rows), CHUNK_ROWS):
        graph = store.batch(rows[start : start + CHUNK_ROWS], n_neighbors=1, cutoff=1.0)
        counts: list[dict[str, int]] = [{} for _ in range(graph.n_crystals)]
        atoms = (graph.crystal_of_atom.tolist(), graph.atomic_numbers.tolist(), graph.multiplicity.tolist())
        for crystal, number, times in zip(*atoms, strict=True):
            symbol = SYMBOLS[number]
            counts[crystal][symbol] = counts[crystal].get(symbol, 0) + round(times)
        found += [is_surely_metal(composition) for composition in counts]
    return np.array(found, dtype=bool)


def as_metals(prediction: TargetPrediction, metals: NDArray[np.bool_]) -> TargetPrediction:
    """The prediction of a gap with some crystals taken for metals, whatever the members say.

    Args:
        prediction: prediction of n crystals.
        metals: (n,) whether a row is a metal.

    Returns:
        The same prediction; of these crystals the gap is 0 eV and the probability of zero at least
        `METAL_BY_COMPOSITION`.

    Raises:
        TypeError: the target's distribution has no probability of zero.
    """
    components = []
    for component in prediction.mixture.components:
        if not isinstance(component, HurdleLaplace):
            raise TypeError(f"{type(component).__name__} has no probability of zero: only a hurdle target has metals")
        probability = np.where(
            metals, np.maximum(component.probability_zero, METAL_BY_COMPOSITION), component.probability_zero
        )
        components.append(replace(component, probability_zero=probability))
    mixture = replace(prediction.mixture, components=tuple(components))
    return TargetPrediction(np.where(metals, 0.0, prediction.estimate), mixture)
