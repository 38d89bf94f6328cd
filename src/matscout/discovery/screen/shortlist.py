"""The shortlist: how certain each place on the front is, what each candidate may add, and which to take together.

A batch for the next round of calculations holds good candidates that differ from one another.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.compositions import atomic_fractions
from matscout.crystal import N_ELEMENTS, Crystal
from matscout.curated_table import CuratedTable
from matscout.discovery.rank.element_resources import resource_columns
from matscout.discovery.rank.goals import obeys_element_rules
from matscout.discovery.rank.pareto import costs, expected_improvement, front_probability
from matscout.discovery.screen.candidate_scores import Judge, crystals_of, parent_made
from matscout.discovery.stability.energy_above_hull import energies_above_hull
from matscout.params import Goal, Target

LONGEST = 200  # candidates that are looked at closely
N_DRAWS = 64
N_DRAWS_OF_VOLUME = 16  # exact hypervolumes are expensive


def shortlist_columns(
    close: pd.DataFrame, judge: Judge, known: NDArray[np.float64], *, batch_size: int, seed: int
) -> pd.DataFrame:
    """Columns of the candidates that are looked at closely.

    Args:
        close: the first `LONGEST` candidates or fewer, best first, with their crystals.
        judge: what predicted them.
        known: (n_known, n_objectives) costs of known materials, see `known_costs`.
        batch_size: how many to take together.
        seed: seed of the draws.

    Returns:
        `front_probability`, `expected_improvement` and `batch` (place in the batch; 0 = not in it), rows as in `close`.
    """
    crystals = crystals_of(close)
    sampled = judge.draws(close, N_DRAWS, seed)
    gain = expected_improvement(sampled[:N_DRAWS_OF_VOLUME], known) if len(known) else np.full(len(close), np.nan)
    features = crystal_features(crystals, close[columns.SPACE_GROUP].tolist())
    places = np.zeros(len(close), dtype=np.int64)
    chosen = diverse_batch(close[columns.GOAL_PROBABILITY].to_numpy(), features, batch_size)
    places[chosen] = np.arange(1, len(chosen) + 1)
    return pd.DataFrame(
        {
            columns.FRONT_PROBABILITY: front_probability(sampled),
            columns.EXPECTED_IMPROVEMENT: gain,
            columns.BATCH: places,
        }
    )


def known_costs(materials: Path, judge: Judge, targets: dict[str, Target]) -> NDArray[np.float64]:
    """Costs of known materials: real rows of the curated set with every label that the goal needs.

    Rows that break the goal's element rules do not count: their costs are not a benchmark for the rest.

    Args:
        materials: path of the curated table, parquet.
        judge: holds the goal and the hull's references.
        targets: targets whose labels are read, by name.

    Returns:
        (n, n_objectives), to be minimised.
    """
    wanted = _labels_needed(judge.goal, list(targets))
    labels = {name: targets[name].label for name in wanted}
    asks_for_made = any(aim.column == columns.PARENT_MADE for aim in judge.goal.objectives)
    names = [columns.SYNTHETIC, columns.SPECIES, *labels.values()]
    names += [columns.IS_EXPERIMENTAL] if asks_for_made else []
    table = CuratedTable(materials).rows(names).rename(columns={v: k for k, v in labels.items()})
    usable = ~table[columns.SYNTHETIC].to_numpy(dtype=bool) & table[wanted].notna().to_numpy().all(axis=1)
    usable &= obeys_element_rules(table[columns.SPECIES].tolist(), judge.goal)
    table = table.loc[usable].reset_index(drop=True)
    if any(aim.column == columns.ENERGY_ABOVE_HULL for aim in judge.goal.objectives) and judge.references is not None:
        counts = [{symbol: list(species).count(symbol) for symbol in species} for species in table[columns.SPECIES]]
        energies = table[columns.FORMATION_ENERGY].to_numpy(dtype=np.float64)
        table[columns.ENERGY_ABOVE_HULL] = energies_above_hull(judge.references.known, counts, energies)
    resources = resource_columns(table[columns.SPECIES].tolist())
    table = table.assign(**resources)
    if asks_for_made:  # a known material is its own parent
        table[columns.PARENT_MADE] = parent_made(
            table.rename(columns={columns.IS_EXPERIMENTAL: columns.PARENT_IS_EXPERIMENTAL})
        )
    aims = judge.goal.screened
    table = table.loc[table[[aim.column for aim in aims]].notna().to_numpy().all(axis=1)]
    return costs(table, aims) if len(table) else np.empty((0, len(aims)))


def _labels_needed(goal: Goal, targets: list[str]) -> list[str]:
    needed = {columns.FORMATION_ENERGY if a.column == columns.ENERGY_ABOVE_HULL else a.column for a in goal.objectives}
    return [target for target in targets if target in needed]


LENGTH_SCALE = 0.5  # of the similarity: candidates at this distance are half alike
LEAST_QUALITY = 1e-3  # so that candidates with a chance of nearly zero can be taken when nothing else is left
SYSTEM_STARTS = (1, 3, 16, 75, 143, 168, 195)  # first space group of triclinic, monoclinic, ..., cubic
STRUCTURE_WEIGHT = 0.25  # of volume and cell size beside composition


def diverse_batch(quality: NDArray[np.float64], features: NDArray[np.float64], size: int) -> list[int]:
    """Choose candidates to take together: the greedy mode of a determinantal point process.

    L_ij = q_i S_ij q_j with a Gaussian similarity S; each step takes the row with the largest conditional variance, so
    good rows go first and near copies of what is taken lose their worth (Chen et al., "Fast greedy MAP inference for
    determinantal point process", NeurIPS 2018, alg. 1).

    Args:
        quality: (n,) not negative, for example P(goal).
        features: (n, n_features); see `crystal_features`.
        size: how many rows; all of them where there are fewer.

    Returns:
        Rows in the order in which they are taken.
    """
    quality = np.maximum(quality, LEAST_QUALITY)
    squared = ((features[:, None, :] - features[None, :, :]) ** 2).sum(axis=2)
    similarity = np.exp2(-squared / LENGTH_SCALE**2)
    kernel = quality[:, None] * similarity * quality[None, :]
    remaining = np.diag(kernel).copy()
    factors = np.zeros((0, len(quality)))
    taken: list[int] = []
    for _ in range(min(size, len(quality))):
        best = int(np.argmax(np.where(np.isin(np.arange(len(quality)), taken), -np.inf, remaining)))
        taken.append(best)
        if remaining[best] <= 0:  # a copy of what is taken: nothing is left to subtract
            continue
        row = (kernel[best] - factors[:, best] @ factors) / np.sqrt(remaining[best])
        factors = np.vstack([factors, row])
        remaining = remaining - row**2
    return taken


def crystal_features(crystals: Sequence[Crystal], space_groups: Sequence[int]) -> NDArray[np.float64]:
    """(n, n_features) whose Euclidean distance says how different two crystals are, about 0 to 1.5.

    Square roots of atomic fractions give the Hellinger distance between compositions (1 for no shared
    element, up to the factor sqrt(2)); crystal system and volume per atom describe the structure.
    """
    first = N_ELEMENTS + 1  # column of the triclinic system
    features = np.zeros((len(crystals), first + len(SYSTEM_STARTS) + 1))
    features[:, 1:first] = np.sqrt(atomic_fractions(crystal.species for crystal in crystals) / 2)
    systems = np.searchsorted(SYSTEM_STARTS, space_groups, side="right") - 1
    features[np.arange(len(crystals)), first + systems] = STRUCTURE_WEIGHT / np.sqrt(2)
    features[:, -1] = [STRUCTURE_WEIGHT * np.log(crystal.volume / crystal.n_atoms) for crystal in crystals]
    return features
