"""Which row speaks for a group of duplicates."""

import pandas as pd

from matscout import columns


def mark_representatives(materials: pd.DataFrame, reference: str) -> pd.Series:
    """True for one row of every duplicate group.

    Genuine rows come before synthetic ones, the reference database before others, more labels before
    fewer, then the smallest material_id.
    """
    order = pd.DataFrame(
        {
            "group": materials[columns.DUPLICATE_GROUP],
            "synthetic": materials[columns.SYNTHETIC].astype(bool),
            "foreign": materials[columns.SOURCE] != reference,
            "missing": materials[list(columns.LABELS)].isna().sum(axis=1),
            "material_id": materials[columns.MATERIAL_ID],
        }
    ).sort_values(["group", "synthetic", "foreign", "missing", "material_id"])
    return ~order.duplicated("group").reindex(materials.index)
