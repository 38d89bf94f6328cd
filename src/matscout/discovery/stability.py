"""Stability: how far a candidate lies above the mixture of known phases it would decay to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pymatgen.core import Composition

from matscout import columns
from matscout.discovery.curated import formula_key
from matscout.discovery.simplex import lowest_mixture
from matscout.errors import InputError
from matscout.progress import progress

LEAST_SHARE = 1e-6  # of the atoms: smaller ones are rounding
SLOW_FROM = 20_000  # compositions from which a progress bar is worth its line


@dataclass(frozen=True)
class Phase:
    """The most stable known crystal of one formula.

    Attributes:
        material_id: of the curated table, or `reference` for an element without a row.
        counts: atoms by element.
        energy: formation energy, eV/atom, on the aligned scale.
    """

    material_id: str
    counts: Mapping[str, int]
    energy: float

    @cached_property
    def formula(self) -> str:
        """Reduced formula; made only for the phases that are named."""
        return Composition.from_dict(dict(self.counts)).reduced_formula

    def fraction(self, element: str) -> float:
        """Share of the element among the atoms."""
        return self.counts.get(element, 0) / sum(self.counts.values())


@dataclass(frozen=True)
class Decomposition:
    """What a composition would decay to.

    Attributes:
        energy: of the hull at this composition, eV/atom.
        phases: phases with their share of the atoms, largest first.
        missing: elements without a row of their own, and pairs without a known compound.
        is_judged: whether every element has a known compound with others of the composition. Without one
            the hull rests on a pure element, and anything bound at all looks stable.
    """

    energy: float
    phases: tuple[tuple[Phase, float], ...]
    missing: tuple[str, ...]
    is_judged: bool

    @property
    def text(self) -> str:
        """`0.60 SrO (mp-2472) + 0.40 TiO2 (mp-2657)`: shares of the atoms."""
        return " + ".join(f"{share:.2f} {phase.formula} ({phase.material_id})" for phase, share in self.phases)


@dataclass(frozen=True)
class References:
    """Known phases by chemical system, on one energy scale.

    An element's reference energy is zero by the definition of a formation energy, whether or not the
    curated set holds a row of it; a set that lacks compounds can only make candidates look too stable.
    """

    phases: Mapping[frozenset[str], tuple[Phase, ...]]

    @classmethod
    def read(cls, materials: Path) -> "References":
        """From the genuine rows of `materials.parquet` that have an aligned formation energy.

        Raises:
            InputError: no such row.
        """
        names = [columns.MATERIAL_ID, columns.SYNTHETIC, columns.SPECIES, columns.FORMATION_ENERGY_ALIGNED]
        table = pq.read_table(materials, columns=names).to_pydict()
        rows = zip(*(table[name] for name in names), strict=True)
        usable = [(i, species, e) for i, synthetic, species, e in rows if not synthetic and e is not None and e == e]  # noqa: PLR0124
        if not usable:
            raise InputError(
                f"{materials} has no genuine row with {columns.FORMATION_ENERGY_ALIGNED}: the hull has no references"
            )
        return cls.from_rows(usable)

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, Sequence[str], float]]) -> "References":
        """From (material id, species of the cell, eV/atom); the lowest of each formula counts."""
        lowest: dict[str, tuple[float, str, list[str]]] = {}
        for material_id, species, energy in rows:
            key = formula_key(list(species))
            best = lowest.get(key)
            if best is None or (energy, material_id) < best[:2]:
                lowest[key] = (float(energy), material_id, list(species))
        phases: dict[frozenset[str], list[Phase]] = {}
        for energy, material_id, species in (lowest[key] for key in sorted(lowest)):
            counts = {symbol: species.count(symbol) for symbol in sorted(set(species))}
            phases.setdefault(frozenset(counts), []).append(Phase(material_id, counts, energy))
        return cls({system: tuple(found) for system, found in phases.items()})

    def decompose(self, counts: Mapping[str, float]) -> Decomposition:
        """The hull at a composition given as atoms by element."""
        elements = sorted(counts)
        competing = self._competing(tuple(elements))
        fractions = np.array([[phase.fraction(e) for e in elements] for phase in competing])
        energies = np.array([phase.energy for phase in competing])
        aim = np.array([counts[e] for e in elements], dtype=np.float64)
        energy, basis, shares = lowest_mixture(fractions, energies, aim / aim.sum())
        found = [(competing[i], float(s)) for i, s in zip(basis, shares, strict=True) if s > LEAST_SHARE]
        found.sort(key=lambda item: (-item[1], item[0].formula))
        compounded = {symbol for phase in competing[len(elements) :] for symbol in phase.counts}
        return Decomposition(float(energy), tuple(found), self._missing(elements), compounded >= set(elements))

    def decompose_all(self, compositions: Sequence[Mapping[str, float]]) -> list[Decomposition]:
        """`decompose` for many."""
        shown = compositions if len(compositions) < SLOW_FROM else progress(compositions, description="convex hull")
        return [self.decompose(counts) for counts in shown]

    def _competing(self, elements: tuple[str, ...]) -> tuple[Phase, ...]:
        """Pure elements in order, then every compound of the elements; kept a while by chemical system."""
        if elements not in self._by_system:
            pure = [self._element(symbol) for symbol in elements]
            systems = [frozenset(part) for size in range(2, len(elements) + 1) for part in combinations(elements, size)]
            self._by_system[elements] = (*pure, *(p for system in systems for p in self.phases.get(system, ())))
        return self._by_system[elements]

    @cached_property
    def _by_system(self) -> dict[tuple[str, ...], tuple[Phase, ...]]:
        return {}

    def _element(self, symbol: str) -> Phase:
        reference = Phase("reference", {symbol: 1}, 0.0)
        return min((*self.phases.get(frozenset([symbol]), ()), reference), key=lambda phase: phase.energy)

    def _missing(self, elements: Sequence[str]) -> tuple[str, ...]:
        systems = [frozenset([symbol]) for symbol in elements] + [frozenset(pair) for pair in combinations(elements, 2)]
        return tuple("-".join(sorted(system)) for system in systems if system not in self.phases)


def energies_above_hull(
    references: References, compositions: Sequence[Mapping[str, float]], formation_energies: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) eV/atom; negative for what would be a new ground state."""
    hull = np.array([found.energy for found in references.decompose_all(compositions)])
    return formation_energies - hull
