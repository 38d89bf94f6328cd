"""Elastic moduli as targets, on rows of ../shared/data that are in no release of matscout.

    python -m benchmarks.accuracy.elastic

Trains members on the bulk and shear moduli alone, by the recipe of params.yaml, once on AFLOW's AEL rows with their own
folds, once on the Materials Project's (folds by SHA-256 of the formula, 80/10/10), calibrates them and tests them on
rows that none has seen. Rows without two positive moduli below 1,000 GPa are left out. Writes
benchmarks/results/elastic.json. `baseline` predicts the training median.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.accuracy.trainings import Training, chosen, judged, setting, train_all
from benchmarks.shared_rows import ROOT, SHARED, crystal_of, order, read_file
from benchmarks.uncertainty.members_and_rows import Inputs
from matscout import columns
from matscout.curated_table import CuratedTable
from matscout.engine import n_workers
from matscout.files import write_json, write_parquet
from matscout.graphs.graph_store import build_store
from matscout.params import Params, Target, load_params

FILES = {
    "aflow": SHARED / "aflow_elastic_4905" / "aflow_ael_agl.jsonl.gz",
    "materials_project": SHARED / "mp_elasticity_3191" / "mp_elasticity.jsonl.gz",
}
KEYS = {columns.BULK_MODULUS: ("bulk_modulus", "k_vrh_GPa"), columns.SHEAR_MODULUS: ("shear_modulus", "g_vrh_GPa")}
FOLDS = {"train": columns.TRAIN, "val": columns.VALIDATION, "validation": columns.VALIDATION, "test": columns.TEST}
LARGEST = 1000.0  # GPa
MEMBERS = ("composition",)  # the quickest


def rows_of(source: str) -> pd.DataFrame:
    """The rows of a file as a curated table, and their fold."""
    rows = []
    for row in read_file(FILES[source]):
        moduli = {name: next((row[key] for key in keys if row.get(key)), 0.0) for name, keys in KEYS.items()}
        if not all(0 < value < LARGEST for value in moduli.values()):
            continue
        if isinstance(row["frac"], str):
            row["frac"] = json.loads(row["frac"])
        crystal = crystal_of(row)
        formula = crystal.reduced_formula
        facts = {
            columns.MATERIAL_ID: row.get("material_id") or f"row-{row['idx']}",
            columns.SOURCE: source,
            columns.FUNCTIONAL: "PBE",
            columns.SYNTHETIC: False,
            columns.DUPLICATE_GROUP: formula,
            columns.FORMULA: formula,
        }
        fold = FOLDS[row["split"]] if "split" in row else fold_of(formula)
        rows.append({**facts, **crystal.to_row(), **moduli, columns.FOLD: fold})
    return pd.DataFrame(rows)


def fold_of(formula: str) -> str:
    """80/10/10 by the formula's hash, so that all crystals of a formula are in one fold."""
    draw = int(order(formula)[:8], 16) / 16**8
    return columns.TRAIN if draw < 0.8 else columns.VALIDATION if draw < 0.9 else columns.TEST


def inputs_of(source: str, params: Params, work: Path) -> Inputs:
    """Table, graphs and folds in `work`."""
    inputs = Inputs(work / "materials.parquet", work / "graphs", work / "split.parquet")
    if not inputs.split.exists():
        work.mkdir(parents=True, exist_ok=True)
        table = rows_of(source)
        write_parquet(inputs.materials, table.drop(columns=columns.FOLD))
        build_store(inputs.materials, inputs.graphs, params.graphs, workers=n_workers())
        write_parquet(inputs.split, table[[columns.MATERIAL_ID, columns.FOLD]])
    return inputs


def figures_of(metrics: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    """Errors on test rows, GPa, and how many of them lie in the 90 % interval."""
    table = CuratedTable(inputs.materials).with_folds(inputs.split)
    found: dict[str, Any] = {"rows": table[columns.FOLD].value_counts().sort_index().to_dict()}
    for target in KEYS:
        figures = metrics["targets"][target]
        truth = table.loc[table[columns.FOLD] == columns.TEST, target]
        median = table.loc[table[columns.FOLD] == columns.TRAIN, target].median()
        found[target] = {
            "mae": figures["ensemble"]["all"]["mae"],
            "coverage_90": figures["ensemble"]["all"].get("coverage_90"),
            "members": {name: member["mae"] for name, member in figures["members"].items()},
            "baseline": float(np.abs(truth - median).mean()),
        }
    return found


def main() -> None:
    """Train, test, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", nargs="+", default=list(MEMBERS))
    parser.add_argument("--work", type=Path, default=ROOT / ".checkpoints" / "elastic")
    arguments = parser.parse_args()
    if absent := [path for path in FILES.values() if not path.is_file()]:
        sys.exit(f"skipped: {absent[0]} is absent")
    targets = {name: Target(label=name, noise=None, head="log_laplace", weight=1.0) for name in KEYS}
    known = chosen(load_params(ROOT / "params.yaml"), arguments.members)
    params = known.model_copy(update={"targets": targets})
    figures = {}
    for source in FILES:
        work = arguments.work.resolve() / source
        inputs = inputs_of(source, params, work)
        train_all([Training(name, params, inputs, work) for name in params.members])
        figures[source] = figures_of(judged(params, inputs, work), inputs)
        print(source, json.dumps(figures[source], indent=1))
    command = "python -m benchmarks.accuracy.elastic"
    path = ROOT / "benchmarks" / "results" / "elastic.json"
    write_json(path, {"command": command, "setting": setting(), "figures": figures})
    print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
