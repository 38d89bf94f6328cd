"""Real rows, a goal on them, and a fast surrogate whose draws stand in for the ensemble's.

The surrogate is a forest on composition features (`ensemble.composition_features`); each tree's answer is a draw
from the predictive distribution (Meinshausen, "Quantile regression forests", JMLR 2006). The graph networks would
take hours to retrain in every round of a simulation; what is measured here is the choosing, not the network.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from benchmarks.shared_rows import ROOT, read_rows
from matscout.compositions import atomic_fractions
from matscout.discovery.stability.energy_above_hull import References
from matscout.ensemble.comparison.compare_methods import composition_features
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot

GAP_WINDOW = (1.0, 1.8)  # eV
STABLE = 0.05  # eV/atom above the hull of all rows of the set


@dataclass(frozen=True)
class World:
    """Rows with both labels; the truth that a simulation hides.

    Attributes:
        name: of the data set.
        ids: material ids.
        species: element symbols of each cell.
        energy: (n,) formation energy, eV/atom.
        gap: (n,) eV.
        above_hull: (n,) eV/atom, against the hull of all rows.
        features: (n, n_features) of the composition.
    """

    name: str
    ids: list[str]
    species: list[list[str]]
    energy: np.ndarray
    gap: np.ndarray
    above_hull: np.ndarray
    features: np.ndarray

    @property
    def is_hit(self) -> np.ndarray:
        """(n,) stable and with a gap in the window."""
        return (self.above_hull <= STABLE) & (self.gap >= GAP_WINDOW[0]) & (self.gap <= GAP_WINDOW[1])

    def hull_of(self, rows: np.ndarray) -> References:
        """The known phases of some rows."""
        return References.from_rows((self.ids[i], self.species[i], float(self.energy[i]), 0.0) for i in rows)

    def hull_energy(self, references: References, rows: np.ndarray) -> np.ndarray:
        """(len(rows),) energy of the hull at each composition, eV/atom."""
        counts = [{s: self.species[i].count(s) for s in set(self.species[i])} for i in rows]
        return np.array([found.energy for found in references.decompose_all(counts)])


def load_world(name: str) -> World:
    """`sample` (bundled with the repository) or `mp_36k` (../shared/data)."""
    rows = list(_sample_rows() if name == "sample" else _shared_rows())
    ids, species, energy, gap = (list(column) for column in zip(*rows, strict=True))
    energy, gap = np.array(energy), np.array(gap)
    features = composition_features(atomic_fractions(species))
    world = World(name, ids, species, energy, gap, np.zeros(len(ids)), features)
    everything = np.arange(len(ids))
    above = energy - world.hull_energy(world.hull_of(everything), everything)
    return World(name, ids, species, energy, gap, above, features)


def draws(world: World, train: np.ndarray, rows: np.ndarray, *, n_trees: int, seed: int) -> tuple[np.ndarray, ...]:
    """(n_trees, len(rows)) formation energies and gaps, jointly drawn, of a forest trained on `train`."""
    labels = np.column_stack([world.energy, world.gap])
    spread = labels[train].std(axis=0)
    forest = ExtraTreesRegressor(
        n_trees, bootstrap=True, max_features=0.3, min_samples_leaf=2, n_jobs=1, random_state=seed
    ).fit(world.features[train], labels[train] / spread)
    answers = np.stack([tree.predict(world.features[rows].astype(np.float32)) for tree in forest.estimators_]) * spread
    return answers[..., 0], answers[..., 1]


def goal_probability(energies: np.ndarray, gaps: np.ndarray, hull_energy: np.ndarray) -> np.ndarray:
    """(n,) share of the draws that meet the whole goal."""
    return ((energies - hull_energy <= STABLE) & (gaps >= GAP_WINDOW[0]) & (gaps <= GAP_WINDOW[1])).mean(axis=0)


def distance_from_goal(energies: np.ndarray, gaps: np.ndarray, hull_energy: np.ndarray) -> np.ndarray:
    """(n,) how far the mean prediction lies outside the goal, in eV(/atom)."""
    energy, gap = energies.mean(axis=0), gaps.mean(axis=0)
    outside = np.maximum(np.maximum(GAP_WINDOW[0] - gap, gap - GAP_WINDOW[1]), 0)
    return outside + np.maximum(energy - hull_energy - STABLE, 0)


def _sample_rows() -> Iterator[tuple[str, list[str], float, float]]:
    for item in read_snapshot(ROOT / "data/sample/materials_project"):
        if isinstance(item, Record) and item.formation_energy_per_atom is not None and item.band_gap is not None:
            yield item.material_id, list(item.crystal.species), item.formation_energy_per_atom, item.band_gap


def _shared_rows() -> Iterator[tuple[str, list[str], float, float]]:
    for row in read_rows("mp_36k"):
        yield row["material_id"], row["species"], row["formation_energy_per_atom"], row["band_gap"]
