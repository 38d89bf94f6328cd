"""Resampling: how sure a place on the front is, and what a candidate may add to what is known."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from matscout import columns
from matscout.discovery.rank.goals import distance_outside
from matscout.discovery.rank.hypervolume import improvements
from matscout.discovery.rank.pareto import pareto_front
from matscout.ensemble.distributions.mixture import Mixture
from matscout.params import Objective

Array = NDArray[np.float64]


def draw_targets(
    mixtures: Mapping[str, Mixture],
    members: Mapping[str, Mapping[str, float]],
    n_draws: int,
    rng: np.random.Generator,
) -> dict[str, Array]:
    """Joint draws of every target, each (n_draws, n_crystals).

    Each draw believes one member, in every target and for every crystal: members err together over
    similar crystals, and a draw keeps that. Around the member's opinion crystals vary independently.
    """
    names = sorted({name for weights in members.values() for name in weights})
    shares = np.array([np.mean([weights.get(name, 0.0) for weights in members.values()]) for name in names])
    believed = [names[i] for i in rng.choice(len(names), size=n_draws, p=shares / shares.sum())]
    drawn: dict[str, Array] = {}
    for target in sorted(mixtures):
        mixture, known = mixtures[target], list(members[target])
        rows = []
        for name in believed:
            # a member left out of this target's mixture has no say: another one speaks, by weight
            position = known.index(name) if name in known else int(rng.choice(len(known), p=mixture.weights))
            rows.append(mixture.components[position].sample(rng, 1)[0])
        drawn[target] = np.stack(rows)
    return drawn


def drawn_costs(drawn: Mapping[str, Array], objectives: Sequence[Objective], hull_energy: Array | None) -> Array:
    """(n_draws, n_crystals, n_objectives) to be minimised: values by direction, distances from windows.

    What is known for certain comes as (n_crystals,); the hull's energy may be (n_draws, n_crystals).
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
