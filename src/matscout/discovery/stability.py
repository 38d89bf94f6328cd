"""Stability: how far a candidate lies above the mixture of known phases it would decay to."""

import math
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

ENERGY_ERRORS = (columns.FORMATION_ENERGY_NOISE, columns.FORMATION_ENERGY_ALIGNED_STD)  # independent of each other
LEAST_SHARE = 1e-6  # of the atoms: smaller ones are rounding
SYSTEMS_KEPT = 5000  # chemical systems whose phases are at hand; a million candidates have far more
SLOW_FROM = 20_000  # compositions from which a progress bar is worth its line


@dataclass(frozen=True)
class Phase:
    """The most stable known crystal of one formula.

    Attributes:
        material_id: of the curated table, or `reference` for an element without a row.
        counts: atoms by element.
        energy: formation energy, eV/atom, on the aligned scale.
        std: its standard error, eV/atom: label noise and alignment, as far as curation knows them.
    """

    material_id: str
    counts: Mapping[str, int]
    energy: float
    std: float = 0.0

    @cached_property
    def formula(self) -> str:
        """Reduced formula; made only for the phases that are named."""
        return Composition.from_dict(dict(self.counts)).reduced_formula

    @cached_property
    def fractions(self) -> dict[str, float]:
        """Share of each element among the atoms."""
        total = sum(self.counts.values())
        return {symbol: number / total for symbol, number in self.counts.items()}


@dataclass(frozen=True)
class HullEnergy:
    """The hull at n compositions: (n,) energy and its standard error, eV/atom."""

    energy: NDArray[np.float64]
    std: NDArray[np.float64]


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
    def std(self) -> float:
        """Standard error of the energy, eV/atom, while the same phases compete; their errors are independent."""
        return math.hypot(*(share * phase.std for phase, share in self.phases))

    @property
    def text(self) -> str:
        """`0.60 SrO (mp-2472) + 0.40 TiO2 (mp-2657)`: shares of the atoms."""
        return " + ".join(f"{share:.2f} {phase.formula} ({phase.material_id})" for phase, share in self.phases)


