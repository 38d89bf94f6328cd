"""Genuine rows of hypothetical compounds in ../shared/data: cells to look at once, and their DFT labels.

None of them trains a member, and none may be copied into the repository.
"""

import gzip
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.shared_rows import LARGEST_ENERGY, SHARED, crystal_of, order, read_file
from matscout.crystal import Crystal

Array = NDArray[np.float64]

WBM = "wbm"
CASTELLI = "castelli"
TITLES = {
    WBM: "WBM, unrelaxed cells",
    "oqmd_perovskites": "OQMD, perovskites",
    "oqmd_heuslers": "OQMD, Heuslers",
    "oqmd_diverse": "OQMD, diverse",
    CASTELLI: "CMR, perovskites (GLLB-SC)",
}
DEFAULT_ROWS = {"oqmd_perovskites": 400, "oqmd_heuslers": 400, CASTELLI: 2000}  # of the larger sets
PUBLISHED = "wbm_pairs_dev/published_predictions.csv.gz"

# energies above the hull come in three qualities, see ../shared/data/README.md
EXACT = ("published", "same_composition")
GRADES: dict[str, tuple[str, ...]] = {
    "exact": EXACT,
    "published": ("published",),
    "same composition": ("same_composition",),
    "reconstructed": ("reconstructed",),
    "all rows": (*EXACT, "reconstructed"),
}


@dataclass(frozen=True)
class LabelledSet:
    """Crystals with labels; energies in eV/atom, gaps in eV, NaN where unknown.

    Attributes:
        name: key of `TITLES`.
        available: rows of the file before a subset was drawn.
        ids: unique over all sets.
        crystals: in their order.
        formation_energy: (n,).
        band_gap: (n,).
        above_hull: (n,) of the true energy.
        hull_grade: (n,) how `above_hull` is known; empty where it is not.
    """

    name: str
    available: int
    ids: list[str]
    crystals: list[Crystal]
    formation_energy: Array
    band_gap: Array
    above_hull: Array
    hull_grade: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.ids)

    def of_grade(self, grade: str) -> NDArray[np.bool_]:
        """(n,) rows whose energy above the hull is of a grade in `GRADES`."""
        return np.isin(self.hull_grade, GRADES[grade])

    @classmethod
    def from_rows(
        cls, name: str, available: int, rows: list[dict[str, Any]], crystals: list[Crystal], keys: Mapping[str, str]
    ) -> Self:
        """From JSON rows; `keys` says where formation_energy, band_gap, above_hull and hull_grade stand."""

        def numbers(label: str) -> Array:
            found = [row.get(keys.get(label, "")) for row in rows]
            return np.array([np.nan if value is None else value for value in found], dtype=np.float64)

        return cls(
            name,
            available,
            [f"{name}:{row['material_id']}" for row in rows],
            crystals,
            numbers("formation_energy"),
            numbers("band_gap"),
            numbers("above_hull"),
            np.array([row.get(keys.get("hull_grade", ""), "") for row in rows], dtype=np.str_),
        )


def load_sets(limits: Mapping[str, int | None]) -> dict[str, LabelledSet]:
    """All sets, each cut to its limit of rows: those whose ids have the smallest SHA-256.

    Leaves with a message where the files are absent.
    """
    return {name: load(limits.get(name)) for name, load in _LOADERS.items()}


def load_set(name: str, limit: int | None) -> LabelledSet:
    """One set; see `load_sets`."""
    return _LOADERS[name](limit)


def published_predictions(wbm: LabelledSet) -> dict[str, Array]:
    """By model, the (n,) formation energies that were published for the same rows; NaN where a model gives none."""
    with gzip.open(_existing(PUBLISHED), "rt") as stream:
        table = pd.read_csv(stream, index_col="material_id")
    table = table.reindex([name.removeprefix(f"{WBM}:") for name in wbm.ids])
    return {str(model): table[model].to_numpy(dtype=np.float64) for model in table.columns}


def _wbm(limit: int | None) -> LabelledSet:
    rows = list(_read("wbm_pairs_dev/wbm_pairs_dev.jsonl.gz"))
    chosen = _subset(rows, limit)
    initial = [{key: row[f"initial_{key}"] for key in ("matrix", "species", "frac")} for row in chosen]
    keys = {
        "formation_energy": "e_form_per_atom_mp2020_corrected",
        "band_gap": "bandgap_pbe",
        "above_hull": "e_above_hull_mp2020_corrected_ppd_mp",
        "hull_grade": "e_above_hull_source",
    }
    return LabelledSet.from_rows(WBM, len(rows), chosen, [crystal_of(row) for row in initial], keys)


def _oqmd(name: str, file: str) -> Callable[[int | None], LabelledSet]:
    def load(limit: int | None) -> LabelledSet:
        rows = [row for row in _read(file) if abs(row["formation_energy_per_atom"]) <= LARGEST_ENERGY]
        chosen = _subset(rows, limit)
        keys = {"formation_energy": "formation_energy_per_atom", "band_gap": "band_gap"}
        return LabelledSet.from_rows(name, len(rows), chosen, [crystal_of(row) for row in chosen], keys)

    return load


def _castelli(limit: int | None) -> LabelledSet:
    rows = list(_read("castelli_perovskites/cmr_castelli_18928.jsonl.gz"))
    chosen = _subset(rows, limit)
    # the gaps are of GLLB-SC, which adds the derivative discontinuity: no label for a PBE gap
    keys = {"formation_energy": "e_form_eV_per_atom_castelli"}
    return LabelledSet.from_rows(CASTELLI, len(rows), chosen, [crystal_of(row) for row in chosen], keys)


_LOADERS: dict[str, Callable[[int | None], LabelledSet]] = {
    WBM: _wbm,
    "oqmd_perovskites": _oqmd("oqmd_perovskites", "oqmd_perovskites/oqmd_perovskites_11265.jsonl.gz"),
    "oqmd_heuslers": _oqmd("oqmd_heuslers", "oqmd_heuslers/oqmd_full_heuslers.jsonl.gz"),
    "oqmd_diverse": _oqmd("oqmd_diverse", "oqmd_sample_200/oqmd_matsciml_200.jsonl.gz"),
    CASTELLI: _castelli,
}


def _subset(rows: list[dict[str, Any]], limit: int | None) -> list[dict[str, Any]]:
    if limit is None or limit >= len(rows):
        return rows
    ranked = sorted(range(len(rows)), key=lambda row: order(rows[row]["material_id"]))
    return [rows[row] for row in sorted(ranked[:limit])]


def _read(file: str) -> Iterator[dict[str, Any]]:
    return read_file(_existing(file))


def _existing(file: str) -> Path:
    path = SHARED / file
    if not path.is_file():
        sys.exit(f"skipped: {path} is absent")
    return path
