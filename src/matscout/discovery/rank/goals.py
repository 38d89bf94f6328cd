"""Goals: element rules, windows, and the probability that a candidate meets them all at once."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from matscout import columns
from matscout.discovery.stability.energy_above_hull import HullEnergy
from matscout.ensemble.mixture import Mixture
from matscout.errors import InputError
from matscout.params import Goal, Objective

HULL_NODES = 7  # of the quadrature over the hull's error
Array = NDArray[np.float64]
Window = tuple[float | None, float | None]


def window_column(column: str) -> str:
    """Name of the column with the probability that `column` lies in its window."""
    return f"{column}_in_window"


def distance_outside(values: Array, window: Window) -> Array:
    """(n,) how far each value lies outside the window, 0 within, in the unit of the values."""
    low, high = bounds(window)
    values = np.asarray(values, dtype=np.float64)
    return np.maximum(np.maximum(low - values, values - high), 0.0)


def bounds(window: Window) -> tuple[float, float]:
    """The window with open ends as infinities."""
    low, high = window
    return (-np.inf if low is None else float(low)), (np.inf if high is None else float(high))


def check_goal(goal: Goal, available: Sequence[str]) -> None:
    """Reject a goal that cannot be met or measured.

    Args:
        goal: to be checked.
        available: columns that objectives may name.

    Raises:
        InputError: an objective on something that is not predicted, windows on one column that share no
            value, or a column to be minimised and maximised.
    """
    for aim in goal.objectives:
        if aim.column not in available:
            raise InputError(f"goal objective {aim.column!r} is not a column here; choose from {sorted(available)}")
    for column in sorted({aim.column for aim in goal.objectives}):
        aims = [aim for aim in goal.objectives if aim.column == column]
        windows = [aim.window for aim in aims if aim.window is not None]
        low, high = _intersection(windows)
        if low > high:
            raise InputError(
                f"the windows {[list(w) for w in windows]} on {column!r} share no value; widen one of them"
            )
        if len({aim.direction for aim in aims if aim.direction is not None}) > 1:
            raise InputError(f"{column!r} cannot be minimised and maximised at once; keep one direction")


def not_known_yet(goal: Goal) -> str:
    """Which objectives a ranking of unrelaxed crystals leaves out, as a sentence; empty if none."""
    names = list(dict.fromkeys(aim.column for aim in goal.relaxed))
    if not names:
        return ""
    be, do = ("is", "does") if len(names) == 1 else ("are", "do")
    return f"{' and '.join(names)} {be} known only after the relaxation and {do} not count here"


def obeys_element_rules(species: Sequence[Sequence[str]], goal: Goal) -> NDArray[np.bool_]:
    """(n,) whether each crystal has an element of each required group, only allowed ones and none that is denied."""
    groups, denied = [set(group) for group in goal.one_of_each], goal.denied
    allowed = None if goal.allow_elements is None else set(goal.allow_elements)
    kept = []
    for symbols in species:
        present = set(symbols)
        kept.append(
            all(present & group for group in groups)
            and not present & denied
            and (allowed is None or present <= allowed)
        )
    return np.array(kept, dtype=bool)


def nothing_obeys(goal: Goal, n_crystals: int) -> str:
    """The message if no crystal passes `obeys_element_rules`."""
    rules = "; ".join(f"{what} {symbols}" for what, symbols in goal.element_rules())
    return f"none of {n_crystals:,} crystals obeys the goal's element rules: {rules}; loosen them or propose others"


def window_probabilities(
    mixtures: Mapping[str, Mixture],
    members: Mapping[str, Mapping[str, float]],
    objectives: Sequence[Objective],
    hull: HullEnergy | None,
    exact: Mapping[str, Array] = MappingProxyType({}),
) -> tuple[dict[str, Array], Array]:
    """P(value in window) of every windowed column, and of all windows jointly.

    Given a member, targets are independent; across members they are not, since a member that places a
    crystal low in energy also has its own view of the gap. So P(all) = sum_k w_k prod_t P_kt: the joint
    distribution of the mixture. Energy above hull is formation energy minus the hull's energy, the same
    random quantity; windows on both are intersected, not multiplied. Where the hull is uncertain itself,
    the probabilities are averaged over it (Gauss-Hermite quadrature).

    Args:
        mixtures: the calibrated distribution of each target, n crystals.
        members: by target, the weight of each member in the mixture, in the order of its components.
        objectives: the goal's aims; those without a window do not count.
        hull: the convex hull at each composition; None = not computed.
        exact: (n,) values of columns that are known for certain, such as prices.

    Returns:
        By column an (n,) probability, and the (n,) joint one (all ones where no window is set).
    """
    aims = [aim for aim in objectives if aim.column not in exact]
    n_rows = len(next(iter(mixtures.values())).components[0])
    single: dict[str, Array] = {}
    joint = np.zeros(n_rows)
    for shift, weight in _hull_nodes(hull):
        energy = None if hull is None else hull.energy + shift * hull.std
        part, together = _given_hull(mixtures, members, aims, energy, n_rows)
        for column, probability in part.items():
            single[column] = single.get(column, np.zeros(n_rows)) + weight * probability
        joint += weight * together
    for aim in objectives:
        if aim.column in exact and aim.window is not None:
            inside = (distance_outside(exact[aim.column], aim.window) == 0).astype(np.float64)
            single[aim.column] = np.minimum(single.get(aim.column, 1.0), inside)
            joint = joint * inside
    return single, joint


def measured_windows(table: pd.DataFrame, aims: Sequence[Objective]) -> dict[str, Array]:
    """P(value in window) of columns with a Gaussian error of their own, such as properties by a potential.

    Args:
        table: n rows with these columns and their `_std`; NaN = not known, which meets no window.
        aims: objectives on such columns; several windows on one column are intersected.

    Returns:
        (n,) by column that has a window.
    """
    found: dict[str, Array] = {}
    for column in dict.fromkeys(aim.column for aim in aims if aim.window is not None):
        low, high = _intersection([a.window for a in aims if a.column == column and a.window is not None])
        value, error = (table[name].to_numpy(np.float64) for name in (column, column + columns.STD))
        inside = ndtr((high - value) / error) - ndtr((low - value) / error)
        found[column] = np.where(np.isfinite(value), inside, 0.0)
    return found


def _hull_nodes(hull: HullEnergy | None) -> list[tuple[float, float]]:
    """(standard deviations, weight) of the quadrature over the hull's error."""
    if hull is None or not hull.std.any():
        return [(0.0, 1.0)]
    nodes, weights = np.polynomial.hermite_e.hermegauss(HULL_NODES)
    return list(zip(nodes.tolist(), (weights / weights.sum()).tolist(), strict=True))


