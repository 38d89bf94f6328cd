"""The result of a screening, in numbers and one sentence."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.discovery.rank.goals import distance_outside
from matscout.params import Goal

NEAREST = 5


def summarise(ranked: pd.DataFrame, name: str, goal: Goal, top_k: int) -> dict[str, Any]:
    """Counts, the outcome in words, and the candidates nearest to the goal.

    Args:
        ranked: all candidates, best first.
        name: of the goal.
        goal: what was wanted.
        top_k: how many are exported.

    Returns:
        The content of `summary.json`.
    """
    met, eligible = _flags(ranked, columns.GOAL_MET), _flags(ranked, columns.ELEMENT_RULES_MET)
    chances, judged = ranked[columns.GOAL_PROBABILITY].to_numpy(), _flags(ranked, columns.STABILITY_JUDGED)
    routes = ranked[columns.ROUTE].to_numpy()[met]
    return {
        "goal": name,
        "goal_definition": goal.model_dump(mode="json"),
        "n_candidates": len(ranked),
        "n_barred_by_element_rules": int((~eligible).sum()),
        "n_goal_met": int(met.sum()),
        "n_pareto_front": int(_flags(ranked, columns.PARETO_FRONT).sum()),
        "expected_hits": float(chances.sum()),
        "expected_hits_in_top": float(chances[:top_k].sum()),
        "n_far_from_training": int(_flags(ranked, columns.FAR_FROM_TRAINING).sum()),
        "n_with_missing_references": int(np.sum(ranked[columns.MISSING_REFERENCES].to_numpy() != "")),
        "n_stability_not_judged": int((~judged).sum()),
        "n_below_hull": int(np.sum(judged & (ranked[columns.ENERGY_ABOVE_HULL].to_numpy() < 0))),
        "n_below_hull_not_judged": int(np.sum(~judged & (ranked[columns.ENERGY_ABOVE_HULL].to_numpy() < 0))),
        "hits_by_route": {str(route): int(np.sum(routes == route)) for route in sorted(set(routes))},
        "outcome": outcome(ranked, goal),
        "nearest": _nearest(ranked, goal),
        "top": ranked[columns.CANDIDATE_ID].head(top_k).tolist(),
    }


def outcome(ranked: pd.DataFrame, goal: Goal) -> str:
    """One sentence: how many meet the goal, or how far the nearest is from it."""
    n_met = int(_flags(ranked, columns.GOAL_MET).sum())
    if n_met:
        return f"{n_met:,} of {len(ranked):,} candidates meet the goal by their median prediction"
    if not (found := _nearest(ranked, goal)):
        return f"no candidate meets the goal: of none of {len(ranked):,} can the stability be judged"
    nearest = found[0]
    gaps = ", ".join(
        f"{column} by {gap:.3g} {columns.UNITS.get(column, '')}" for column, gap in nearest["misses"].items()
    )
    return (
        f"no candidate meets the goal by its median prediction; the nearest, {nearest['formula']} "
        f"({nearest['id']}), misses {gaps}"
    )


def _nearest(ranked: pd.DataFrame, goal: Goal) -> list[dict[str, Any]]:
    """The candidates with the smallest miss, in units of each column's spread over all candidates.

    Where the goal asks for stability, only those whose stability can be judged.
    """
    eligible = ranked.loc[_flags(ranked, columns.ELEMENT_RULES_MET)]
    if any(aim.column == columns.ENERGY_ABOVE_HULL for aim in goal.objectives):
        eligible = eligible.loc[_flags(eligible, columns.STABILITY_JUDGED)]
    misses = {
        aim.column: distance_outside(eligible[aim.column].to_numpy(), aim.window)
        for aim in goal.screened
        if aim.window is not None
    }
    if not misses or not len(eligible):
        return []
    spread = {column: float(np.std(eligible[column])) or 1.0 for column in misses}
    total = np.sum([miss / spread[column] for column, miss in misses.items()], axis=0)
    order = np.argsort(total, kind="stable")[:NEAREST]
    return [
        {
            "id": str(eligible.iloc[row][columns.CANDIDATE_ID]),
            "formula": str(eligible.iloc[row][columns.FORMULA]),
            "goal_probability": float(eligible.iloc[row][columns.GOAL_PROBABILITY]),
            "misses": {column: float(miss[row]) for column, miss in misses.items() if miss[row] > 0},
        }
        for row in order
    ]


def _flags(ranked: pd.DataFrame, column: str) -> NDArray[np.bool_]:
    return ranked[column].to_numpy(dtype=bool)
