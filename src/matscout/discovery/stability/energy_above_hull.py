"""Stability: the energy of a candidate above the mixture of phases that it would decompose into."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymatgen.core import Composition

from matscout import columns
from matscout.crystal import formula_key
from matscout.curated_table import ENERGY_ERRORS, CuratedTable
from matscout.discovery.stability.competing_phases import KNOWN, POTENTIAL, PREDICTED, Phase, Rivals, lowest_phases
from matscout.discovery.stability.lowest_mixture import lowest_mixture
from matscout.errors import InputError
from matscout.progress import progress

LARGEST_ENERGY = 8.0  # eV/atom
LEAST_SHARE = 1e-6  # shares of the atoms; smaller ones are rounding errors
SYSTEMS_KEPT = 5000  # chemical systems whose phases stay in memory; a million candidates have far more
SLOW_FROM = 20_000  # number of compositions from which a progress bar is shown
DEEPEST = 0.2  # eV/atom: stability is unknown for candidates deeper below the hull of other formulas
DEPTH_QUANTILE = 0.99  # of known phases' depths
OTHERS_EDGES = (2, 4, 8, 16, 32)  # other known phases of the system: kinds with a depth limit each
FEWEST_DEPTHS = 50  # of a kind; with fewer, a quantile is too uncertain and `DEEPEST` applies
DEPTHS_MEASURED = 5000  # known phases, at most

Array = NDArray[np.float64]
Row = tuple[str, Sequence[str], float, float]
BySystem = Mapping[frozenset[str], tuple[Phase, ...]]


@dataclass(frozen=True)
class HullEnergy:
    """The hull at n compositions: (n,) energy and its standard error, eV/atom."""

    energy: Array
    std: Array


@dataclass(frozen=True)
class Decomposition:
    """The decomposition of a composition.

    Attributes:
        energy: energy of the hull at this composition, eV/atom.
        energy_of_others: the same without a lower candidate of this formula, eV/atom.
        phases: phases with their share of the atoms, largest first.
        missing: elements without a row of their own, and pairs without a known compound.
        lacking: those of the pairs without any phase, not even a stand-in: the hull consists of pure elements
            there, and any bound compound looks stable.
        stood_in: the other pairs, of which only a potential's energies are known.
        n_others: known compounds of other formulas in its chemical system.
    """

    energy: float
    energy_of_others: float
    phases: tuple[tuple[Phase, float], ...]
    missing: tuple[str, ...]
    lacking: tuple[str, ...]
    stood_in: tuple[str, ...]
    n_others: int

    @property
    def std(self) -> float:
        """Standard error of the energy, eV/atom, while the same phases compete; their errors are independent."""
        return math.hypot(*(share * phase.std for phase, share in self.phases))

    @property
    def text(self) -> str:
        """`0.60 SrO (mp-2472) + 0.40 TiO2 (ms-00017, predicted)`: shares of the atoms."""
        return " + ".join(f"{share:.2f} {phase.label}" for phase, share in self.phases)


@dataclass(frozen=True)
class System:
    """The phases that a composition of some elements may decompose into.

    Attributes:
        phases: pure elements in order, then every known compound of the elements, then stand-ins and candidates.
        n_known: elements and known compounds.
        fractions: (n_phases, n_elements) atomic fractions.
        energies: (n_phases,) eV/atom, with which they compete.
        missing, lacking, stood_in: see `Decomposition`.
    """

    phases: tuple[Phase, ...]
    n_known: int
    fractions: Array
    energies: Array
    missing: tuple[str, ...]
    lacking: tuple[str, ...]
    stood_in: tuple[str, ...]

    def has_formula(self, aim: Array) -> NDArray[np.bool_]:
        """(n_phases,) whether a phase has this composition."""
        return np.abs(self.fractions - aim).max(axis=1) < LEAST_SHARE


@dataclass(frozen=True)
class References:
    """Phases by chemical system that candidates compete with, on one energy scale.

    An element's reference energy is zero by the definition of a formation energy, whether or not the
    curated set holds a row of it, and whatever energy that row has; a set that lacks compounds can only make candidates
    look too stable.

    Attributes:
        phases: known ones.
        stand_ins: hypothetical crystals with energies of a potential; they compete, but do not count as known.
        rivals: other candidates; none until all are predicted.
    """

    phases: BySystem
    stand_ins: BySystem = field(default_factory=dict)
    rivals: Rivals | None = None

    @classmethod
    def read(cls, materials: Path, stand_ins: Path | None = None, hull: Path | None = None) -> "References":
        """Read phases from the real rows of `materials.parquet` that have an aligned formation energy.

        Args:
            materials: curated table.
            stand_ins: table of hypothetical crystals, with material_id, species, formation_energy_aligned and
                calculation (`potential`); None = no stand-ins.
            hull: table (CSV or parquet), or folder of such, of further known phases: formula, formation_energy_per_atom
                (eV/atom, on the scale of the curated table) and id; None = no further phases.

        Returns:
            The phases that a candidate competes with.

        Raises:
            InputError: no such row, a stand-in with another kind of energy, or a row of `hull` that is not a phase.
        """
        usable = _rows(CuratedTable(materials).phases())
        if not usable:
            raise InputError(
                f"{materials} has no real row with {columns.FORMATION_ENERGY_ALIGNED}: the hull has no references"
            )
        usable += [] if hull is None else _hull_rows(hull)
        return cls.from_rows(usable, [] if stand_ins is None else _stand_in_rows(stand_ins))

    @classmethod
    def from_rows(cls, rows: Iterable[Row], stand_ins: Iterable[Row] = ()) -> "References":
        """From (id, species of the cell, eV/atom, its standard error); the lowest of each formula counts."""
        return cls(lowest_phases(rows, KNOWN), lowest_phases(stand_ins, POTENTIAL))

    def with_rivals(self, rivals: Rivals) -> "References":
        """The same phases, with competing candidates."""
        found = replace(self, rivals=rivals)
        found.__dict__["depth_limits"] = self.depth_limits  # of the known phases alone
        return found

    @property
    def n_phases(self) -> int:
        """Known compounds, one per formula."""
        return _n_compounds(self.phases)

    @property
    def n_stand_ins(self) -> int:
        """Compounds with a potential's energy, one per formula."""
        return _n_compounds(self.stand_ins)

    @property
    def n_with_error(self) -> int:
        """Known compounds whose energies have a known standard error."""
        return sum(phase.std > 0 for phases in self.phases.values() for phase in phases)

    @cached_property
    def ids_of_formulas(self) -> dict[str, str]:
        """Id of the lowest known phase by `formula_key`."""
        return {
            formula_key([symbol for symbol, n in phase.counts.items() for _ in range(n)]): phase.material_id
            for phases in self.phases.values()
            for phase in phases
        }

    @cached_property
    def known(self) -> "References":
        """The known phases alone."""
        return References(self.phases)

    def decompose(self, counts: Mapping[str, float], candidate: str | None = None) -> Decomposition:
        """The hull at a composition given as atoms by element.

        Args:
            counts: atoms by element.
            candidate: candidate whose hull it is. Hypothetical phases of its own formula take no part then: a stand-in
                may be the same crystal, and the lowest candidate represents its formula, so that the others lie
                above it. Null: everything takes part.
        """
        system = self.system(tuple(sorted(counts)))
        aim = _aim(counts)
        same = system.has_formula(aim)
        energies, lower = system.energies, None
        if candidate is not None:
            energies = np.where(same & _is_hypothetical(system), np.inf, energies)
            lower = _lowest_of_formula(system, same, candidate)
        others, basis, shares = lowest_mixture(system.fractions, energies, aim)
        energy, found = (
            others,
            [
                (system.phases[i], share)
                for i, share in zip(basis.tolist(), shares.tolist(), strict=True)
                if share > LEAST_SHARE
            ],
        )
        if lower is not None and lower.energy < energy:
            energy, found = lower.energy, [(lower, 1.0)]
        found.sort(key=lambda item: (-item[1], item[0].formula))
        n_others = system.n_known - len(aim) - int(same[len(aim) : system.n_known].sum())
        return Decomposition(
            float(energy),
            float(others),
            tuple(found),
            system.missing,
            system.lacking,
            system.stood_in,
            max(n_others, 0),
        )

    def decompose_all(
        self, compositions: Sequence[Mapping[str, float]], candidates: Sequence[str] | None = None
    ) -> list[Decomposition]:
        """`decompose` for many."""
        names = candidates if candidates is not None else [None] * len(compositions)
        order = _by_system(compositions)
        shown = order if len(order) < SLOW_FROM else progress(order, description="convex hull")
        found = {row: self.decompose(compositions[row], names[row]) for row in shown}
        return [found[row] for row in range(len(compositions))]

    def hull_energies(self, compositions: Sequence[Mapping[str, float]]) -> Array:
        """(n,) eV/atom, of the hull of everything."""
        energies = np.empty(len(compositions))
        for row in _by_system(compositions):
            system = self.system(tuple(sorted(compositions[row])))
            energies[row] = lowest_mixture(system.fractions, system.energies, _aim(compositions[row]))[0]
        return energies

    def draw_hulls(
        self,
        compositions: Sequence[Mapping[str, float]],
        n_draws: int,
        rng: np.random.Generator,
        candidates: Sequence[str] | None = None,
    ) -> Array:
        """Draw the hull's energy, with the phases' energies drawn about their values.

        One draw holds for all compositions: candidates that compete with the same phase err together. The lowest
        mixture is found again in each draw, so that another phase may win. Of the candidates only those that compete at
        the energies as they are get drawn: among many uncertain ones, some draw is always low.

        Args:
            compositions: n formulas, atoms by symbol.
            n_draws: number of draws.
            rng: draws the errors.
            candidates: n ids of candidates that the references hold too; None = they hold none of them.

        Returns:
            (n_draws, n) eV/atom.
        """
        names = candidates if candidates is not None else [None] * len(compositions)
        contests = [self._contest(counts, name) for counts, name in zip(compositions, names, strict=True)]
        uncertain = sorted({phase.material_id for phases, *_ in contests for phase in phases if phase.std > 0})
        errors = dict(zip(uncertain, rng.standard_normal((len(uncertain), n_draws)), strict=True))
        drawn = np.empty((n_draws, len(compositions)))
        for column, (counts, (phases, fractions, lower)) in enumerate(zip(compositions, contests, strict=True)):
            exact = np.array([phase.energy_in_hull for phase in phases])
            shifts = np.array([phase.std * errors.get(phase.material_id, np.zeros(n_draws)) for phase in phases])
            aim = _aim(counts)
            if shifts.any():
                drawn[:, column] = [lowest_mixture(fractions, exact + shift, aim)[0] for shift in shifts.T]
            else:
                drawn[:, column] = lowest_mixture(fractions, exact, aim)[0]
            if lower is not None:
                own = lower.energy + lower.std * rng.standard_normal(n_draws)
                drawn[:, column] = np.minimum(drawn[:, column], own)
        return drawn

    def _contest(self, counts: Mapping[str, float], candidate: str | None) -> tuple[list[Phase], Array, Phase | None]:
        """The phases that compete in draws, their fractions, and the lower candidate of the same formula."""
        system, aim = self.system(tuple(sorted(counts))), _aim(counts)
        same = system.has_formula(aim)
        lower = None if candidate is None else _lowest_of_formula(system, same, candidate)
        needed = {phase.material_id for phase, _ in self.decompose(counts, candidate).phases}
        kept = [
            place
            for place, phase in enumerate(system.phases)
            if not (candidate is not None and same[place] and phase.calculation != KNOWN)
            and (phase.calculation != PREDICTED or phase.material_id in needed)
        ]
        return [system.phases[place] for place in kept], system.fractions[kept], lower

    def depth_limit(self, n_others: int) -> float:
        """Deepest that a phase with so many known others in its system can lie below their hull, eV/atom."""
        return float(self.depth_limits[np.searchsorted(OTHERS_EDGES, n_others)])

    @cached_property
    def depth_limits(self) -> Array:
        """(n_kinds,) eV/atom: `DEPTH_QUANTILE` of known stable phases' depths by `OTHERS_EDGES`, at most `DEEPEST`."""
        n_others, depths = self.known_depths()
        kinds = np.searchsorted(OTHERS_EDGES, n_others)
        limits = np.full(len(OTHERS_EDGES) + 1, DEEPEST)
        for kind in range(len(limits)):
            if (mine := depths[kinds == kind]).size >= FEWEST_DEPTHS:
                limits[kind] = min(DEEPEST, float(np.quantile(mine, DEPTH_QUANTILE)))
        return limits

    def known_depths(self) -> tuple[NDArray[np.int64], Array]:
        """How deep stable known phases lie below the hull of all other formulas' known phases.

        Only those count whose pairs of elements all have another known phase, as a candidate's must; of many, evenly
        spaced ones.

        Returns:
            (n,) other known compounds of the system, and (n,) depths in eV/atom, positive.
        """
        compounds = [
            phase
            for system in sorted(self.phases, key=sorted)
            for phase in self.phases[system]
            if len(system) > 2 or (len(system) == 2 and len(self.phases[system]) > 1)
        ]
        step = max(1, math.ceil(len(compounds) / DEPTHS_MEASURED))
        n_others, depths = [], []
        for phase in compounds[::step]:
            system = self.known.system(tuple(sorted(phase.counts)))
            if system.lacking:
                continue
            aim = _aim(phase.counts)
            others = np.where(system.has_formula(aim), np.inf, system.energies)
            depth = lowest_mixture(system.fractions, others, aim)[0] - phase.energy
            if depth > 0:
                n_others.append(len(system.phases) - len(aim) - 1)
                depths.append(depth)
        return np.array(n_others, dtype=np.int64), np.array(depths)

    def system(self, elements: tuple[str, ...]) -> System:
        """The chemical system of some elements, sorted; cached."""
        if (found := self._systems.get(elements)) is None:
            if len(self._systems) >= SYSTEMS_KEPT:
                self._systems.clear()
            found = self._systems[elements] = self._make_system(elements)
        return found

    def _make_system(self, elements: tuple[str, ...]) -> System:
        pairs = [frozenset(pair) for pair in combinations(elements, 2)]
        parts = [frozenset(part) for size in range(2, len(elements) + 1) for part in combinations(elements, size)]
        known = [self._element(symbol) for symbol in elements]
        known += [phase for part in parts for phase in self.phases.get(part, ())]
        hypothetical = [phase for part in parts for phase in self.stand_ins.get(part, ())]
        if self.rivals is not None:
            hypothetical += [phase for part in parts or [frozenset(elements)] for phase in self.rivals.of(part)]
        phases = (*known, *hypothetical)
        fractions = np.array([[phase.fractions.get(symbol, 0.0) for symbol in elements] for phase in phases])
        unknown = [pair for pair in pairs if pair not in self.phases]
        missing = [frozenset([symbol]) for symbol in elements if frozenset([symbol]) not in self.phases] + unknown
        return System(
            phases,
            len(known),
            fractions,
            np.array([phase.energy_in_hull for phase in phases]),
            _names(missing),
            _names(pair for pair in unknown if pair not in self.stand_ins),
            _names(pair for pair in unknown if pair in self.stand_ins),
        )

    @cached_property
    def _systems(self) -> dict[tuple[str, ...], System]:
        return {}

    @cached_property
    def _elements(self) -> dict[str, Phase]:
        return {}

    def _element(self, symbol: str) -> Phase:
        """The element at energy zero, by definition: rows below it are noise, rows above it no ground state; cached."""
        if (found := self._elements.get(symbol)) is None:
            reference = Phase("reference", {symbol: 1}, 0.0)
            lowest = min((*self.phases.get(frozenset([symbol]), ()), reference), key=lambda phase: phase.energy)
            found = self._elements[symbol] = replace(lowest, energy=0.0)
        return found


