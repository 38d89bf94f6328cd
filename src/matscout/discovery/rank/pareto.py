"""The Pareto front: the candidates that no other dominates, how certain that is, and what each may add to the front.

What a set of points dominates is measured exactly, as its hypervolume.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from paretoset import paretoset

from matscout import columns
from matscout.discovery.rank.goals import distance_outside, window_column
from matscout.ensemble.mixture import Mixture
from matscout.errors import InputError
from matscout.params import Objective

DEEPEST = 50  # fronts that are numbered; all points behind them share the next number
COMPILE_FROM = 20_000  # points: for fewer, compiling takes longer than the work


def rank_candidates(table: pd.DataFrame, objectives: Sequence[Objective | Mapping[str, Any]]) -> pd.DataFrame:
    """Sort candidates: those that meet every window by Pareto front, the others by the probability that they do.

    Each objective is one axis. A direction is the predicted value itself; a window is the probability
    of lying in it where the table holds `<column>_in_window`, else the distance from it. `goal_met`
    means that every predicted value lies in its window, unless the table says already that it is not
    met. Ties go to the higher `goal_probability` (where the table has it), then to the smaller distance
    from the windows, then to the earlier row.

    Args:
        table: one row per candidate with a column for each objective.
        objectives: `params.Objective`, or mappings such as `{"column": "band_gap", "window": [1.0, 1.8]}`.

    Returns:
        A sorted copy with `goal_met`, `pareto_front` (True on the first front), `pareto_layer`
        (1 = first) and `rank` (1 = best).

    Raises:
        InputError: no rows, no objective, a column that the table lacks, or values that are not numbers.
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
            raise InputError(f"objective {aim.column!r} is not a column of the table; it has {sorted(table.columns)}")
        broken = ~np.isfinite(table[aim.column].to_numpy(dtype=np.float64))
        if broken.any():
            raise InputError(
                f"{int(broken.sum())} of {len(table)} candidates have no finite {aim.column!r} "
                f"(first: row {int(np.flatnonzero(broken)[0])}); drop them before ranking"
            )


Points = NDArray[np.float64]


def hypervolume(points: Points, reference: NDArray[np.float64]) -> float:
    """Volume of the region that `points` dominate and `reference` bounds; all objectives are minimised.

    While et al., "A fast way of calculating exact hypervolumes" (WFG), IEEE Trans. Evol. Comput. 16, 86
    (2012): the sum over points of the part that no later point dominates. Exact in any dimension; meant
    for fronts of up to some hundreds of points in up to four objectives.

    Args:
        points: (n, k).
        reference: (k,) the worst corner; points that do not beat it everywhere count for nothing.
    """
    inside = points[(points < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    front = np.unique(inside[pareto_front(inside)], axis=0)
    if front.shape[1] == 1:
        return float(reference[0] - front[0, 0])
    if front.shape[1] == 2:
        return _staircase(front, reference)
    return float(sum(_exclusive(point, front[i + 1 :], reference) for i, point in enumerate(front)))


def improvements(new: Points, points: Points, reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hypervolume that each new point would add to the front, each on its own.

    Args:
        new: (m, k) costs.
        points: (n, k) costs.
        reference: (k,) the worst corner; what lies beyond it counts nothing.

    Returns:
        (m,) in the product of the costs' units.
    """
    inside = points[(points < reference).all(axis=1)]
    front = np.unique(inside[pareto_front(inside)], axis=0) if len(inside) else inside
    return np.array([_exclusive(point, front, reference) for point in new])


def _exclusive(point: NDArray[np.float64], others: Points, reference: NDArray[np.float64]) -> float:
    """The volume that `point` dominates and none of `others` does."""
    if not (point < reference).all() or (others <= point).all(axis=1).any():
        return 0.0
    own = float(np.prod(reference - point))
    limited = np.maximum(others, point)  # the part of each other point that lies behind this point
    return own - hypervolume(limited, reference)


def _staircase(front: Points, reference: NDArray[np.float64]) -> float:
    """The dominated area for two objectives; `front` is sorted by the first, so the second decreases."""
    right = np.append(front[1:, 0], reference[0])
    return float(((right - front[:, 0]) * (reference[1] - front[:, 1])).sum())


Array = NDArray[np.float64]


def draw_targets(
    mixtures: Mapping[str, Mixture],
    members: Mapping[str, Mapping[str, float]],
    n_draws: int,
    rng: np.random.Generator,
) -> dict[str, Array]:
    """Draw every target of all crystals jointly.

    Each draw takes one member for all targets and crystals, because a member's errors are correlated over similar
    crystals. Around the member's prediction, crystals vary independently.

    Args:
        mixtures: calibrated distributions of n_crystals, by target.
        members: weights of each target's members, in the order of the mixture's components.
        n_draws: number of draws.
        rng: draws members and values.

    Returns:
        By target (n_draws, n_crystals) in the target's unit.
    """
    names = sorted({name for weights in members.values() for name in weights})
    shares = np.array([np.mean([weights.get(name, 0.0) for weights in members.values()]) for name in names])
    believed = [names[i] for i in rng.choice(len(names), size=n_draws, p=shares / shares.sum())]
    drawn: dict[str, Array] = {}
    for target in sorted(mixtures):
        mixture, known = mixtures[target], list(members[target])
        rows = []
        for name in believed:
            # a member left out of this target's mixture is replaced by another one, drawn by weight
            position = known.index(name) if name in known else int(rng.choice(len(known), p=mixture.weights))
            rows.append(mixture.components[position].sample(rng, 1)[0])
        drawn[target] = np.stack(rows)
    return drawn


def drawn_costs(drawn: Mapping[str, Array], objectives: Sequence[Objective], hull_energy: Array | None) -> Array:
    """Costs to be minimised: values with the sign of their direction, distances from windows.

    Args:
        drawn: (n_draws, n_crystals) values by column; (n_crystals,) where there is no uncertainty.
        objectives: objectives of the goal.
        hull_energy: energy of the hull at each crystal's composition, eV/atom, (n_crystals,) or (n_draws, n_crystals);
            None = `drawn` holds energies above the hull.

    Returns:
        (n_draws, n_crystals, n_objectives).
    """
    axes = []
    for aim in objectives:
        if aim.column == columns.ENERGY_ABOVE_HULL and hull_energy is not None:
            values = drawn[columns.FORMATION_ENERGY] - hull_energy
        else:
            values = drawn[aim.column]
        if aim.window is not None:
            axes.append(distance_outside(values, aim.window))
        else:
            axes.append(values if aim.direction == "minimize" else -values)
    return np.stack(np.broadcast_arrays(*map(np.atleast_2d, axes)), axis=-1)


def front_probability(costs: Array) -> Array:
    """(n_crystals,) share of the draws in which each crystal is on the front of all crystals."""
    return np.mean([pareto_front(draw) for draw in costs], axis=0)


def expected_improvement(costs: Array, known: Array) -> Array:
    """(n_crystals,) expected hypervolume that each crystal would add to the known materials' front.

    Emmerich et al., "Hypervolume-based expected improvement", CEC 2011, with the expectation taken over
    draws instead of a Gaussian. Objectives are scaled by the known materials' spread, so that the volume
    has no unit; the reference corner is the worst known value of each objective.

    Args:
        costs: (n_draws, n_crystals, n_objectives).
        known: (n_known, n_objectives) the same objectives of materials with labels.
    """
    spread = known.std(axis=0)
    spread[spread == 0] = 1.0
    reference = known.max(axis=0) / spread
    front = known[pareto_front(known)] / spread
    return np.mean([improvements(draw / spread, front, reference) for draw in costs], axis=0)
