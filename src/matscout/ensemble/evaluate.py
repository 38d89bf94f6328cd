"""The stage `evaluate`: combine and calibrate the members, and test them on the real rows of the test fold."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.compositions import atomic_fractions
from matscout.crystal import formula_key
from matscout.engine import n_workers
from matscout.ensemble.calibration.ensemble_calibration import (
    CALIBRATION_FILE,
    REFERENCE_FILE,
    EnsembleCalibration,
    calibrated,
    prediction_table,
    strata,
    unseen_elements,
)
from matscout.ensemble.calibration.fit_calibration import (
    fit_targets,
    held_out_rows,
    labels_of,
    metal_target_of,
    read_folds,
)
from matscout.ensemble.calibration.hypothetical_calibration import (
    HypotheticalRows,
    fit_hypothetical,
    measure_hypothetical,
    run_hypothetical,
)
from matscout.ensemble.calibration.target_calibration import LabelledRows
from matscout.ensemble.comparison.compare_methods import (
    LabelledPredictions,
    RowFacts,
    baseline_predictions,
    composition_features,
    measure_target,
)
from matscout.ensemble.members import (
    SURROGATES,
    check_store,
    check_surrogates,
    copy_members,
    load_members,
    load_surrogates,
    run_members,
)
from matscout.ensemble.metrics import Resampling
from matscout.ensemble.mixture import TargetOutputs
from matscout.ensemble.training_distance import TrainingReference, reference_rows
from matscout.files import atomic_path, write_json, write_parquet
from matscout.graphs.graph_store import GraphStore
from matscout.models.families.registry import FAMILIES
from matscout.models.inference import ON_CPU
from matscout.models.saved_member import LoadedMember
from matscout.params import Params, Target
from matscout.progress import progress

PREDICTIONS_FILE = "predictions.parquet"
METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class HeldOut:
    """Validation and test rows, the members' outputs for them, and their distance from the training set."""

    table: pd.DataFrame
    outputs: Mapping[str, TargetOutputs]
    distance: NDArray[np.float64]
    reference: TrainingReference
    unseen: list[str]

    def fold(self, name: str) -> NDArray[np.int64]:
        """Positions of the rows of one fold."""
        return np.flatnonzero(self.table[columns.FOLD] == name)

    def outputs_of(self, rows: NDArray[np.int64]) -> dict[str, TargetOutputs]:
        """Of some rows, by target."""
        return {target: outputs.take(rows) for target, outputs in self.outputs.items()}


def evaluate(members: Path, *, params: Params, materials: Path, graphs: Path, split: Path, destination: Path) -> None:
    """Fit the ensemble on the validation fold, test it on the test fold, write the folder `destination`.

    Args:
        members: folder of trained members, one folder each.
        params: sections `members` and `finetuned` (names), `targets`, `ensemble`; `ensemble.surrogates` is the folder
            of the surrogates.
        materials: curated table.
        graphs: folder of the graph store.
        split: material_id and fold.
        destination: gets predictions.parquet, calibration.json, reference.npz, metrics.json and the surrogates.

    Raises:
        StoreError: a member or surrogate is missing, broken, or does not fit the others or the graphs.
        InputError: the folds hold no usable rows, or synthetic rows where real ones are needed.
    """
    store = GraphStore.open(graphs)
    loaded = load_members(members, list(params.ensembled))
    folds = read_folds(materials, split, params.targets)
    has_hypothetical = columns.CALIBRATION in set(folds[columns.FOLD])
    surrogates = load_surrogates(Path(params.ensemble.surrogates)) if has_hypothetical else []
    check_surrogates(surrogates, loaded[0])
    check_store([*loaded, *surrogates], store)
    held_out = _run(loaded, store, folds)
    unmade = run_hypothetical(loaded, surrogates, store, folds, held_out.reference)
    calibration = _calibrate(loaded, surrogates, held_out, unmade, params)
    with atomic_path(destination, mark=CALIBRATION_FILE) as folder:
        folder.mkdir()
        calibration.save(folder / CALIBRATION_FILE)
        held_out.reference.save(folder / REFERENCE_FILE)
        copy_members(Path(params.ensemble.surrogates), folder / SURROGATES, list(calibration.surrogates))
        write_parquet(folder / PREDICTIONS_FILE, _table(calibration, held_out, params.targets))
        measured = _measure(calibration, held_out, folds, params)
        write_json(
            folder / METRICS_FILE,
            {**measured, "hypothetical": measure_hypothetical(calibration, unmade, params.targets)},
        )


