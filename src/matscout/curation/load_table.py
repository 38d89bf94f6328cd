"""The curated table as a pandas DataFrame, for notebooks and scripts."""

from pathlib import Path
from typing import Final

import pandas as pd

from matscout.curation.curated_files import MATERIALS_NAME
from matscout.errors import InputError

CURATED: Final = Path("data/curated")


def load_materials_database(curated: Path = CURATED) -> pd.DataFrame:
    """Every usable row with its labels, its crystal and its duplicate group; columns and units as in `columns.py`.

    Args:
        curated: folder that the stage `curate` wrote.

    Raises:
        InputError: there is no table yet.
    """
    path = Path(curated) / MATERIALS_NAME
    if not path.is_file():
        raise InputError(f"{path} not found: run `dvc repro curate` in the repository root, or give its folder")
    return pd.read_parquet(path)
