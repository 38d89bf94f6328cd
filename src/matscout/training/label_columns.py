"""Labels of the curated table, of all databases together or of one database and functional alone."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from matscout import columns


def class_label(column: str, source: str, functional: str) -> str:
    """Name of a column's labels on the rows of one database and functional: `band_gap@oqmd/PBE`."""
    return f"{column}@{source}/{functional}"


def read_labels(materials: Path, names: Iterable[str]) -> pd.DataFrame:
    """material_id, synthetic, calculation, and one column a name.

    Args:
        materials: training set, or curated table, whose rows all come from DFT.
        names: columns of it, or `class_label`s of one, which are NaN on all other rows.
    """
    wanted = sorted(set(names))
    published = {name.split("@")[0] for name in wanted}
    of_class = [name for name in wanted if "@" in name]
    classes = [columns.SOURCE, columns.FUNCTIONAL] if of_class else []
    told = [columns.CALCULATION] if columns.CALCULATION in pq.read_schema(materials).names else []
    wanted_columns = [columns.MATERIAL_ID, columns.SYNTHETIC, *told, *classes, *sorted(published)]
    table = pd.read_parquet(materials, columns=wanted_columns)
    if not told:
        table[columns.CALCULATION] = columns.BY_DFT
    for name in of_class:
        column, _, one = name.partition("@")
        source, _, functional = one.partition("/")
        belongs = (table[columns.SOURCE] == source) & (table[columns.FUNCTIONAL] == functional)
        table[name] = table[column].where(belongs)
    return table.loc[:, [columns.MATERIAL_ID, columns.SYNTHETIC, columns.CALCULATION, *wanted]]
