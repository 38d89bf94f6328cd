"""Explain why rows are the same material, from the edges that curation kept."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from matscout import columns
from matscout.curated_table import DUPLICATES_NAME, MATERIALS_NAME, QUARANTINE_NAME, CuratedTable
from matscout.errors import InputError

NEEDED = (
    columns.MATERIAL_ID,
    columns.SOURCE,
    columns.SYNTHETIC,
    columns.FORMULA,
    columns.N_ATOMS,
    columns.SPACE_GROUP,
    columns.LATTICE,
    columns.FORMATION_ENERGY,
    columns.DUPLICATE_GROUP,
    columns.IS_REPRESENTATIVE,
)
RULE = (
    "Rule: two rows are one material if their primitive cells match in both directions (same formula, atoms on the "
    "same sites within tolerance, volumes scaled alike) and their space groups agree, mirror images and differences "
    "below the symmetry tolerance aside; every pair of a group must."
)


def why_merged(material_id: str, curated: Path) -> str:
    """Explain which rows are the same material as `material_id`, and which nearly are.

    Args:
        material_id: a row of the curated table.
        curated: folder that `curate` wrote.

    Returns:
        Lines of text for the terminal.

    Raises:
        InputError: the table is absent, or the id is unknown.
    """
    materials = CuratedTable(Path(curated) / MATERIALS_NAME).rows(NEEDED).set_index(columns.MATERIAL_ID)
    if material_id not in materials.index:
        raise InputError(_absence(material_id, materials, Path(curated)))
    edges = pd.read_parquet(Path(curated) / DUPLICATES_NAME)
    edges = edges.loc[(edges["material_id_a"] == material_id) | (edges["material_id_b"] == material_id)]
    row = materials.loc[material_id]
    members = materials.loc[materials[columns.DUPLICATE_GROUP] == row[columns.DUPLICATE_GROUP]]
    lines = [_headline(material_id, row, members)]
    for edge in edges.sort_values(["merged", "rms"], ascending=[False, True]).to_dict("records"):
        other = edge["material_id_b"] if edge["material_id_a"] == material_id else edge["material_id_a"]
        lines.append(_sentence(material_id, other, edge, materials))
    return "\n".join([*lines, RULE])


def _headline(material_id: str, row: Any, members: pd.DataFrame) -> str:
    what = f"{material_id} is {row[columns.FORMULA]} from {_source(row)}, space group {row[columns.SPACE_GROUP]}"
    if len(members) == 1:
        return f"{what}. No other row is the same material."
    representative = members.index[members[columns.IS_REPRESENTATIVE].to_numpy(dtype=bool)][0]
    return f"{what}. It is one of {len(members)} rows of one material; {representative} represents them."


def _sentence(material_id: str, other: str, edge: dict[str, Any], materials: pd.DataFrame) -> str:
    row = materials.loc[other]
    volume = abs(np.linalg.det(np.asarray(row[columns.LATTICE]).reshape(3, 3))) / row[columns.N_ATOMS]
    length = volume ** (1 / 3)
    scores = (
        f"sites differ by {edge['rms'] * length:.3f} Å (rms; at most {edge['max_distance'] * length:.3f} Å), "
        f"volumes by {100 * edge['volume_difference']:.2f} %"
    )
    groups = sorted({int(edge["space_group_a"]), int(edge["space_group_b"])})
    shared = f"both have space group {groups[0]}"
    if len(groups) > 1:
        differs = "are mirror images" if edge["same_space_group"] else "differ only within tolerance"
        shared = f"space groups {groups} {differs}"
    if edge["merged"]:
        own = materials.loc[material_id, columns.FORMATION_ENERGY]
        return f"  = {other} ({_source(row)}): {scores}; {shared}{_energies(own, row)}."
    if not edge["same_material"]:
        return f"  ~ {other} ({_source(row)}) is related, not merged: {scores}, but space groups {groups} differ."
    return (
        f"  ~ {other} ({_source(row)}) matches but was not merged: {scores}; another row of one of the two groups "
        "does not match it, and all pairs of a group must."
    )


def _energies(own: float, row: Any) -> str:
    difference = row[columns.FORMATION_ENERGY] - own
    if not np.isfinite(difference):
        return ""
    return f"; published formation energies differ by {1000 * abs(difference):.0f} meV/atom"


def _source(row: Any) -> str:
    return f"{row[columns.SOURCE]}{' (synthetic)' if row[columns.SYNTHETIC] else ''}"


def _absence(material_id: str, materials: pd.DataFrame, curated: Path) -> str:
    rejected = pd.read_parquet(curated / QUARANTINE_NAME)
    rejected = rejected.loc[rejected[columns.MATERIAL_ID] == material_id]
    if len(rejected):
        first = rejected.iloc[0]
        return f"{material_id} was rejected by curation: {first['reason']}: {first['detail']}"
    near = get_close_matches(material_id, materials.index.tolist(), n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    return f"{material_id!r} is not a row of {curated / MATERIALS_NAME}{hint}"