def remark_on(found: Decomposition, energy: float, limit: float) -> tuple[bool, str]:
    """Find out whether a candidate's stability can be judged.

    Args:
        found: its decomposition.
        energy: its formation energy, eV/atom.
        limit: depth of known phases below the hull, eV/atom; see `References.depth_limit`.

    Returns:
        Whether it can be judged; and the reason if not, or the stand-ins for known phases.
    """
    if found.lacking:
        return False, f"no {', '.join(found.lacking)} phase known"
    if (depth := found.energy_of_others - energy) > limit:
        words = f"deeper below the hull of other formulas than known phases are ({depth:.2f} > {limit:.2f} eV/atom)"
        return False, f"{words}: rivals are missing"
    return True, f"potential-labelled stand-ins for {', '.join(found.stood_in)}" if found.stood_in else ""


def hull_of(found: Sequence[Decomposition]) -> HullEnergy:
    """The hull at many compositions."""
    return HullEnergy(np.array([item.energy for item in found]), np.array([item.std for item in found]))


def energies_above_hull(
    references: References, compositions: Sequence[Mapping[str, float]], formation_energies: Array
) -> Array:
    """Energy above the hull of known phases.

    Args:
        references: the phases.
        compositions: n formulas, atoms by symbol.
        formation_energies: (n,) eV/atom.

    Returns:
        (n,) eV/atom; negative for a new ground state.
    """
    return formation_energies - references.hull_energies(compositions)


