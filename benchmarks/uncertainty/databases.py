"""Other databases than the one that trained: how far the error bars can be trusted there, and what mends them.

An ensemble that saw the Materials Project alone judges rows of OQMD, AFLOW and JARVIS. A row that is the same
material as one of the Materials Project's (`mp_36k` and its perovskites: reduced formula, sites, volume within
`SAME_VOLUME`) is not judged: such pairs fit the reference offsets, as `curate` does.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.shared_rows import SHARED, crystal_of, read_file
from benchmarks.uncertainty.shift import Shifted, remedies, share_flagged
from matscout import columns
from matscout.compositions import atomic_fractions
from matscout.crystal import Crystal
from matscout.curation.reference_offsets import Pairs, fit_offset
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.graphs.graph_store import GraphStore
from matscout.params import Params

DATABASES = {
    "OQMD, perovskites": "oqmd_perovskites/oqmd_perovskites_11265.jsonl.gz",
    "OQMD, Heuslers": "oqmd_heuslers/oqmd_full_heuslers.jsonl.gz",
    "OQMD, diverse": "oqmd_sample_200/oqmd_matsciml_200.jsonl.gz",
    "AFLOW, sp metals": "aflow_sp_metals_844/aflow_sp_metals.jsonl.gz",
    "JARVIS, OptB88vdW": "jarvis_1056/jarvis_supercon_1056.jsonl.gz",
}
REFERENCE = ("mp_36k/mp_36k.jsonl.gz", "oqmd_perovskites/mp_perovskites_1784.jsonl.gz")
GAP_KEYS = (columns.BAND_GAP, "band_gap_optb88vdw")
MOST_ROWS = 1000  # judged of a database, in the order of the hash of their ids
SAME_VOLUME = 0.05  # relative difference of the volume per atom
LARGEST_ENERGY = 5.0  # eV/atom: beyond it a label is broken, as in `curation.validity`


@dataclass(frozen=True)
class Row:
    """A labelled crystal of one database; energies in eV/atom, gaps in eV, NaN where unknown."""

    material_id: str
    crystal: Crystal
    formation_energy: float
    band_gap: float

    @property
    def key(self) -> tuple[str, int]:
        """What the same material in another database shares."""
        return self.crystal.reduced_formula, self.crystal.n_atoms

    @property
    def volume(self) -> float:
        """Å³ per atom."""
        return abs(float(np.linalg.det(self.crystal.lattice))) / self.crystal.n_atoms


def measure_databases(params: Params, members: Path, ensemble: Path) -> dict[str, Any]:
    """Coverage, width, error and flags on every database, before and after each remedy."""
    predictor = EnsemblePredictor.load(members, ensemble)
    predictions = pd.read_parquet(ensemble / "predictions.parquet")
    validation = predictions[predictions[columns.FOLD] == columns.VALIDATION]
    test = predictions[predictions[columns.FOLD] == columns.TEST]
    figures: dict[str, Any] = {
        "members": list(predictor.calibration.members),
        "flagged_in_distribution": share_flagged(test),
        "databases": {},
    }
    for name, file in DATABASES.items():
        rows = list(_rows(SHARED / file))
        twins = _twins(rows)
        alone = sorted(
            (row for row, twin in zip(rows, twins, strict=True) if twin is None),
            key=lambda row: hashlib.sha256(row.material_id.encode()).hexdigest(),
        )[:MOST_ROWS]
        pairs = [(row, twin) for row, twin in zip(rows, twins, strict=True) if twin is not None]
        figures["databases"][name] = _judge(predictor, params, validation, alone, pairs)
    return figures


def _judge(
    predictor: EnsemblePredictor,
    params: Params,
    validation: pd.DataFrame,
    rows: list[Row],
    pairs: list[tuple[Row, Row]],
) -> dict[str, Any]:
    ids = [row.material_id for row in rows]
    store = GraphStore.from_crystals(ids, [row.crystal for row in rows], predictor.graphs)
    table, mixtures = predictor.predict_mixtures(store)
    by_id = {row.material_id: row for row in rows}
    rows = [by_id[name] for name in table[columns.MATERIAL_ID]]  # the others give no finite prediction
    energy, gap = (np.array([getattr(row, key) for row in rows]) for key in ("formation_energy", "band_gap"))
    judged: dict[str, Any] = {"n": len(rows), "n_pairs": len(pairs), "flagged": share_flagged(table), "targets": {}}
    truths = {columns.FORMATION_ENERGY: energy, columns.BAND_GAP: gap}
    if len(pairs) >= params.curation.offsets.min_pairs:
        truths["formation_energy_per_atom, offsets removed"] = energy - _offset(pairs, rows, params)
    for name, truth in truths.items():
        known = np.isfinite(truth)
        if known.any():
            target = name.split(",")[0]
            shown = Shifted(table[known].reset_index(drop=True), mixtures[target].take(known), truth[known])
            judged["targets"][name] = remedies(predictor, params, validation, shown, target)
    return judged


def _offset(pairs: list[tuple[Row, Row]], rows: list[Row], params: Params) -> np.ndarray:
    """(n,) what the database's formation energies lie above the Materials Project's, eV/atom."""
    found = Pairs(
        groups=np.array([row.material_id for row, _ in pairs], dtype=object),
        fractions=atomic_fractions([row.crystal.species for row, _ in pairs]),
        hubbard=np.zeros(len(pairs)),
        energies=np.array([row.formation_energy for row, _ in pairs]),
        reference=np.array([twin.formation_energy for _, twin in pairs]),
    )
    fit = fit_offset(found, params.curation.offsets)
    return fit.at(atomic_fractions([row.crystal.species for row in rows]), np.zeros(len(rows)))[0]


def _twins(rows: list[Row]) -> list[Row | None]:
    """The Materials Project's row of the same material, of the closest volume; None where there is none."""
    twins: list[Row | None] = []
    for row in rows:
        alike = [other for other in _reference().get(row.key, ()) if _is_same_volume(row, other)]
        twins.append(min(alike, key=lambda other: abs(other.volume - row.volume), default=None))
    return twins


def _is_same_volume(row: Row, other: Row) -> bool:
    return abs(row.volume / other.volume - 1) < SAME_VOLUME


@cache
def _reference() -> dict[tuple[str, int], list[Row]]:
    found: dict[tuple[str, int], list[Row]] = {}
    for file in REFERENCE:
        for row in _rows(SHARED / file):
            found.setdefault(row.key, []).append(row)
    return found


def _rows(path: Path) -> Iterator[Row]:
    """Labelled rows whose formation energy is no broken one."""
    for index, row in enumerate(read_file(path)):
        energy = row.get(columns.FORMATION_ENERGY)
        if energy is None or abs(energy) > LARGEST_ENERGY:
            continue
        gap = next((row[key] for key in GAP_KEYS if row.get(key) is not None), np.nan)
        yield Row(str(row.get("material_id", index)), crystal_of(row), float(energy), float(gap))
