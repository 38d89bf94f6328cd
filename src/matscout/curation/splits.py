"""Assign rows to training, validation and test: no test row has a near-duplicate in training, and no row changes sides.

Rows that match share a key. A row's fold is drawn from the seed and a key of the row itself (see `folds`), never from
its rank or from its cluster's members. So rows added later do not move old rows; only a training row that
is a near-duplicate of a new held-out row becomes `unused`.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pymatgen.core import Composition

from matscout import columns
from matscout.curated_table import CuratedTable
from matscout.errors import InputError, ParameterError
from matscout.files import write_parquet
from matscout.params import Split

DRAW_BYTES: Final = 8


def match_keys(materials: pd.DataFrame) -> pd.Series:
    """`formula|atoms in the primitive cell`: rows that match, merged or related, have equal keys.

    The matcher compares crystals of one formula and one primitive size only, so the key is coarser
    than every cluster and every edge. It depends on the row alone: a row that joins or bridges
    clusters later, or becomes the smallest id of one, changes no other row's key.
    """
    return materials.loc[:, columns.FORMULA] + "|" + materials.loc[:, columns.N_ATOMS_PRIMITIVE].astype(int).astype(str)


def composition_keys(materials: pd.DataFrame) -> pd.Series:
    """The reduced formula."""
    return materials.loc[:, columns.FORMULA]


def prototype_keys(materials: pd.DataFrame) -> pd.Series:
    """`anonymous formula|space group|atoms in the primitive cell`, such as `AB|225|2` for rock salt.

    Wyckoff letters are left out: they depend on the origin and on tiny distortions.
    """
    formulas = materials.loc[:, columns.FORMULA]
    anonymous = formulas.map({formula: Composition(formula).anonymized_formula for formula in formulas.unique()})
    numbers = materials.loc[:, [columns.SPACE_GROUP, columns.N_ATOMS_PRIMITIVE]].astype(int).astype(str)
    return anonymous + "|" + numbers[columns.SPACE_GROUP] + "|" + numbers[columns.N_ATOMS_PRIMITIVE]


def draw(keys: pd.Series, seed: int) -> NDArray[np.float64]:
    """(n,) uniform on [0, 1), decided by seed and key alone, not by other rows."""
    codes, distinct = pd.factorize(keys)
    return np.array([_draw_one(key, seed) for key in distinct], dtype=np.float64)[codes]


def _draw_one(key: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:DRAW_BYTES], "big") / 256**DRAW_BYTES


SPLIT_SCHEMA: Final = pa.schema([(columns.MATERIAL_ID, pa.string()), (columns.FOLD, pa.string())])
NEEDED: Final = (
    columns.MATERIAL_ID,
    columns.SOURCE,
    columns.SYNTHETIC,
    columns.YEAR,
    columns.FORMULA,
    columns.SPACE_GROUP,
    columns.N_ATOMS_PRIMITIVE,
    columns.DUPLICATE_GROUP,
)

Folds = NDArray[np.object_]


def make_split(materials: pd.DataFrame, params: Split) -> pd.DataFrame:
    """Assign a fold to every row of the curated table.

    Args:
        materials: rows of `materials.parquet` (the columns `NEEDED`).
        params: the section `split`.

    Returns:
        material_id and fold, in the order of `materials`. Synthetic rows never validate or test.

    Raises:
        InputError: the table is not a curated table.
        ParameterError: the strategy leaves nothing to test on.
    """
    _check_groups(materials)
    folds = STRATEGIES[params.strategy](materials, params)
    synthetic = materials[columns.SYNTHETIC].to_numpy(dtype=bool)
    folds[synthetic & ((folds != columns.TRAIN) | (not params.train_on_synthetic))] = columns.UNUSED
    if params.test > 0 and len(materials) > 0 and not (folds == columns.TEST).any():
        message = f"split.strategy = {params.strategy!r} with held_out = {params.held_out!r} leaves no real row"
        raise ParameterError(f"{message} to test on; choose another strategy, held_out or a larger split.test")
    return pd.DataFrame({columns.MATERIAL_ID: materials[columns.MATERIAL_ID].to_numpy(), columns.FOLD: folds})


def write_split(materials: Path, params: Split, destination: Path) -> None:
    """The stage `split`: read the curated table, write `split.parquet`.

    Args:
        materials: path of the curated table, parquet.
        params: shares of the folds, and the seed.
        destination: destination of `split.parquet`.
    """
    write_parquet(destination, make_split(CuratedTable(materials).rows(NEEDED), params), SPLIT_SCHEMA)


def exclude_matches(pool: pd.DataFrame, test_rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `pool` that may pretrain a model that is tested on `test_rows`.

    Both are rows of curated tables, of one run or of two. Every row that could match a test row is
    left out (see `match_keys`). They are more than those that do match, so no tolerance matters.
    """
    return pool.loc[~match_keys(pool).isin(match_keys(test_rows))]