def _by_system(compositions: Sequence[Mapping[str, float]]) -> list[int]:
    """Rows in the order of their elements, so that each chemical system is built once."""
    return sorted(range(len(compositions)), key=lambda row: sorted(compositions[row]))


def _aim(counts: Mapping[str, float]) -> Array:
    """(n_elements,) atomic fractions of a composition; elements by symbol."""
    aim = np.array([counts[symbol] for symbol in sorted(counts)], dtype=np.float64)
    return aim / aim.sum()


def _is_hypothetical(system: System) -> NDArray[np.bool_]:
    return np.arange(len(system.phases)) >= system.n_known


def _lowest_of_formula(system: System, same: NDArray[np.bool_], candidate: str) -> Phase | None:
    """The candidate that represents the formula, unless it is this one."""
    for place in np.flatnonzero(same).tolist():
        phase = system.phases[place]
        if phase.calculation == PREDICTED:
            return None if phase.material_id == candidate else phase
    return None


def _names(systems: Iterable[frozenset[str]]) -> tuple[str, ...]:
    return tuple("-".join(sorted(system)) for system in systems)


def _n_compounds(phases: BySystem) -> int:
    return sum(len(found) for system, found in phases.items() if len(system) > 1)


def _rows(table: pd.DataFrame) -> list[Row]:
    """Id, species, aligned energy and its standard error, which is zero where it is unknown."""
    names = [columns.MATERIAL_ID, columns.SPECIES, columns.FORMATION_ENERGY_ALIGNED]
    errors = [name for name in ENERGY_ERRORS if name in table]
    std = np.sqrt(np.square(table[errors].fillna(0.0).to_numpy(dtype=np.float64)).sum(axis=1))
    return list(zip(*(table[name] for name in names), std.tolist(), strict=True))


