"""The loop in retrospect: most of a real set is hidden, each strategy chooses batches, and hits are counted.

    python -m benchmarks.discovery.active_learning --data sample

Every strategy starts from the same random rows, sees the labels of what it chose, retrains and chooses again. The
hull that predictions are measured against holds only the rows chosen so far. `matscout` takes the diverse batch of the
chance to meet the goal; `greedy` the rows nearest to the goal by mean prediction; `uncertainty` the widest spread;
`random` anything. Writes benchmarks/results/active_learning_<data>.json.
"""

import argparse
import json
import sys
from typing import Any

import numpy as np

from benchmarks.discovery.hidden_materials import (
    GAP_WINDOW,
    ROOT,
    STABLE,
    World,
    distance_from_goal,
    draws,
    goal_probability,
    load_world,
)
from matscout.crystal import ATOMIC_NUMBERS
from matscout.discovery.screen.shortlist import diverse_batch
from matscout.progress import progress

CLOSE = 300  # rows that the diverse batch is chosen from


def choose(
    strategy: str,
    world: World,
    pool: np.ndarray,
    drawn: tuple[np.ndarray, ...],
    hull: np.ndarray,
    size: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """`size` rows of the pool."""
    if strategy == "random":
        return rng.choice(pool, size, replace=False)
    energies, gaps = drawn
    if strategy == "uncertainty":
        spread = energies.std(axis=0) / energies.std() + gaps.std(axis=0) / gaps.std()
        return pool[np.argsort(-spread, kind="stable")[:size]]
    distance = distance_from_goal(energies, gaps, hull)
    if strategy == "greedy":
        return pool[np.argsort(distance, kind="stable")[:size]]
    quality = goal_probability(energies, gaps, hull) - 1e-3 * np.minimum(distance, 1)
    close = np.argsort(-quality, kind="stable")[:CLOSE]
    return pool[close[diverse_batch(quality[close], composition_rows(world, pool[close]), size)]]


def composition_rows(world: World, rows: np.ndarray) -> np.ndarray:
    """Square roots of half the atomic fractions: their distance is Hellinger's."""
    features = np.zeros((len(rows), 119))
    for position, row in enumerate(rows):
        for symbol in world.species[row]:
            features[position, ATOMIC_NUMBERS[symbol]] += 1 / len(world.species[row])
    return np.sqrt(features / 2)


def simulate(world: World, strategy: str, arguments: argparse.Namespace, seed: int, bar: Any) -> list[int]:
    """Hits found after each batch, the random start not counted."""
    rng = np.random.default_rng([seed, 1])
    start = np.random.default_rng([seed, 0]).permutation(len(world.ids))
    known, pool = start[: arguments.start], start[arguments.start :]
    found = []
    for _ in range(arguments.batches):
        drawn = () if strategy == "random" else draws(world, known, pool, n_trees=arguments.trees, seed=seed)
        hull = world.hull_energy(world.hull_of(known), pool) if strategy != "random" else np.empty(0)
        chosen = choose(strategy, world, pool, drawn, hull, arguments.batch, rng)
        known, pool = np.concatenate([known, chosen]), pool[~np.isin(pool, chosen)]
        found.append(int(world.is_hit[known[arguments.start :]].sum()))
        bar.update(1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=["sample", "mp_36k"], default="sample")
    parser.add_argument("--start", type=int, default=300)
    parser.add_argument("--batch", type=int, default=40)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--trees", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    world = load_world(arguments.data)
    strategies = ("random", "uncertainty", "greedy", "matscout")
    curves: dict[str, list[list[int]]] = {}
    with progress(total=len(strategies) * arguments.repeats * arguments.batches, description="batches") as bar:
        for strategy in strategies:
            curves[strategy] = [simulate(world, strategy, arguments, seed, bar) for seed in range(arguments.repeats)]
    final = {name: np.array(runs)[:, -1] for name, runs in curves.items()}
    result = {
        "command": " ".join(["python", *sys.argv]),
        "data": arguments.data,
        "goal": {"band_gap": GAP_WINDOW, "energy_above_hull": [None, STABLE]},
        "surrogate": f"{arguments.trees} extremely randomised trees on composition features, retrained every batch",
        "prevalence": float(world.is_hit.mean()),
        "n_rows": len(world.ids),
        "n_hits": int(world.is_hit.sum()),
        "start": arguments.start,
        "batch": arguments.batch,
        "hits_after_each_batch": {name: np.mean(runs, axis=0).tolist() for name, runs in curves.items()},
        "hits_at_the_end": {
            name: {"mean": float(hits.mean()), "least": int(hits.min()), "most": int(hits.max())}
            for name, hits in final.items()
        },
        "times_random": {name: float(hits.mean() / max(final["random"].mean(), 1)) for name, hits in final.items()},
        "repeats": arguments.repeats,
    }
    path = ROOT / "benchmarks" / "results" / f"active_learning_{arguments.data}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{json.dumps(result, indent=2)}\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
