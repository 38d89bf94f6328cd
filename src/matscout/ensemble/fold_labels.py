"""Rows of the folds with their labels, as `evaluate` needs them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matscout import columns
from matscout.errors import InputError
from matscout.params import Target

Array = NDArray[np.float64]


def read_folds(materials: Path, split: Path, targets: Mapping[str, Target]) -> pd.DataFrame:
    """Identity, composition and labels of all materials, with their fold.

    Raises:
        InputError: a label column is missing, a material has no fold, or a held-out row is synthetic.
    """
    labels = sorted({target.label for target in targets.values()})
    wanted = [columns.MATERIAL_ID, columns.SOURCE, columns.SYNTHETIC, columns.DUPLICATE_GROUP, columns.SPECIES]
    if Path(materials).is_file() and columns.CALCULATION in pq.read_schema(materials).names:  # the training set
        wanted += [columns.CALCULATION, *sorted({target.noise for target in targets.values() if target.noise})]
    try:
        table = pd.read_parquet(materials, columns=[*wanted, *labels])
    except (ValueError, KeyError) as error:
        raise InputError(f"{materials} lacks a column of {[*wanted, *labels]}: {error}") from error
    folds = pd.read_parquet(split)
    fold_of = dict(zip(folds[columns.MATERIAL_ID], folds[columns.FOLD], strict=True))
    ids = table[columns.MATERIAL_ID].tolist()
    if lost := [name for name in ids if name not in fold_of]:
        raise InputError(
            f"{len(lost)} rows of {materials} have no fold in {split}, such as {lost[0]}; run `dvc repro split`"
        )
    table[columns.FOLD] = [fold_of[name] for name in ids]
    if columns.CALCULATION not in table:
        table[columns.CALCULATION] = columns.BY_DFT
    _refuse_synthetic(table)
    return table


def held_out_rows(folds: pd.DataFrame) -> pd.DataFrame:
    """The validation and test rows, in the table's order.

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


def _refuse_synthetic(table: pd.DataFrame) -> None:
    held_out = table[columns.FOLD].isin([columns.VALIDATION, columns.TEST])
    synthetic = table.loc[held_out & table[columns.SYNTHETIC].astype(bool), columns.MATERIAL_ID]
    if len(synthetic):
        raise InputError(
            f"{len(synthetic)} synthetic rows are held out, such as {synthetic.iloc[0]}; "
            "accuracy is measured on real rows only: run `dvc repro split`"
        )
