"""Rediscovery: with whole chemical systems held out, do real materials that meet a goal rank in front?

    python -m benchmarks.discovery.rediscovery --data mp_36k

Writes benchmarks/results/rediscovery_<data>.json: enrichment in the top 1 % with a bootstrap interval, the prevalence
and the largest factor possible; precision, recall, F1 and the discovery acceleration factor of stability as Matbench
Discovery defines them (Riebesell et al., Nature Machine Intelligence 2025) on the same held-out rows.
"""

import argparse
import json
import sys

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

HELD_OUT = 0.2  # of the chemical systems with at least two elements
TOP = 0.01
N_BOOTSTRAP = 1000


def split(world: World, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and every row of the chemical systems held out."""
    systems = np.array(["-".join(sorted(set(s))) for s in world.species])
    names = sorted({name for name in systems if "-" in name})
    hidden = set(np.random.default_rng(seed).choice(names, int(HELD_OUT * len(names)), replace=False))
    is_hidden = np.array([name in hidden for name in systems])
    return np.flatnonzero(~is_hidden), np.flatnonzero(is_hidden)


def enrichment(score: np.ndarray, hit: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """Share of hits in the top 1 % over the share in all, with a 95 % bootstrap interval over rows."""

    def factor(rows: np.ndarray) -> tuple[float, float]:
        n_top = max(round(TOP * len(rows)), 1)
        top = rows[np.argsort(-score[rows], kind="stable")[:n_top]]
        return hit[top].mean() / max(hit[rows].mean(), 1 / len(rows)), n_top

    everything = np.arange(len(hit))
    value, n_top = factor(everything)
    resampled = [factor(np.sort(rng.choice(everything, len(everything))))[0] for _ in range(N_BOOTSTRAP)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    largest = min(hit.sum(), n_top) / n_top / hit.mean()
    top = np.argsort(-score, kind="stable")[:n_top]
    return {
        "enrichment": float(value),
        "low95": float(low),
        "high95": float(high),
        "largest_possible": float(largest),
        "prevalence": float(hit.mean()),
        "n_rows": len(hit),
        "n_hits": int(hit.sum()),
        "n_top": int(n_top),
        "hits_in_top": int(hit[top].sum()),
    }


def stability_figures(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Matbench Discovery's figures for `above hull <= 0`, in the hull of the known rows."""
    said, is_stable = predicted <= 0, true <= 0
    both = int((said & is_stable).sum())
    precision, recall = both / max(said.sum(), 1), both / max(is_stable.sum(), 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    prevalence = is_stable.mean()
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "daf": float(precision / prevalence),
        "largest_daf": float(1 / prevalence),
        "prevalence": float(prevalence),
        "mae_above_hull": float(np.abs(predicted - true).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=["sample", "mp_36k"], default="sample")
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--seed", type=int, default=17)
    arguments = parser.parse_args()
    world = load_world(arguments.data)
    known, hidden = split(world, arguments.seed)
    energies, gaps = draws(world, known, hidden, n_trees=arguments.trees, seed=arguments.seed)
    hull = world.hull_energy(world.hull_of(known), hidden)
    probability = goal_probability(energies, gaps, hull)
    # among equal probabilities, those whose mean prediction lies nearest to the goal go first
    score = probability - 1e-3 * distance_from_goal(energies, gaps, hull)
    rng = np.random.default_rng(arguments.seed)
    hit = world.is_hit[hidden]
    median = np.median(energies, axis=0)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "data": arguments.data,
        "goal": {"band_gap": GAP_WINDOW, "energy_above_hull": [None, STABLE]},
        "surrogate": f"{arguments.trees} extremely randomised trees on composition features",
        "n_known": len(known),
        "goal_ranking": enrichment(score, hit, rng),
        "point_ranking": enrichment(-distance_from_goal(energies, gaps, hull), hit, rng),
        "mean_goal_probability": float(probability.mean()),
        "stability": stability_figures(median - hull, world.energy[hidden] - hull),
        "mae": {
            "formation_energy_per_atom": float(np.abs(median - world.energy[hidden]).mean()),
            "band_gap": float(np.abs(np.median(gaps, axis=0) - world.gap[hidden]).mean()),
        },
    }
    path = ROOT / "benchmarks" / "results" / f"rediscovery_{arguments.data}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{json.dumps(result, indent=2)}\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