def _hull_rows(path: Path) -> list[Row]:
    """The phases of a user's tables; elements are left out, since their energy is zero by definition."""
    if not path.exists():
        raise InputError(f"screening.hull = {path} is not there; it may be an empty folder (git checkout -- {path})")
    files = sorted(p for p in (path.iterdir() if path.is_dir() else [path]) if p.suffix in {".csv", ".parquet"})
    rows: list[Row] = []
    for file in files:
        table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
        if lacking := sorted({"formula", columns.FORMATION_ENERGY, "id"} - set(table.columns)):
            raise InputError(f"{file} lacks the columns {lacking}: it needs formula, {columns.FORMATION_ENERGY} and id")
        for number, (formula, energy, name) in enumerate(
            zip(table["formula"], table[columns.FORMATION_ENERGY], table["id"], strict=True), start=1
        ):
            rows.append((str(name), *_phase_of(formula, energy, f"{file} row {number}"), 0.0))
    return [row for row in rows if len(set(row[1])) > 1]


def _phase_of(formula: object, energy: object, where: str) -> tuple[list[str], float]:
    """Atoms of one formula unit, and the energy, eV/atom."""
    try:
        counts = Composition(str(formula)).get_integer_formula_and_factor()[0]
        species = [e.symbol for e, n in Composition(counts).items() for _ in range(int(n))]
        value = float(energy)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: {formula!r}, {energy!r} is not a formula and energy ({error!s:.80})") from error
    if not -LARGEST_ENERGY <= value <= LARGEST_ENERGY:
        rule = f"a formation energy lies between {-LARGEST_ENERGY:g} and {LARGEST_ENERGY:g} eV/atom"
        raise InputError(f"{where}: {formula} has {value:g}: {rule}; do not give a total energy, or one per cell")
    return species, value


def _stand_in_rows(path: Path) -> list[Row]:
    table = pd.read_parquet(path)
    kinds = set(table[columns.CALCULATION])
    if kinds - {POTENTIAL}:
        raise InputError(
            f"{path} holds rows with {columns.CALCULATION} {sorted(map(str, kinds - {POTENTIAL}))}: stand-ins have "
            f"{POTENTIAL!r}; rows computed by DFT belong in the curated table"
        )
    return _rows(table.loc[table[columns.FORMATION_ENERGY_ALIGNED].notna()])