def _run(loaded: list[LoadedMember], store: GraphStore, folds: pd.DataFrame) -> HeldOut:
    """All members over the held-out rows, and over training rows for the distances."""
    table = held_out_rows(folds)
    rows = store.rows_of(table[columns.MATERIAL_ID].to_numpy(str))
    training = store.rows_of(folds.loc[folds[columns.FOLD] == columns.TRAIN, columns.MATERIAL_ID].to_numpy(str))
    outputs = run_members(loaded, store, rows, plan=ON_CPU, description="held out")
    embeddings = run_members(loaded, store, reference_rows(training), plan=ON_CPU, description="training").embeddings
    is_validation = (table[columns.FOLD] == columns.VALIDATION).to_numpy()
    reference = TrainingReference.fit(embeddings, outputs.embeddings[is_validation]).with_known(
        folds.loc[folds[columns.CALCULATION] == columns.BY_DFT, columns.SPECIES].map(formula_key)
    )
    distance = reference.distance(outputs.embeddings)
    return HeldOut(table, outputs.at(distance), distance, reference, unseen_elements(store, rows, _elements(loaded)))


def _calibrate(
    loaded: list[LoadedMember],
    surrogates: list[LoadedMember],
    held_out: HeldOut,
    unmade: HypotheticalRows,
    params: Params,
) -> EnsembleCalibration:
    validation = held_out.fold(columns.VALIDATION)
    targets = fit_targets(
        held_out.outputs_of(validation),
        held_out.table.iloc[validation],
        params.targets,
        method=params.ensemble.combine,
        drop_factor=params.ensemble.drop_factor,
    )
    hypothetical = fit_hypothetical(unmade, targets, params)
    used = {name for fitted in hypothetical.values() for name in fitted.tuning.combination.weights}
    return EnsembleCalibration(
        members={member.name: member.card.weights_sha256 for member in loaded},
        surrogates={one.name: one.card.weights_sha256 for one in surrogates if one.name in used},
        targets=targets,
        hypothetical=hypothetical,
        metal_target=metal_target_of(params.targets),
        graphs=dict(loaded[0].card.graphs),
        elements=_elements(loaded),
    )


def _table(calibration: EnsembleCalibration, held_out: HeldOut, targets: Mapping[str, Target]) -> pd.DataFrame:
    """Identity, labels, predictions and flags of the held-out rows."""
    table = held_out.table
    sources = table[columns.SOURCE].to_numpy(str)
    ids = table[columns.MATERIAL_ID].to_numpy(str)
    predictions = calibrated(calibration, held_out.outputs)
    predicted = prediction_table(calibration, held_out.outputs, predictions, ids=ids, sources=sources)
    identity = [columns.MATERIAL_ID, columns.SOURCE, columns.FOLD]
    truth = {target + columns.TRUTH: labels_of(table, settings) for target, settings in targets.items()}
    distance = held_out.distance
    flags = {
        columns.TRAINING_DISTANCE: distance,
        columns.FAR_FROM_TRAINING: held_out.reference.is_far(distance),
        columns.UNSEEN_ELEMENTS: held_out.unseen,
    }
    parts = [table[identity], pd.DataFrame(truth), predicted.drop(columns=columns.MATERIAL_ID), pd.DataFrame(flags)]
    return pd.concat(parts, axis=1)


