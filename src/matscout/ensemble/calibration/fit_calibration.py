"""From the members' outputs on the labelled rows of the validation fold to the ensemble's calibration."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.curated_table import CuratedTable
from matscout.ensemble.calibration.ensemble_calibration import strata
from matscout.ensemble.calibration.target_calibration import LabelledRows, TargetCalibration, fit_target, fit_tuning
from matscout.ensemble.mixture import Method, TargetOutputs
from matscout.errors import InputError
from matscout.models.families.registry import FAMILIES
from matscout.params import Target


def metal_target_of(targets: Mapping[str, Target]) -> str | None:
    """The first target whose values of exactly zero have a probability of their own: they are metals."""
    return next((name for name, target in targets.items() if FAMILIES[target.head].HAS_MASS_AT_ZERO), None)


def fit_targets(
    outputs: Mapping[str, TargetOutputs],
    validation: pd.DataFrame,
    targets: Mapping[str, Target],
    *,
    method: Method,
    drop_factor: float | None,
) -> dict[str, TargetCalibration]:
    """Calibrate every target on its labelled validation rows.

    Args:
        outputs: outputs of the members by target, for the rows of `validation`.
        validation: rows of the validation fold, see `read_folds`.
        targets: targets by name.
        method: method of combining the members.
        drop_factor: see `Combination`; None keeps all members.

    Returns:
        Calibration by target.

    Raises:
        InputError: a target has no label in the validation fold.
    """
    stratum, possible = _strata(outputs, validation, targets, method=method, drop_factor=drop_factor)
    fitted = {}
    for name, target in targets.items():
        known, truth = _labelled(validation, name, target)
        rows = LabelledRows(
            truth=truth[known],
            strata=stratum[known],
            possible_strata=possible,
            sources=validation[columns.SOURCE].to_numpy(str)[known],
            groups=validation[columns.DUPLICATE_GROUP].to_numpy(str)[known],
        )
        fitted[name] = fit_target(
            outputs[name].take(known),
            rows,
            method=method,
            drop_factor=drop_factor,
            lower_bound=FAMILIES[target.head].LOWER_BOUND,
        )
    return fitted


def _strata(
    outputs: Mapping[str, TargetOutputs],
    validation: pd.DataFrame,
    targets: Mapping[str, Target],
    *,
    method: Method,
    drop_factor: float | None,
) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    name = metal_target_of(targets)
    if name is None:
        return strata(None, {}, len(validation))
    known, truth = _labelled(validation, name, targets[name])
    tuning = fit_tuning(outputs[name].take(known), truth[known], method=method, drop_factor=drop_factor)
    return strata(name, {name: tuning.mixture(outputs[name])}, len(validation))


def _labelled(validation: pd.DataFrame, name: str, target: Target) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    truth = labels_of(validation, target)
    known = np.isfinite(truth)
    if not known.any():
        raise InputError(
            f"no validation row has a label for {name!r} ({target.label}): the ensemble cannot be calibrated; "
            "raise split.validation, give more rows, or remove the target"
        )
    return known, truth


Array = NDArray[np.float64]


def read_folds(materials: Path, split: Path, targets: Mapping[str, Target]) -> pd.DataFrame:
    """Identity, composition and labels of all materials, with their fold.

    Args:
        materials: path of the curated table or the training set, parquet.
        split: fold of each material id, parquet.
        targets: targets whose labels are read.

    Returns:
        One row a material, in the order of `materials`.

    Raises:
        InputError: a label column is missing, a material has no fold, or a held-out row is synthetic.
    """
    labels = sorted({target.label for target in targets.values()})
    wanted = [columns.SOURCE, columns.SYNTHETIC, columns.DUPLICATE_GROUP, columns.SPECIES]
    of_training_set = [columns.CALCULATION, *sorted({target.noise for target in targets.values() if target.noise})]
    table = CuratedTable(materials).with_folds(split, [*wanted, *labels], optional=of_training_set, complete=True)
    if columns.CALCULATION not in table:
        table[columns.CALCULATION] = columns.BY_DFT
    _check_no_synthetic(table)
    return table


def held_out_rows(folds: pd.DataFrame) -> pd.DataFrame:
    """The validation and test rows, in the table's order.

    Args:
        folds: see `read_folds`.

    Returns:
        The rows of both folds, with a new index from 0.

    Raises:
        InputError: one of the two folds is empty.
    """
    for fold in (columns.VALIDATION, columns.TEST):
        if fold not in set(folds[columns.FOLD]):
            raise InputError(f"the {fold} fold is empty; raise split.{fold} or give more rows")
    is_held_out = folds[columns.FOLD].isin([columns.VALIDATION, columns.TEST]).to_numpy(bool)
    return folds.loc[is_held_out].reset_index(drop=True)


def labels_of(folds: pd.DataFrame, target: Target) -> Array:
    """(n,) labels of a target, NaN where missing."""
    return folds[target.label].to_numpy(dtype=np.float64, na_value=np.nan)


def _check_no_synthetic(table: pd.DataFrame) -> None:
    held_out = table[columns.FOLD].isin([columns.VALIDATION, columns.TEST])
    synthetic = table.loc[held_out & table[columns.SYNTHETIC].astype(bool), columns.MATERIAL_ID]
    if len(synthetic):
        raise InputError(
            f"{len(synthetic)} synthetic rows are held out, such as {synthetic.iloc[0]}; "
            "accuracy is measured on real rows only: run `dvc repro split`"
        )
