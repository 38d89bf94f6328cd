"""Counts of what curation did: the content of `summary.json` and of `metrics/curation.json`."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from matscout import columns

DIGITS = 6


def summarize_curation(
    materials: pd.DataFrame, quarantine: pd.DataFrame, edges: pd.DataFrame, offsets: dict[str, Any]
) -> dict[str, Any]:
    """Rows by source, how they were calculated, rejections by source and reason, duplicates, offsets, label noise.

    Args:
        materials: usable rows.
        quarantine: rejected rows.
        edges: matches among the rows.
        offsets: reference offsets, as fitted.

    Returns:
        The content of `summary.json`.
    """
    sources = sorted(set(materials[columns.SOURCE]) | set(quarantine[columns.SOURCE]))
    return {
        "rows": {source: _rows_of(source, materials, quarantine) for source in sources},
        "calculations": {
            source: _calculations(materials.loc[materials[columns.SOURCE] == source]) for source in sources
        },
        "rejected": {source: _reasons(quarantine.loc[quarantine[columns.SOURCE] == source]) for source in sources},
        "total": {"rows": len(materials), "rejected": len(quarantine), "by_reason": _reasons(quarantine)},
        "duplicates": _duplicates(materials, edges),
        "offsets": offsets,
        "label_noise": {
            name: _noise(materials, name) for name in (columns.FORMATION_ENERGY_NOISE, columns.BAND_GAP_NOISE)
        },
    }


def _rows_of(source: str, materials: pd.DataFrame, quarantine: pd.DataFrame) -> dict[str, int]:
    kept = materials.loc[materials[columns.SOURCE] == source]
    rejected = int((quarantine[columns.SOURCE].to_numpy() == source).sum())
    return {
        "read": len(kept) + rejected,
        "rejected": rejected,
        "kept": len(kept),
        "synthetic": int(kept[columns.SYNTHETIC].to_numpy(dtype=bool).sum()),
    }


def _calculations(rows: pd.DataFrame) -> dict[str, int]:
    """Rows by functional, Hubbard U and family of pseudopotentials: `PBE+U, PAW_PBE` -> rows."""
    stated = rows[[columns.FUNCTIONAL, columns.IS_HUBBARD, columns.PSEUDOPOTENTIALS]].itertuples(index=False)
    kinds = Counter(f"{functional}{_hubbard(flag)}, {_family(family)}" for functional, flag, family in stated)
    return dict(sorted(kinds.items()))


def _hubbard(flag: object) -> str:
    return " (U not stated)" if pd.isna(flag) else "+U" if flag else ""  # type: ignore[arg-type]


def _family(family: object) -> str:
    return family if isinstance(family, str) else "pseudopotentials not stated"


def _reasons(quarantine: pd.DataFrame) -> dict[str, int]:
    return {str(reason): int(count) for reason, count in quarantine["reason"].value_counts().sort_index().items()}


def _duplicates(materials: pd.DataFrame, edges: pd.DataFrame) -> dict[str, int]:
    """Groups, and edges by their outcome."""
    groups = materials.groupby(columns.DUPLICATE_GROUP)[columns.SOURCE].agg(["size", "nunique"])
    sizes, databases = np.asarray(groups["size"]), np.asarray(groups["nunique"])
    merged, same = edges["merged"].to_numpy(dtype=bool), edges["same_material"].to_numpy(dtype=bool)
    agree = edges["same_space_group"].to_numpy(dtype=bool)
    return {
        "groups": len(groups),
        "groups_of_several_rows": int((sizes > 1).sum()),
        "groups_of_several_databases": int((databases > 1).sum()),
        "rows_in_groups_of_several": int(sizes[sizes > 1].sum()),
        "largest_group": int(sizes.max(initial=0)),
        "edges": len(edges),
        "edges_merged": int(merged.sum()),
        "edges_space_group_differs_within_tolerance": int((same & ~agree).sum()),
        "edges_related_other_space_group": int((~same).sum()),
        "edges_kept_apart_by_complete_link": int((same & ~merged).sum()),
    }


def _noise(materials: pd.DataFrame, column: str) -> dict[str, Any]:
    noise = materials[column].dropna()
    if noise.empty:
        return {"rows": 0}
    quantiles = noise.quantile([0.1, 0.5, 0.9]).round(DIGITS).tolist()
    return {"rows": len(noise), **dict(zip(("p10", "median", "p90"), quantiles, strict=True))}
