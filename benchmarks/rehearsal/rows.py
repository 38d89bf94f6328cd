"""Rows of three databases at full scale: genuine ones of ../shared/data, the rest made from them, labelled by a model.

The files lie in a folder of their own, in the shapes of the services; nothing of them may be copied into the
repository. WBM rows are left out, so none can be trained on.

- Materials Project: all genuine rows; beyond them, crystals with one element replaced.
- OQMD and AFLOW: up to `GENUINE` genuine rows, `TWINS` disguised copies of the Materials Project's rows (the same
  material, calculated by another database), and crystals with one element replaced.

Labels of replaced crystals are those of the ensemble that ships with the package. Distances above the hull, and whether
a crystal was ever made, are drawn by lot: no stage learns from them. The rows serve to measure time, memory and disk;
no accuracy may be quoted from them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from pymatgen.core import Lattice

from benchmarks.curation.disguised_rows import disguise, substitute
from benchmarks.shared_rows import crystal_of, order, read_rows
from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.screen.predict_usable import predict_usable
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.ensemble.release import RELEASE
from matscout.files import atomic_path, write_json
from matscout.params import load_params

SHARES: Final = {"materials_project": 50, "aflow": 100, "oqmd": 80}  # thousand rows of 230
GENUINE: Final = {"materials_project": 1.0, "aflow": 0.05, "oqmd": 0.2}  # largest share of genuine rows
TWINS: Final = 0.25  # share of OQMD's and AFLOW's rows that are materials of the Materials Project
NOISE: Final = 0.02  # eV/atom, eV: standard deviation between two databases' labels of one material
CHUNK: Final = 4000
R2SCAN_ONLY, CONTROLLED = 0.02, 0.01  # shares of the Materials Project's rows
BATCH: Final = "gnome_r2scan_statics"
DONE: Final = "rows.json"


@dataclass(frozen=True)
class LabelledCrystal:
    """A crystal with the labels that its database will state, eV/atom and eV."""

    crystal: Crystal
    formation_energy: float
    band_gap: float


def numbers_of_rows(total: int) -> dict[str, int]:
    """How many rows each database holds."""
    return {name: total * share // sum(SHARES.values()) for name, share in SHARES.items()}


def make_rows(folder: Path, total: int, seed: int) -> dict[str, int]:
    """Write the rows of the three services, unless the same ones are there.

    Args:
        folder: folder to write to.
        total: rows of the three databases together.
        seed: of everything drawn by lot.

    Returns:
        How many rows of each kind there are.
    """
    wanted = {"total": total, "seed": seed}
    if (folder / DONE).is_file():
        known = json.loads((folder / DONE).read_text())
        if all(known[key] == value for key, value in wanted.items()):
            return known["kinds"]
    folder.mkdir(parents=True, exist_ok=True)
    rng, numbers = np.random.default_rng(seed), numbers_of_rows(total)
    genuine = _genuine_rows()
    parents = [row.crystal for row in genuine["materials_project"]]
    predictor = EnsemblePredictor.load(RELEASE / "members", RELEASE)
    kinds: dict[str, int] = {}
    known = genuine["materials_project"][: numbers["materials_project"]]  # of which the others have twins
    for name, n_rows in numbers.items():
        rows = genuine[name][: int(GENUINE[name] * n_rows)]
        kinds[f"{name}, genuine"] = len(rows)
        if name != "materials_project":
            twins = list(_twins(known, int(TWINS * n_rows), rng))
            kinds[f"{name}, twins"] = len(twins)
            rows = [*rows, *twins]
        kinds[f"{name}, replaced"] = n_rows - len(rows)
        WRITERS[name](folder, _in_order(rows, _replaced(parents, n_rows - len(rows), predictor, rng), rng), rng)
    write_json(folder / DONE, {**wanted, "kinds": kinds})
    return kinds


def _genuine_rows() -> dict[str, list[LabelledCrystal]]:
    """By database, in an order that depends on nothing but the rows."""
    query = load_params().databases["materials_project"].query
    files = {
        "materials_project": ("mp_36k",),
        "oqmd": ("oqmd_perovskites", "oqmd_heuslers"),
        "aflow": ("aflow_metals",),
    }
    found = {}
    for name, sets in files.items():
        rows = sorted((row for each in sets for row in read_rows(each)), key=lambda row: order(str(row["material_id"])))
        found[name] = [
            LabelledCrystal(crystal, row[columns.FORMATION_ENERGY], row.get(columns.BAND_GAP) or 0.0)
            for row in rows
            if (crystal := crystal_of(row)).n_atoms <= query.n_atoms[1]
            and len(crystal.element_counts) <= query.n_elements[1]
        ]
    return found


def _twins(rows: list[LabelledCrystal], n: int, rng: np.random.Generator) -> Iterator[LabelledCrystal]:
    for place in range(n):
        row = rows[place % len(rows)]
        energy, gap = row.formation_energy + rng.normal(0, NOISE), row.band_gap + rng.normal(0, NOISE)
        crystal = disguise(row.crystal, rng)
        yield LabelledCrystal(crystal, energy, max(0.0, gap) if row.band_gap else 0.0)


def _replaced(
    parents: list[Crystal], n: int, predictor: EnsemblePredictor, rng: np.random.Generator
) -> Iterator[LabelledCrystal]:
    """Crystals with one element replaced; those that cannot be predicted are left out, and others made."""
    made = 0
    while made < n:
        crystals = [substitute(parents[rng.integers(len(parents))], rng) for _ in range(min(CHUNK, n - made + 100))]
        predicted = predict_usable(predictor, [f"made-{place}" for place in range(len(crystals))], crystals)
        labels = zip(
            predicted.rows, predicted.table[columns.FORMATION_ENERGY], predicted.table[columns.BAND_GAP], strict=True
        )
        for row, energy, gap in labels:
            if made < n and abs(energy) < 5:
                made += 1
                yield LabelledCrystal(crystals[int(row)], float(energy), max(0.0, float(gap)))


def _in_order(
    rows: list[LabelledCrystal], made: Iterator[LabelledCrystal], rng: np.random.Generator
) -> Iterator[LabelledCrystal]:
    """All rows; the genuine ones and the twins mixed."""
    yield from (rows[int(place)] for place in rng.permutation(len(rows)))
    yield from made


def _plain(values: Any) -> Any:
    return np.asarray(values, dtype=float).round(6).tolist()


def _write_materials_project(folder: Path, rows: Iterator[LabelledCrystal], rng: np.random.Generator) -> None:
    """Summaries, thermo documents of the GGA hull and run types; a row in the same place of all three files."""
    names = ("mp_summary.jsonl", "mp_thermo.jsonl", "mp_core.jsonl")
    with _lines(folder, names) as (summaries, thermos, cores):
        for place, row in enumerate(rows):
            key, hull = f"mp-{place + 1}", round(float(min(rng.exponential(0.06), 0.49)), 6)
            only_r2scan, controlled = rng.random() < R2SCAN_ONLY, rng.random() < CONTROLLED
            energy = round(row.formation_energy, 6)
            sites = zip(row.crystal.species, _plain(row.crystal.frac_coords), strict=True)
            structure = {
                "lattice": {"matrix": _plain(row.crystal.lattice)},
                "sites": [{"species": [{"element": symbol, "occu": 1}], "abc": abc} for symbol, abc in sites],
            }
            origins = [{"name": name, "task_id": f"{key}{place % 7}"} for name in ("structure", "band_gap")]
            summary = {
                "material_id": key,
                "structure": structure,
                "formation_energy_per_atom": energy,
                "energy_above_hull": hull,
                "band_gap": round(row.band_gap, 4),
                "theoretical": bool(rng.random() < 0.6),
                "origins": origins,
                "builder_meta": {"license": "BY-C", "batch_id": BATCH if controlled else None},
            }
            thermo = {
                "material_id": key,
                "thermo_type": "GGA_GGA+U",
                "energy_type": "GGA",
                "formation_energy_per_atom": energy,
                "energy_above_hull": hull,
            }
            run_type = "R2SCAN" if only_r2scan else "GGA"
            _write(summaries, summary)
            _write(thermos, None if only_r2scan else thermo)
            _write(cores, {"material_id": key, "run_types": {origins[0]["task_id"]: run_type}})


def _write_aflow(folder: Path, rows: Iterator[LabelledCrystal], rng: np.random.Generator) -> None:
    with _lines(folder, ("aflow.jsonl",)) as (lines,):
        for place, row in enumerate(rows):
            crystal = row.crystal
            sites = sorted(range(crystal.n_atoms), key=lambda site: crystal.species[site])
            counts = crystal.element_counts
            species = sorted(counts)
            document = {
                "auid": f"aflow:{place:08x}{rng.integers(1 << 32):08x}",
                "aurl": f"aflowlib.duke.edu:AFLOWDATA/LIB3_RAW/{place}",
                "compound": "".join(f"{symbol}{counts[symbol]}" for symbol in species),
                "geometry": _plain(Lattice(crystal.lattice).parameters),
                "species": species,
                "composition": [counts[symbol] for symbol in species],
                "positions_fractional": _plain(crystal.frac_coords[sites]),
                "enthalpy_formation_atom": round(row.formation_energy, 6),
                "Egap": round(row.band_gap, 4),
                "Egap_type": "insulator-indirect" if row.band_gap else "metal",
                "catalog": "ICSD",
                "spacegroup_relax": None,
                "dft_type": ["PAW_PBE"],
                "ldau_type": None,
                "ldau_TLUJ": None,
                "species_pp_version": None,
                "aflowlib_date": ["20190418_12:00:00_GMT-5"],
                "ael_bulk_modulus_vrh": None,
            }
            _write(lines, document)


def _write_oqmd(folder: Path, rows: Iterator[LabelledCrystal], rng: np.random.Generator) -> None:
    """Labels and cells; ids rise with gaps, as the service's do."""
    with _lines(folder, ("oqmd_labels.jsonl", "oqmd_cells.jsonl")) as (labels, cells):
        number = 17
        for row in rows:
            number += int(rng.integers(1, 20))
            crystal = row.crystal
            counts = crystal.element_counts
            label = {
                "name": "".join(f"{symbol}{counts[symbol] if counts[symbol] > 1 else ''}" for symbol in sorted(counts)),
                "entry_id": number,
                "formationenergy_id": number,
                "duplicate_entry_id": number,
                "icsd_id": None,
                "delta_e": round(row.formation_energy, 6),
                "stability": round(float(min(rng.exponential(0.06), 0.49)), 6),
                "band_gap": round(row.band_gap, 3),
                "natoms": crystal.n_atoms,
                "volume": round(crystal.volume, 4),
                "spacegroup": None,
                "calculation_label": "static",
            }
            attributes = {
                "lattice_vectors": _plain(crystal.lattice),
                "cartesian_site_positions": _plain(crystal.frac_coords @ crystal.lattice),
                "species_at_sites": list(crystal.species),
                "_oqmd_entry_id": number,
            }
            _write(labels, label)
            _write(cells, {"type": "structures", "id": str(number), "attributes": attributes})


WRITERS: Final = {"materials_project": _write_materials_project, "aflow": _write_aflow, "oqmd": _write_oqmd}


@contextmanager
def _lines(folder: Path, names: tuple[str, ...]) -> Iterator[list[TextIO]]:
    """Files of lines, which appear when they are whole."""
    with ExitStack() as stack:
        paths = [stack.enter_context(atomic_path(folder / name)) for name in names]
        yield [stack.enter_context(path.open("w")) for path in paths]


def _write(file: TextIO, row: Mapping[str, Any] | None) -> None:
    file.write(json.dumps(row, separators=(",", ":")) + "\n")
