"""The shortlist: how certain each place on the front is, what each candidate may add, and which to take together."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matscout import columns
from matscout.discovery.rank.diverse_batch import crystal_features, diverse_batch
from matscout.discovery.rank.element_resources import resource_columns
from matscout.discovery.rank.front_resampling import expected_improvement, front_probability
from matscout.discovery.rank.goals import obeys_element_rules
from matscout.discovery.rank.pareto import costs
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
        seed: of the draws.

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

    Rows that break the goal's element rules do not count: their costs are no benchmark for the rest.

    Args:
        materials: of the curated table, parquet.
        judge: holds the goal and the hull's references.
        targets: whose labels are read, by name.

    Returns:
        (n, n_objectives), to be minimised.
    """
    wanted = _labels_needed(judge.goal, list(targets))
    labels = {name: targets[name].label for name in wanted}
    asks_for_made = any(aim.column == columns.PARENT_MADE for aim in judge.goal.objectives)
    names = [columns.SYNTHETIC, columns.SPECIES, *labels.values()]
    names += [columns.IS_EXPERIMENTAL] if asks_for_made else []
    table = pq.read_table(materials, columns=names).to_pandas().rename(columns={v: k for k, v in labels.items()})
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
