"""Measurement 1: recover the groups of a pool of perovskites whose rows list the ids that are one material."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.curation.disguised_rows import disguise, record_of
from benchmarks.shared_rows import SHARED, crystal_of, read_file
from matscout.curated_table import load_materials_database
from matscout.curation.curate import curate_records
from matscout.params import Curation
from matscout.sources.record import Record

POOL = SHARED / "perovskite_pool_mp_oqmd_aflow_12907" / "perovskite_pool.jsonl.gz"
SOURCES = {"mp": "materials_project", "oqmd": "oqmd", "aflow": "aflow"}
N_EXAMPLES = 12


def measure_duplicates(params: Curation, *, workers: int, seed: int = 17, every: int = 1) -> dict[str, Any]:
    """Disguise one copy of a row per listed id, curate, and compare groups pair by pair.

    Precision is given twice: against the list, and after crediting pairs of listed rows that match
    undisguised (same formula, matcher both ways, same space group), where the list itself splits
    what it would call one material elsewhere.
    """
    rows = list(read_file(POOL))[::every]
    rng = np.random.default_rng(seed)
    copies: list[Record] = []
    listed: dict[str, int] = {}
    for row in rows:
        crystal = crystal_of(row)
        for key, source in SOURCES.items():
            for name in row[key]:
                material_id = f"{key}:{name}"
                copies.append(record_of(material_id, source, disguise(crystal, rng)))
                listed[material_id] = row["idx"]
    started = time.perf_counter()
    table, edges = _curate(copies, params, workers)
    wall = time.perf_counter() - started
    originals = [record_of(f"row:{row['idx']:05d}", "pool", crystal_of(row)) for row in rows]
    undisguised, _ = _curate(originals, params, workers)
    home = {int(name.removeprefix("row:")): group for name, group in undisguised["duplicate_group"].items()}
    truth = pd.Series(listed).reindex(table.index)
    found = table["duplicate_group"]
    return {
        "rows": len(rows),
        "copies": len(copies),
        "kept": len(table),
        "wall_s": round(wall, 1),
        "against_the_list": pairwise(truth, found),
        "after_crediting_undisguised_matches": pairwise(truth.map(home), found),
        "listed_groups_that_match_undisguised": int(len(rows) - undisguised["duplicate_group"].nunique()),
        "split_examples": _split_examples(truth, table, edges),
        "merged_examples": _merged_examples(truth, table, home),
    }


def pairwise(truth: pd.Series, found: pd.Series) -> dict[str, float]:
    """Precision and recall over pairs, and the share of true groups recovered exactly."""
    together = _pairs(pd.DataFrame({"truth": truth, "found": found}).value_counts())
    by_truth, by_found = _pairs(truth.value_counts()), _pairs(found.value_counts())
    pieces = found.groupby(truth).nunique()
    return {
        "pairs": int(by_truth),
        "precision": round(together / by_found, 5),
        "recall": round(together / by_truth, 5),
        "groups_in_one_piece": round(float((pieces == 1).to_numpy().mean()), 5),
    }


def _pairs(counts: pd.Series) -> float:
    return float((counts * (counts - 1) / 2).sum())


def _curate(records: list[Record], params: Curation, workers: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    with tempfile.TemporaryDirectory() as folder:
        curate_records(records, [], {}, params, Path(folder), workers=workers)
        table = load_materials_database(Path(folder)).set_index("material_id")
        return table, pd.read_parquet(Path(folder) / "duplicates.parquet")


def _split_examples(truth: pd.Series, table: pd.DataFrame, edges: pd.DataFrame) -> list[dict[str, Any]]:
    """Copies of one row that were not merged, and what their edge says."""
    groups = table["duplicate_group"]
    matched = {frozenset(pair) for pair in zip(edges["material_id_a"], edges["material_id_b"], strict=True)}
    examples = []
    for row, members in truth.groupby(truth):
        if len(set(groups[members.index])) > 1:
            first = members.index[0]
            other = next(name for name in members.index if groups[name] != groups[first])
            examples.append(
                {
                    "row": int(row),
                    "formula": table.loc[first, "formula"],
                    "ids": [first, other],
                    "matched": frozenset((first, other)) in matched,
                    "space_groups": [int(table.loc[name, "space_group"]) for name in (first, other)],
                }
            )
    return examples[:N_EXAMPLES]


def _merged_examples(truth: pd.Series, table: pd.DataFrame, home: dict[int, str]) -> list[dict[str, Any]]:
    """Rows that the list keeps apart and curation merged."""
    examples = []
    for _, members in truth.groupby(table["duplicate_group"]):
        rows = sorted(set(members))
        if len(rows) > 1:
            formula = table.loc[members.index[0], "formula"]
            agree = len({home[row] for row in rows}) == 1
            examples.append({"rows": [int(row) for row in rows], "formula": formula, "match_undisguised": agree})
    return examples[:N_EXAMPLES]
