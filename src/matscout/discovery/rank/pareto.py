"""Non-dominated sorting: which candidates no other one beats in every objective."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from paretoset import paretoset

from matscout import columns
from matscout.discovery.rank.goals import distance_outside, window_column
from matscout.errors import InputError
from matscout.params import Objective

DEEPEST = 50  # fronts told apart; the crowd behind them shares the next number
COMPILE_FROM = 20_000  # points: for fewer, compiling takes longer than the work


def rank_candidates(table: pd.DataFrame, objectives: Sequence[Objective | Mapping[str, Any]]) -> pd.DataFrame:
    """Sort candidates: those that meet every window by Pareto front, the others by how likely they do.

    Each objective is one axis. A direction is the predicted value itself; a window is the probability
    of lying in it where the table holds `<column>_in_window`, else the distance from it. `goal_met`
    means that every predicted value lies in its window, unless the table says already that it is not
    met. Ties go to the higher `goal_probability` (where the table has it), then to the smaller distance
    from the windows, then to the earlier row.

    Args:
        table: one row a candidate with a column for each objective.
        objectives: `params.Objective`, or mappings such as `{"column": "band_gap", "window": [1.0, 1.8]}`.

    Returns:
        A sorted copy with `goal_met`, `pareto_front` (True on the first front), `pareto_layer`
        (1 = first) and `rank` (1 = best).

    Raises:
        InputError: no rows, no objective, a column that the table lacks, or values that are no numbers.
    """
    aims = [_objective(aim) for aim in objectives]
    _check(table, aims)
    ranked = table.copy()
    layers = pareto_layers(costs(table, aims))
    distance = sum(distance_outside(table[aim.column].to_numpy(), aim.window) for aim in aims if aim.window)
    distance = distance if isinstance(distance, np.ndarray) else np.zeros(len(table))
    met = distance == 0
    if columns.GOAL_MET in table:
        met &= table[columns.GOAL_MET].to_numpy(dtype=bool)
    probability = (
        table[columns.GOAL_PROBABILITY].to_numpy() if columns.GOAL_PROBABILITY in table else np.zeros(len(table))
    )
    order = np.lexsort((np.arange(len(table)), layers, distance, -probability, np.where(met, layers, 0), ~met))
    ranked[columns.GOAL_MET] = met
    ranked[columns.PARETO_FRONT] = layers == 1
    ranked[columns.PARETO_LAYER] = layers
    ranked = ranked.iloc[order].reset_index(drop=True)
    ranked[columns.RANK] = np.arange(1, len(ranked) + 1)
    return ranked


def costs(table: pd.DataFrame, objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """(n, n_objectives) to be minimised; see `rank_candidates`."""
    axes = []
    for aim in objectives:
        values = table[aim.column].to_numpy(dtype=np.float64)
        if aim.window is None:
            axes.append(values if aim.direction == "minimize" else -values)
        elif window_column(aim.column) in table:
            axes.append(-table[window_column(aim.column)].to_numpy(dtype=np.float64))
        else:
            axes.append(distance_outside(values, aim.window))
    return np.column_stack(axes)


def pareto_front(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) whether no other point is at least as small everywhere and smaller somewhere; equal points both stay."""
    if not len(points):
        return np.empty(0, dtype=bool)
    return np.asarray(
        paretoset(points, sense=["min"] * points.shape[1], distinct=False, use_numba=len(points) > COMPILE_FROM)
    )


def pareto_layers(points: NDArray[np.float64], deepest: int = DEEPEST) -> NDArray[np.int64]:
    """(n,) front of each point, 1 the first, by peeling; all behind front `deepest` share `deepest` + 1."""
    layers = np.full(len(points), deepest + 1, dtype=np.int64)
    remaining = np.arange(len(points))
    for layer in range(1, deepest + 1):
        if not len(remaining):
            break
        front = pareto_front(points[remaining])
        layers[remaining[front]] = layer
        remaining = remaining[~front]
    return layers


def _objective(aim: Objective | Mapping[str, Any]) -> Objective:
    if isinstance(aim, Objective):
        return aim
    return Objective.model_validate({"window": None, "direction": None, **aim})


def _check(table: pd.DataFrame, objectives: Sequence[Objective]) -> None:
    if not len(table):
        raise InputError("there are no candidates to rank: the table is empty")
    if not objectives:
        raise InputError("there is nothing to rank by: give at least one objective")
    for aim in objectives:
        if aim.column not in table:
            raise InputError(f"objective {aim.column!r} is no column of the table; it has {sorted(table.columns)}")
        broken = ~np.isfinite(table[aim.column].to_numpy(dtype=np.float64))
        if broken.any():
            raise InputError(
                f"{int(broken.sum())} of {len(table)} candidates have no finite {aim.column!r} "
                f"(first: row {int(np.flatnonzero(broken)[0])}); drop them before ranking"
            )
