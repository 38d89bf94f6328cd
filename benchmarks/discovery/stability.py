"""How predicted rivals should enter the hull, and how deep known phases lie below that of all other formulas.

    python -m benchmarks.discovery.stability --candidates 8000

Known phases are the bundled sample's compounds; candidates are others of mp_36k (../shared/data), their energies
lifted by an exponential of 0.12 eV/atom, since most candidates lie above the hull. Predictions err by a Laplace: about
the truth as a noisy measurement does, or so that the truth scatters about them, as it does about a calibrated one.
Ensembles lie between the two. The hull of all true energies is what a rule should find, measured on the candidates
whose pairs of elements all have a known phase. Writes benchmarks/results/stability.json.
"""

import argparse
import json
from collections import Counter

import numpy as np
import pandas as pd

from benchmarks.discovery.hidden_materials import ROOT, World, load_world
from matscout import columns
from matscout.discovery.known_materials import formula_key
from matscout.discovery.stability import competing_phases
from matscout.discovery.stability.competing_phases import Rivals
from matscout.discovery.stability.energy_above_hull import OTHERS_EDGES, References

LIFT = 0.12  # eV/atom
KINDS = ("noisy", "calibrated")
STDS = (0.07, 0.15)  # eV/atom: a prediction's mean standard error
CAUTIONS = (0.0, 0.5, 1.0)  # standard errors by which rivals enter above their energies


def depths(references: References) -> dict[str, list[float]]:
    """Median, 0.95 and 0.99 quantiles and number of known phases' depths, by the number of known others."""
    n_others, found = references.known_depths()
    kinds = np.searchsorted(OTHERS_EDGES, n_others)
    names = [f"<= {edge}" for edge in OTHERS_EDGES] + [f"> {OTHERS_EDGES[-1]}"]
    return {
        names[kind]: [*np.quantile(mine, [0.5, 0.95, 0.99]).round(3).tolist(), len(mine)]
        for kind in range(len(names))
        if len(mine := found[kinds == kind])
    }


def split(sample: World, world: World, n: int, rng: np.random.Generator) -> tuple[References, pd.DataFrame]:
    """The compounds of the sample as known phases, and others with lifted energies; both on the scale of `world`."""
    taken = {formula_key(species) for species in sample.species}
    keys = [formula_key(species) for species in world.species]
    is_known = np.array([key in taken for key in keys])
    first = np.unique(keys, return_index=True)[1]
    new = [i for i in first if not is_known[i] and " " in keys[i]]
    rows = rng.choice(new, min(n, len(new)), replace=False)
    table = pd.DataFrame(
        {
            columns.CANDIDATE_ID: [world.ids[i] for i in rows],
            columns.SPECIES: [world.species[i] for i in rows],
            columns.FORMATION_ENERGY: world.energy[rows] + rng.exponential(LIFT, len(rows)),
        }
    )
    return world.hull_of(np.flatnonzero(is_known)), table


def hulls(references: References, table: pd.DataFrame, energies: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(n,) the hull of each candidate, eV/atom, with all the others at these energies."""
    counts = [Counter(species) for species in table[columns.SPECIES]]
    above = energies - references.hull_energies(counts)
    said = {columns.FORMATION_ENERGY: energies, columns.FORMATION_ENERGY + columns.STD: std}
    rivals = Rivals.among([table.assign(**said, **{columns.ENERGY_ABOVE_KNOWN_HULL: above})])
    found = references.with_rivals(rivals).decompose_all(counts, table[columns.CANDIDATE_ID].tolist())
    return np.array([item.energy for item in found])


def rules(references: References, table: pd.DataFrame, std: float, kind: str, rng: np.random.Generator) -> dict:
    """Bias and mean absolute error of the hull by each rule, eV/atom, and F1 of `not above the hull`."""
    given = table[columns.FORMATION_ENERGY].to_numpy()
    stds = std * rng.uniform(0.5, 1.5, len(table))
    noise = rng.laplace(0.0, stds / np.sqrt(2))
    truth, predicted = (given, given + noise) if kind == "noisy" else (given + noise, given)
    competing_phases.CAUTION = 0.0
    true_hull = hulls(references, table, truth, np.zeros(len(table)))
    counts = [Counter(species) for species in table[columns.SPECIES]]
    judged = np.array([not found.lacking for found in references.decompose_all(counts)])
    found = {"known phases alone": references.hull_energies(counts)}
    for caution in CAUTIONS:
        competing_phases.CAUTION = caution
        found[f"{caution} std"] = hulls(references, table, predicted, stds)
    return {rule: _figures(hull, true_hull, truth, predicted, judged) for rule, hull in found.items()}


def _figures(
    hull: np.ndarray, true_hull: np.ndarray, truth: np.ndarray, predicted: np.ndarray, judged: np.ndarray
) -> dict[str, float]:
    error = (hull - true_hull)[judged]
    stable, called = (truth <= true_hull)[judged], (predicted <= hull)[judged]
    figures = {
        "bias": error.mean(),
        "mae": np.abs(error).mean(),
        "f1": 2 * (stable & called).sum() / max(stable.sum() + called.sum(), 1),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    sample, world = load_world("sample"), load_world("mp_36k")
    known, table = split(sample, world, arguments.candidates, rng)
    everything = world.hull_of(np.arange(len(world.ids)))
    figures = {
        "n_candidates": len(table),
        "depths: median, 95 %, 99 %, n": {"sample": depths(known), "mp_36k": depths(everything)},
        "hull by rule": {f"{kind}, {std}": rules(known, table, std, kind, rng) for std in STDS for kind in KINDS},
    }
    text = json.dumps(figures, indent=2)
    print(text)
    (ROOT / "benchmarks" / "results" / "stability.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
