"""Keys that rows which match share, and the reproducible draw that turns a key into a fold."""

import hashlib
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymatgen.core import Composition

from matscout import columns

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