def _given_hull(
    mixtures: Mapping[str, Mixture],
    members: Mapping[str, Mapping[str, float]],
    objectives: Sequence[Objective],
    hull_energy: Array | None,
    n_rows: int,
) -> tuple[dict[str, Array], Array]:
    intervals: dict[str, tuple[Array, Array]] = {}
    single: dict[str, Array] = {}
    for aim in objectives:
        if aim.window is None:
            continue
        target, low, high = _on_target(aim, n_rows, hull_energy)
        column = aim.column
        single[column] = np.minimum(single.get(column, np.ones(n_rows)), _inside(mixtures[target], low, high))
        before = intervals.get(target, (np.full(n_rows, -np.inf), np.full(n_rows, np.inf)))
        intervals[target] = (np.maximum(before[0], low), np.minimum(before[1], high))
    return single, _joint(mixtures, members, intervals, n_rows)


def _joint(
    mixtures: Mapping[str, Mixture],
    members: Mapping[str, Mapping[str, float]],
    intervals: Mapping[str, tuple[Array, Array]],
    n_rows: int,
) -> Array:
    if not intervals:
        return np.ones(n_rows)
    names = sorted({name for target in intervals for name in members[target]})
    weights = np.array([np.mean([members[target].get(name, 0.0) for target in intervals]) for name in names])
    joint = np.zeros(n_rows)
    for name, weight in zip(names, weights / weights.sum(), strict=True):
        product = np.ones(n_rows)
        for target, (low, high) in intervals.items():
            known = list(members[target])
            # a member left out of a target's mixture is replaced by the whole mixture
            part = mixtures[target].components[known.index(name)] if name in known else mixtures[target]
            product *= _inside(part, low, high)
        joint += weight * product
    return joint


def _inside(distribution, low: Array, high: Array) -> Array:  # noqa: ANN001 - a member's distribution or a mixture
    """(n,) P(low <= X <= high); both ends belong to the window, so that a gap of exactly zero counts."""
    below = np.where(np.isfinite(low), distribution.cdf(np.nextafter(np.where(np.isfinite(low), low, 0.0), -np.inf)), 0)
    upto = np.where(np.isfinite(high), distribution.cdf(np.where(np.isfinite(high), high, 0.0)), 1)
    return np.clip(upto - below, 0.0, 1.0)


def _on_target(aim: Objective, n_rows: int, hull_energy: Array | None) -> tuple[str, Array, Array]:
    """The window as one on a predicted target, row by row."""
    low, high = (np.full(n_rows, end) for end in bounds(aim.window))  # type: ignore[arg-type]
    if aim.column != columns.ENERGY_ABOVE_HULL:
        return aim.column, low, high
    if hull_energy is None:
        raise InputError(f"a window on {columns.ENERGY_ABOVE_HULL} needs reference phases: give the curated table")
    return columns.FORMATION_ENERGY, low + hull_energy, high + hull_energy


def _intersection(windows: Sequence[Window]) -> tuple[float, float]:
    ends = [bounds(window) for window in windows]
    return max((low for low, _ in ends), default=-np.inf), min((high for _, high in ends), default=np.inf)