def _measure(
    calibration: EnsembleCalibration, held_out: HeldOut, folds: pd.DataFrame, params: Params
) -> dict[str, Any]:
    resampling = Resampling(params.ensemble.bootstrap, params.ensemble.seed)

    def measure(name: str) -> dict[str, Any]:
        target = params.targets[name]
        validation, test = (_labelled(held_out, fold, target) for fold in (columns.VALIDATION, columns.TEST))
        return measure_target(
            calibration.targets[name],
            _labelled_predictions(calibration, held_out, validation, name, target),
            _labelled_predictions(calibration, held_out, test, name, target),
            _test_facts(held_out, folds, params, test=test, target=name),
            unit=columns.UNITS.get(target.label, ""),
            resampling=resampling,
        )

    with ThreadPoolExecutor(n_workers()) as pool:  # half of it is gradient boosting, which frees the interpreter
        found = progress(
            pool.map(measure, params.targets), description="metrics", total=len(params.targets), unit="target"
        )
        measured = dict(zip(params.targets, found, strict=True))
    distance = held_out.distance[held_out.fold(columns.TEST)]
    return {
        "members": list(calibration.members),
        "targets": measured,
        "flags": {
            "far_limit": held_out.reference.far_limit,
            "test_share_far": float(held_out.reference.is_far(distance).mean()),
            "held_out_rows_with_unseen_elements": sum(bool(symbols) for symbols in held_out.unseen),
        },
    }


def _labelled(held_out: HeldOut, fold: str, target: Target) -> NDArray[np.int64]:
    rows = held_out.fold(fold)
    return rows[np.isfinite(labels_of(held_out.table.iloc[rows], target))]


def _labelled_predictions(
    calibration: EnsembleCalibration, held_out: HeldOut, rows: NDArray[np.int64], name: str, target: Target
) -> LabelledPredictions:
    table = held_out.table.iloc[rows]
    mixtures = {
        name: prediction.mixture for name, prediction in calibrated(calibration, held_out.outputs_of(rows)).items()
    }
    stratum, possible = strata(calibration.metal_target, mixtures, len(rows))
    labelled = LabelledRows(
        truth=labels_of(table, target),
        strata=stratum,
        possible_strata=possible,
        sources=table[columns.SOURCE].to_numpy(str),
        groups=table[columns.DUPLICATE_GROUP].to_numpy(str),
    )
    return LabelledPredictions(held_out.outputs[name].take(rows), labelled)


def _test_facts(
    held_out: HeldOut, folds: pd.DataFrame, params: Params, *, test: NDArray[np.int64], target: str
) -> RowFacts:
    table = held_out.table.iloc[test]
    metal = metal_target_of(params.targets)
    distance = held_out.distance[test]
    return RowFacts(
        is_metal=None if metal is None else labels_of(table, params.targets[metal]) == 0,
        distance=distance,
        is_far=held_out.reference.is_far(distance),
        baselines=_baselines(folds, table, params.targets[target], seed=params.ensemble.seed),
    )


def _baselines(folds: pd.DataFrame, table: pd.DataFrame, target: Target, *, seed: int) -> dict[str, Any]:
    """Predictions for `table` of the baselines, trained on the rows that trained the members."""
    training = folds.loc[
        ((folds[columns.FOLD] == columns.TRAIN) & (folds[columns.CALCULATION] == columns.BY_DFT)).to_numpy(bool)
    ]
    labels = labels_of(training, target)
    known = np.isfinite(labels)
    return baseline_predictions(
        _features(training.loc[known]),
        labels[known],
        _features(table),
        lower_bound=FAMILIES[target.head].LOWER_BOUND,
        seed=seed,
    )


def _features(table: pd.DataFrame) -> NDArray[np.float64]:
    return composition_features(atomic_fractions(table[columns.SPECIES]))


def _elements(loaded: list[LoadedMember]) -> tuple[str, ...]:
    """Symbols that every member was trained on, in the first member's order (by atomic number)."""
    return tuple(s for s in loaded[0].card.elements if all(s in member.card.elements for member in loaded))
