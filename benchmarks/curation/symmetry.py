"""Measurement 2: why a difference of space groups is forgiven, and how far: twins, and genuine pairs."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.curation.disguised_rows import disguise, record_of
from benchmarks.shared_rows import SHARED, crystal_of, file_of, read_file
from matscout.curated_table import load_materials_database
from matscout.curation.curate import curate_records
from matscout.params import Curation
from matscout.sources.record import Record

POOL = SHARED / "perovskite_pool_mp_oqmd_aflow_12907" / "perovskite_pool.jsonl.gz"
GENUINE = file_of("mp_36k")
EVERY = 20
N_EXAMPLES = 8


def measure_symmetry(params: Curation, *, workers: int, seed: int = 17) -> dict[str, Any]:
    """What two disguises do to the space group, and which genuine matches of `mp_36k` differ in it."""
    return {
        "twins": _twins(params, workers, seed, by_component=False),
        "twins_strained_by_component": _twins(params, workers, seed, by_component=True),
        **_genuine(params, workers),
    }


def _twins(params: Curation, workers: int, seed: int, *, by_component: bool) -> dict[str, Any]:
    """Every 20th row of the pool beside one disguised copy: a row and its copy are one material."""
    rng = np.random.default_rng(seed)
    records: list[Record] = []
    for row in list(read_file(POOL))[::EVERY]:
        crystal = crystal_of(row)
        twin = disguise(crystal, rng, by_component=by_component)
        records += [record_of(f"{row['idx']}-a", "row", crystal), record_of(f"{row['idx']}-b", "twin", twin)]
    table, edges, _ = _curate(records, params, workers)
    own = edges[edges["material_id_a"].str[:-2] == edges["material_id_b"].str[:-2]]
    first, second = (table[table.index.str.endswith(end)].sort_index() for end in ("-a", "-b"))
    bare = first["space_group"].to_numpy() == second["space_group"].to_numpy()
    groups = first["duplicate_group"].to_numpy() == second["duplicate_group"].to_numpy()
    return {
        "pairs": len(bare),
        "matched": len(own),
        "same_space_group_number": round(float(bare.mean()), 4),
        "merged": round(float(groups.mean()), 4),
        "largest_displacement": round(float(_displacement(own, table).max()), 4),  # Å
        "largest_strain": round(float(own["strain"].max()), 4),  # of the pairs whose space groups differ
    }


def _genuine(params: Curation, workers: int) -> dict[str, Any]:
    """Pairs of genuine rows that match and whose space groups differ, nearest first; energies refused as outliers."""
    rows = {row["material_id"]: row for row in read_file(GENUINE)}
    labels = ("band_gap", "formation_energy_per_atom")
    records = [
        record_of(name, "materials_project", crystal_of(row), **{label: row[label] for label in labels})
        for name, row in rows.items()
    ]
    table, edges, quarantine = _curate(records, params, workers)
    other = edges[~edges["same_space_group"]].assign(displacement=lambda frame: _displacement(frame, table))
    outliers = quarantine[quarantine["reason"] == "formation_energy_per_atom_outlier"]
    return {
        "genuine_rows": len(table),
        "genuine_matches": len(edges),
        "genuine_matches_of_other_space_groups": len(other),
        "of_these_forgiven": int(other["same_material"].sum()),
        "energy_differences_of_the_forgiven": _quantiles(other[other["same_material"]], table),
        "energy_differences_of_same_space_group": _quantiles(edges[edges["same_space_group"]], table),
        "nearest_forgiven": [_example(row, table) for row in _nearest(other[other["same_material"]])],
        "nearest_not_forgiven": [_example(row, table) for row in _nearest(other[~other["same_material"]])],
        "outliers": [
            f"{rows[name]['material_id']}: {detail.split(':')[0]}"
            for name, detail in zip(outliers["material_id"], outliers["detail"], strict=True)
        ],
    }


def _quantiles(edges: pd.DataFrame, table: pd.DataFrame) -> dict[str, float]:
    """Differences of formation energy within pairs, eV/atom."""
    energy = table["formation_energy_per_atom"]
    pairs = [energy.loc[edges[column]].to_numpy() for column in ("material_id_a", "material_id_b")]
    difference = np.abs(pairs[0] - pairs[1])
    return {name: round(float(np.nanquantile(difference, q)), 4) for name, q in (("median", 0.5), ("p90", 0.9))}


def _displacement(edges: pd.DataFrame, table: pd.DataFrame) -> pd.Series:
    """Largest displacement of a site, Å, from the edge's unit (volume per atom)^(1/3)."""
    volumes = table["volume_per_atom"]
    mean = (volumes.loc[edges["material_id_a"]].to_numpy() + volumes.loc[edges["material_id_b"]].to_numpy()) / 2
    return edges["max_distance"] * mean ** (1 / 3)


def _nearest(edges: pd.DataFrame) -> list[Any]:
    """Edges in the order of how near their cells are, each distance in units of its limit."""
    order = np.maximum(edges["displacement"] / 0.05, edges["strain"] / 0.025).sort_values(kind="stable").index
    return list(edges.loc[order].itertuples())[:N_EXAMPLES]


def _example(edge: Any, table: pd.DataFrame) -> dict[str, Any]:
    ids = [edge.material_id_a, edge.material_id_b]
    energies = table.loc[ids, "formation_energy_per_atom"].to_numpy()
    return {
        "ids": ids,
        "formula": edge.formula,
        "space_groups": [edge.space_group_a, edge.space_group_b],
        "displacement": round(edge.displacement, 3),
        "strain": round(edge.strain, 4),
        "energy_difference": round(float(abs(energies[0] - energies[1])), 4),
    }


def _curate(records: list[Record], params: Curation, workers: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Kept rows by id with their volume per atom (Å³), edges, refused rows."""
    with tempfile.TemporaryDirectory() as folder:
        curate_records(records, [], {}, params, Path(folder), workers=workers)
        table = load_materials_database(Path(folder)).set_index("material_id")
        volumes = [abs(np.linalg.det(np.reshape(lattice, (3, 3)))) for lattice in table["lattice"]]
        table["volume_per_atom"] = np.array(volumes) / table["n_atoms"]
        edges = pd.read_parquet(Path(folder) / "duplicates.parquet")
        return table, edges, pd.read_parquet(Path(folder) / "quarantine.parquet")