@dataclass(frozen=True)
class System:
    """What a composition of some elements may decay to.

    Attributes:
        phases: pure elements in order, then every known compound of the elements.
        fractions: (n_phases, n_elements) atomic fractions.
        energies: (n_phases,) eV/atom.
        missing: elements without a row of their own, and pairs without a known compound.
        is_judged: see `Decomposition`.
    """

    phases: tuple[Phase, ...]
    fractions: NDArray[np.float64]
    energies: NDArray[np.float64]
    missing: tuple[str, ...]
    is_judged: bool


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
        errors = [name for name in ENERGY_ERRORS if name in pq.read_schema(materials).names]
        table = pq.read_table(materials, columns=[*names, *errors]).to_pandas()
        table = table.loc[~table[columns.SYNTHETIC].to_numpy(dtype=bool) & table[names[-1]].notna().to_numpy()]
        std = np.sqrt(np.square(table[errors].fillna(0.0).to_numpy(dtype=np.float64)).sum(axis=1))
        usable = list(zip(*(table[name] for name in (names[0], names[2], names[3])), std.tolist(), strict=True))
        if not usable:
            raise InputError(
                f"{materials} has no genuine row with {columns.FORMATION_ENERGY_ALIGNED}: the hull has no references"
            )
        return cls.from_rows(usable)

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[str, Sequence[str], float, float]]) -> "References":
        """From (material id, species of the cell, eV/atom, its standard error); the lowest of each formula counts.

        An element's energy is zero by definition, so that the error of its row says nothing.
        """
        lowest: dict[str, tuple[float, str, list[str], float]] = {}
        for material_id, species, energy, std in rows:
            key = formula_key(list(species))
            best = lowest.get(key)
            if best is None or (energy, material_id) < best[:2]:
                lowest[key] = (float(energy), material_id, list(species), float(std))
        phases: dict[frozenset[str], list[Phase]] = {}
        for energy, material_id, species, std in (lowest[key] for key in sorted(lowest)):
            counts = {symbol: species.count(symbol) for symbol in sorted(set(species))}
            phase = Phase(material_id, counts, energy, std if len(counts) > 1 else 0.0)
            phases.setdefault(frozenset(counts), []).append(phase)
        return cls({system: tuple(found) for system, found in phases.items()})

    @property
    def n_phases(self) -> int:
        """Known compounds, one a formula."""
        return sum(len(phases) for system, phases in self.phases.items() if len(system) > 1)

    @property
    def n_with_error(self) -> int:
        """Those of them whose energies have a known standard error."""
        return sum(phase.std > 0 for phases in self.phases.values() for phase in phases)

    def decompose(self, counts: Mapping[str, float]) -> Decomposition:
        """The hull at a composition given as atoms by element."""
        system = self._system(tuple(sorted(counts)))
        energy, basis, shares = lowest_mixture(system.fractions, system.energies, _aim(counts))
        found = [
            (system.phases[i], share)
            for i, share in zip(basis.tolist(), shares.tolist(), strict=True)
            if share > LEAST_SHARE
        ]
        found.sort(key=lambda item: (-item[1], item[0].formula))
        return Decomposition(float(energy), tuple(found), system.missing, system.is_judged)

    def decompose_all(self, compositions: Sequence[Mapping[str, float]]) -> list[Decomposition]:
        """`decompose` for many."""
        shown = compositions if len(compositions) < SLOW_FROM else progress(compositions, description="convex hull")
        return [self.decompose(counts) for counts in shown]

    def draw_hulls(
        self, compositions: Sequence[Mapping[str, float]], n_draws: int, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """(n_draws, n) energies of the hull, eV/atom, with the phases' energies drawn about their values.

        One draw holds for all compositions: candidates that compete with the same phase err together.
        The lowest mixture is found anew in each draw, so that another phase may win.
        """
        systems = [self._system(tuple(sorted(counts))) for counts in compositions]
        uncertain = sorted({phase.material_id for system in systems for phase in system.phases if phase.std > 0})
        errors = dict(zip(uncertain, rng.standard_normal((len(uncertain), n_draws)), strict=True))
        drawn = np.empty((n_draws, len(compositions)))
        for column, (counts, system) in enumerate(zip(compositions, systems, strict=True)):
            fractions, exact, aim = system.fractions, system.energies, _aim(counts)
            if not any(phase.std > 0 for phase in system.phases):
                drawn[:, column] = lowest_mixture(fractions, exact, aim)[0]
                continue
            shifts = np.array([phase.std * errors.get(phase.material_id, np.zeros(n_draws)) for phase in system.phases])
            drawn[:, column] = [lowest_mixture(fractions, exact + shift, aim)[0] for shift in shifts.T]
        return drawn

    def _system(self, elements: tuple[str, ...]) -> System:
        """The chemical system of some elements, sorted; kept a while."""
        if (found := self._systems.get(elements)) is None:
            if len(self._systems) >= SYSTEMS_KEPT:
                self._systems.clear()
            found = self._systems[elements] = self._make_system(elements)
        return found

    def _make_system(self, elements: tuple[str, ...]) -> System:
        parts = [frozenset(part) for size in range(2, len(elements) + 1) for part in combinations(elements, size)]
        compounds = [phase for part in parts for phase in self.phases.get(part, ())]
        phases = (*(self._element(symbol) for symbol in elements), *compounds)
        fractions = np.array([[phase.fractions.get(symbol, 0.0) for symbol in elements] for phase in phases])
        compounded = {symbol for phase in compounds for symbol in phase.counts}
        return System(
            phases,
            fractions,
            np.array([phase.energy for phase in phases]),
            self._missing(elements),
            compounded >= set(elements),
        )

    @cached_property
    def _systems(self) -> dict[tuple[str, ...], System]:
        return {}

    def _element(self, symbol: str) -> Phase:
        reference = Phase("reference", {symbol: 1}, 0.0)
        return min((*self.phases.get(frozenset([symbol]), ()), reference), key=lambda phase: phase.energy)

    def _missing(self, elements: Sequence[str]) -> tuple[str, ...]:
        systems = [frozenset([symbol]) for symbol in elements] + [frozenset(pair) for pair in combinations(elements, 2)]
        return tuple("-".join(sorted(system)) for system in systems if system not in self.phases)


def _aim(counts: Mapping[str, float]) -> NDArray[np.float64]:
    """(n_elements,) atomic fractions of a composition; elements by symbol."""
    aim = np.array([counts[symbol] for symbol in sorted(counts)], dtype=np.float64)
    return aim / aim.sum()


def hull_of(found: Sequence[Decomposition]) -> HullEnergy:
    """The hull at many compositions."""
    return HullEnergy(np.array([item.energy for item in found]), np.array([item.std for item in found]))


def energies_above_hull(
    references: References, compositions: Sequence[Mapping[str, float]], formation_energies: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) eV/atom; negative for what would be a new ground state."""
    hull = np.array([found.energy for found in references.decompose_all(compositions)])
    return formation_energies - hull
