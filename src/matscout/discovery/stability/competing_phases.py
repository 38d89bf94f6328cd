"""Competing phases: known ones, and hypothetical ones with energies from predictions or a potential."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
import pyarrow as pa
from pymatgen.core import Composition

from matscout import columns
from matscout.discovery.known_materials import formula_key

KNOWN = ""  # computed by DFT for a crystal of a database
PREDICTED = "predicted"  # by the ensemble, for a candidate
POTENTIAL = columns.BY_POTENTIAL  # by a universal potential, for a hypothetical crystal
CAUTION = 0.5  # standard errors above its predicted energy at which a competitor enters the hull (docs/discovery.md)
FORMULAS_KEPT = 100_000


@dataclass(frozen=True)
class Phase:
    """The most stable crystal of one formula.

    Attributes:
        material_id: material id of the curated table, of a stand-in or of a candidate; `reference` for an element
            without a row.
        counts: atoms by element.
        energy: formation energy, eV/atom, on the aligned scale.
        std: its standard error, eV/atom: of known phases label noise and alignment, as far as curation knows them.
        calculation: `KNOWN`, `POTENTIAL` or `PREDICTED`.
    """

    material_id: str
    counts: Mapping[str, int]
    energy: float
    std: float = 0.0
    calculation: str = KNOWN

    @property
    def energy_in_hull(self) -> float:
        """The energy with which it competes, eV/atom: raised, as the lowest of many uncertain energies is too low."""
        return self.energy if self.calculation == KNOWN else self.energy + CAUTION * self.std

    @property
    def formula(self) -> str:
        """Reduced formula."""
        return _reduced_formula(tuple(self.counts.items()))

    @property
    def label(self) -> str:
        """`TiO2 (mp-2657)`, or `TiO2 (ms-00017, predicted)`."""
        how = f", {self.calculation}" if self.calculation else ""
        return f"{self.formula} ({self.material_id}{how})"

    @cached_property
    def fractions(self) -> dict[str, float]:
        """Share of each element among the atoms."""
        total = sum(self.counts.values())
        return {symbol: number / total for symbol, number in self.counts.items()}


def lowest_phases(
    rows: Iterable[tuple[str, Sequence[str], float, float]], calculation: str
) -> dict[frozenset[str], tuple[Phase, ...]]:
    """The lowest phase of each formula, by chemical system; rows are (id, species, eV/atom, its standard error).

    An element's energy is zero by definition, so the error of its row does not matter.
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
        phase = Phase(material_id, counts, energy, std if len(counts) > 1 else 0.0, calculation)
        phases.setdefault(frozenset(counts), []).append(phase)
    return {system: tuple(found) for system, found in phases.items()}


@dataclass(frozen=True)
class Rivals:
    """For each formula, the lowest candidate below the hull of the known phases, and the one that competes.

    These differ if another candidate has a smaller error than the lowest (`Phase.energy_in_hull`). Candidates above the
    hull cannot lower it. Kept as sorted arrow columns, about 100 bytes per formula, so that a million candidates fit in
    memory.

    Attributes:
        table: candidate_id, system (`O Sr Ti`), formula (`formula_key`), energy and std in eV/atom; sorted by system,
            formula and energy.
    """

    table: pa.Table

    @classmethod
    def among(cls, candidates: Iterable[pd.DataFrame]) -> "Rivals":
        """Build it from parts of a table: id, species, predicted energy, its error, energy above the known hull."""
        parts = [_below_known_hull(part) for part in candidates]
        table = pd.concat(parts, ignore_index=True) if parts else _below_known_hull(pd.DataFrame())
        in_hull = table.assign(energy=table["energy"] + CAUTION * table["std"])
        order = ["energy", columns.CANDIDATE_ID]
        chosen = [rows.sort_values(order, kind="stable").drop_duplicates("formula").index for rows in (table, in_hull)]
        table = table.loc[chosen[0].union(chosen[1])].sort_values(["system", "formula", *order], kind="stable")
        return cls(pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None).combine_chunks())

    def __len__(self) -> int:
        return self.table.num_rows

    def of(self, elements: Iterable[str]) -> list[Phase]:
        """The candidates that contain all of these elements and no others."""
        first, count = self._places.get(" ".join(sorted(elements)), (0, 0))
        return [
            Phase(row[columns.CANDIDATE_ID], _counts(row["formula"]), row["energy"], row["std"], PREDICTED)
            for row in (self.table.slice(first, count).to_pylist() if count else ())
        ]

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """First row and number of rows of each system."""
        systems = self.table.column("system").to_pylist()
        names, first, counts = np.unique(np.array(systems, dtype=np.str_), return_index=True, return_counts=True)
        return dict(zip(names.tolist(), zip(first.tolist(), counts.tolist(), strict=True), strict=True))


def _below_known_hull(candidates: pd.DataFrame) -> pd.DataFrame:
    names = (columns.CANDIDATE_ID, "system", "formula", "energy", "std")
    if not len(candidates):
        return pd.DataFrame({name: pd.Series(dtype=float if name in names[3:] else str) for name in names})
    found = candidates.loc[candidates[columns.ENERGY_ABOVE_KNOWN_HULL].to_numpy() < 0]
    species = [list(symbols) for symbols in found[columns.SPECIES]]
    values = (
        found[columns.CANDIDATE_ID].to_numpy(),
        [" ".join(sorted(set(symbols))) for symbols in species],
        [formula_key(symbols) for symbols in species],
        found[columns.FORMATION_ENERGY].to_numpy(dtype=np.float64),
        found[columns.FORMATION_ENERGY + columns.STD].to_numpy(dtype=np.float64),
    )
    return pd.DataFrame(dict(zip(names, values, strict=True)))


def _counts(key: str) -> dict[str, int]:
    """Atoms by element of a `formula_key`."""
    parts = [(part.rstrip("0123456789"), part) for part in key.split()]
    return {symbol: int(part[len(symbol) :]) for symbol, part in parts}


@lru_cache(maxsize=FORMULAS_KEPT)
def _reduced_formula(counts: tuple[tuple[str, int], ...]) -> str:
    return Composition.from_dict(dict(counts)).reduced_formula
