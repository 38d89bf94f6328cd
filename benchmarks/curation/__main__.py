"""How well and how fast curation works on genuine rows: four measurements, one JSON file.

    python -m benchmarks.curation [--only duplicates symmetry offsets scale] [--sizes 10000 230000] [--workers 2]

Needs ../shared/data (see `shared_rows.SHARED`); says so and stops where it is absent. Measurements
that are not asked for keep the figures of the last run.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.curation.duplicates import measure_duplicates
from benchmarks.curation.offsets import measure_offsets
from benchmarks.curation.symmetry import measure_symmetry
from benchmarks.shared_rows import SHARED
from matscout.files import write_json
from matscout.params import load_params

RESULTS = Path(__file__).parents[1] / "results" / "curation.json"
SIZES = (10_000, 30_000, 100_000, 230_000)
MEASUREMENTS = ("duplicates", "symmetry", "offsets", "scale")


def measure_scale(sizes: list[int], workers: int) -> list[dict[str, Any]]:
    """One process per size, so that each has its own peak of memory."""
    figures: list[dict[str, Any]] = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "figures.json"
            scale = [sys.executable, "-m", "benchmarks.curation.scale", str(size)]
            command = [*scale, "--workers", str(workers), "--out", str(out)]
            subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
            figures.append(json.loads(out.read_text()))
    return figures


def main() -> None:
    """Run what is asked for and write it beside what is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS)
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if not SHARED.is_dir():
        sys.stdout.write(f"skipped: {SHARED} is absent\n")
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    params = load_params().curation
    measure = {
        "duplicates": lambda: measure_duplicates(params, workers=arguments.workers),
        "symmetry": lambda: measure_symmetry(params, workers=arguments.workers),
        "offsets": lambda: measure_offsets(params, workers=arguments.workers),
        "scale": lambda: measure_scale(arguments.sizes, arguments.workers),
    }
    for name in arguments.only:
        results[name] = measure[name]()
        write_json(RESULTS, results)
    sys.stdout.write(f"{json.dumps(results, indent=2)}\nwritten to {RESULTS}\n")


if __name__ == "__main__":
    main()
