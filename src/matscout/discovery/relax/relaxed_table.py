"""The table of the stage `relax`: its columns, and the final ranking of all candidates."""

from typing import Final

import numpy as np
import pandas as pd

from matscout import columns

RELAXED_NAME: Final = "relaxed.parquet"
SUMMARY_NAME: Final = "summary.json"
BEFORE: Final = "_before"
OF_RIVALS: Final = (
    columns.CANDIDATE_ID,
    columns.SPECIES,
    columns.FORMATION_ENERGY,
    columns.FORMATION_ENERGY + columns.STD,
    columns.ENERGY_ABOVE_KNOWN_HULL,
)
PROPOSED: Final = (  # columns of the candidate that the table keeps unchanged
    columns.CANDIDATE_ID,
    columns.FORMULA,
    columns.ROUTE,
    columns.PARENT_ID,
    columns.SUBSTITUTION,
    columns.PROBABILITY,
    columns.N_ATOMS,
    columns.EXPECTED_IMPROVEMENT,
    columns.FRONT_PROBABILITY,
)
COMPARED: Final = (  # columns that the table has for the unrelaxed cell (with `_before`) and for the relaxed one
    columns.RANK,
    columns.GOAL_PROBABILITY,
    columns.FORMATION_ENERGY,
    columns.ENERGY_ABOVE_HULL,
    columns.BAND_GAP,
    columns.SPACE_GROUP,
    columns.VOLUME_PER_ATOM,
    *columns.CRYSTAL,
)


def final_ranking(ranked: pd.DataFrame, relaxed: pd.DataFrame) -> pd.DataFrame:
    """All candidates from best to worst: the relaxed ones that stay, then those that were not relaxed.

    Candidates that left the shortlist are left out. Ranks are numbered again.

    Args:
        ranked: table of the stage `screen`.
        relaxed: table of the stage `relax`, which may be empty.
    """
    if relaxed.empty:
        return ranked
    stays = relaxed.loc[relaxed[columns.RANK].notna()].sort_values(columns.RANK)
    first = ranked.set_index(columns.CANDIDATE_ID).loc[stays[columns.CANDIDATE_ID]].reset_index()
    for name in stays:
        first[name] = stays[name].to_numpy()
    rest = ranked.loc[~ranked[columns.CANDIDATE_ID].isin(relaxed[columns.CANDIDATE_ID])]
    table = pd.concat([part for part in (first, rest) if len(part)] or [rest], ignore_index=True)
    table[columns.RANK] = np.arange(1, len(table) + 1)
    return table