def _split_by(keys: Callable[[pd.DataFrame], pd.Series]) -> Callable[[pd.DataFrame, Split], Folds]:
    def split(materials: pd.DataFrame, params: Split) -> Folds:
        drawn = draw(keys(materials), params.seed)
        folds = np.full(len(materials), columns.TRAIN, dtype=object)
        folds[drawn < params.test + params.validation] = columns.VALIDATION
        folds[drawn < params.test] = columns.TEST
        return _without_leaks(materials, folds)

    return split


def _split_by_database(materials: pd.DataFrame, params: Split) -> Folds:
    sources = sorted(materials[columns.SOURCE].unique())
    if params.held_out not in sources:
        message = f"split.held_out = {params.held_out!r} is not a database of the curated table"
        raise ParameterError(f"{message}; the strategy 'database' needs one of {sources}")
    folds = _train_and_validation(materials, params)
    folds[(materials[columns.SOURCE] == params.held_out).to_numpy()] = columns.TEST
    return _without_leaks(materials, folds)


def _split_by_time(materials: pd.DataFrame, params: Split) -> Folds:
    """Rows from `held_out` on test, unless an earlier row of the same material could be trained on."""
    if params.held_out is None or not params.held_out.isdigit():
        message = f"split.held_out = {params.held_out!r}: the strategy 'time' needs the first year of the test fold"
        raise ParameterError(f"{message}, such as '2018'")
    years = materials[columns.YEAR].astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    keys = match_keys(materials)
    late = years >= int(params.held_out)
    known_before = keys.isin(keys[years < int(params.held_out)]).to_numpy()
    folds = _train_and_validation(materials, params)
    folds[late] = columns.TEST
    folds[np.isnan(years) | (late & known_before)] = columns.UNUSED
    return _without_leaks(materials, folds)


def _train_and_validation(materials: pd.DataFrame, params: Split) -> Folds:
    validates = draw(match_keys(materials), params.seed) < params.validation
    return np.where(validates, columns.VALIDATION, columns.TRAIN).astype(object)


def _without_leaks(materials: pd.DataFrame, folds: Folds) -> Folds:
    """Rows that could match a row of a more held-out fold become unused: test before validation before train."""
    keys = match_keys(materials)
    in_test = keys.isin(keys[folds == columns.TEST]).to_numpy()
    in_validation = keys.isin(keys[folds == columns.VALIDATION]).to_numpy()
    leaks = (in_test & (folds != columns.TEST)) | (in_validation & (folds == columns.TRAIN))
    folds[leaks] = columns.UNUSED
    return folds


def _check_groups(materials: pd.DataFrame) -> None:
    absent = [name for name in NEEDED if name not in materials]
    if absent:
        raise InputError(f"the table lacks {absent}; make_split needs the rows of data/curated/materials.parquet")
    keys = match_keys(materials).groupby(materials[columns.DUPLICATE_GROUP]).nunique()
    torn = keys.index[keys.to_numpy() > 1]
    if len(torn):
        group = torn[0]
        raise InputError(
            f"duplicate group {group!r} holds several formulas or cell sizes; run the stage `curate` again"
        )


STRATEGIES: Final[dict[str, Callable[[pd.DataFrame, Split], Folds]]] = {
    "random": _split_by(match_keys),
    "composition": _split_by(composition_keys),
    "prototype": _split_by(prototype_keys),
    "database": _split_by_database,
    "time": _split_by_time,
}
