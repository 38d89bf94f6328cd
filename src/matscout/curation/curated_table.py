"""The outputs of `curate`: the names of its files, and its table as a pandas DataFrame."""

from pathlib import Path
from typing import Final

import pandas as pd

from matscout.errors import InputError
from matscout.layout import CURATED

MATERIALS_NAME: Final = "materials.parquet"
QUARANTINE_NAME: Final = "quarantine.parquet"
DUPLICATES_NAME: Final = "duplicates.parquet"
SUMMARY_NAME: Final = "summary.json"


def load_materials_database(curated: Path = CURATED) -> pd.DataFrame:
    """Every usable row with its labels, its crystal and its duplicate group; columns and units as in `columns.py`.

    Args:
        curated: folder that the stage `curate` wrote.

    Returns:
        One row a material.

    Raises:
        InputError: there is no table yet.
    """
    path = Path(curated) / MATERIALS_NAME
    if not path.is_file():
        raise InputError(f"{path} not found: run `dvc repro curate` in the repository root, or give its folder")
    return pd.read_parquet(path)
