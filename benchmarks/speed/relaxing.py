"""What relaxing candidates costs, by number of atoms: candidates per hour, and growth with the cell.

    python -m benchmarks.speed.relaxing [--each 6]

Needs `make repro`. Takes the first candidates of each size from data/screening, relaxes each as the stage `relax` does
(potential and limits of params.yaml), in one process with one thread, and writes benchmarks/results/relaxing.json.
"""

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.shared_rows import ROOT
from benchmarks.speed.graphs import machine
from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.relax.descent import descend, loaded
from matscout.engine.process_setup import use_one_thread
from matscout.files import write_json
from matscout.params import load_params

RESULTS = ROOT / "benchmarks" / "results" / "relaxing.json"
SIZES = {"2 to 5": (2, 5), "6 to 10": (6, 10), "11 to 16": (11, 16), "17 to 30": (17, 30)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=6, help="candidates of each size")
    arguments = parser.parse_args()
    use_one_thread()
    settings = load_params(ROOT / "params.yaml").relaxation
    potential = loaded(settings)
    ranked = pd.read_parquet(ROOT / "data" / "screening" / "ranked.parquet")
    n_atoms = ranked[columns.SPECIES].map(len)
    crystals = {
        name: [
            Crystal.from_row(row)
            for row in ranked.loc[n_atoms.between(low, high)].head(arguments.each).to_dict("records")
        ]
        for name, (low, high) in SIZES.items()
    }
    descend("first", crystals["2 to 5"][0], potential, settings)  # compiles and loads what the others then find
    rows: list[dict[str, Any]] = []
    for name, some in crystals.items():
        for crystal in some:
            start = time.process_time()
            found = descend(name, crystal, potential, settings)
            seconds = time.process_time() - start
            rows.append(
                {"size": name, "atoms": crystal.n_atoms, "steps": found.steps, "s": seconds, "reason": found.reason}
            )
    table = pd.DataFrame(rows)
    by_size = table.groupby("size", sort=False).agg(
        candidates=("s", "size"), atoms=("atoms", "mean"), steps=("steps", "mean"), seconds=("s", "mean")
    )
    step = table["s"] / (table["steps"] + 1)
    growth = np.polyfit(np.log(table["atoms"]), np.log(step), 1)[0]
    results = {
        **machine(),
        "potential": potential.facts.name,
        "not_converged": int((table["reason"] != "").sum()),
        "per_hour_and_core": round(3600 / table["s"].mean()),
        "growth_of_a_step_with_atoms": round(float(growth), 2),
        "by_size": {name: row.round(2).to_dict() for name, row in by_size.iterrows()},
    }
    write_json(RESULTS, results)
    print(by_size.round(2).to_string())
    print({key: value for key, value in results.items() if key != "by_size"})


if __name__ == "__main__":
    main()
