"""The origin `file` at scale: rows/s and peak memory for a record JSONL of many rows.

    python -m benchmarks.speed.import_file [--rows 1000000]

The rows are the sample's of up to 20 atoms, repeated under new ids. Writes benchmarks/results/import_file.json.
"""

import argparse
import json
import resource
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from matscout.params import load_params
from matscout.sources.acquire import acquire
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot

ROOT = Path(__file__).parents[2]
MAX_ATOMS = 20


def write_rows(path: Path, n_rows: int) -> None:
    records = (item for item in read_snapshot(ROOT / "data/sample/materials_project") if isinstance(item, Record))
    lines = [json.dumps(record.to_row()) for record in records if record.crystal.n_atoms <= MAX_ATOMS]
    with path.open("w") as stream:
        for number, line in enumerate(islice(cycle(lines), n_rows)):
            stream.write(line.replace('"material_id": "', f'"material_id": "{number}-', 1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    n_rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_rows(path, n_rows)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        block = load_params(ROOT / "params.yaml").databases["materials_project"]
        start = time.perf_counter()
        acquire(
            "materials_project", block.model_copy(update={"origin": "file", "path": str(path)}), Path(folder) / "raw"
        )
        seconds = time.perf_counter() - start
        result = {
            "rows": n_rows,
            "file_mb": round(path.stat().st_size / 1e6),
            "seconds": round(seconds, 1),
            "rows_per_second": round(n_rows / seconds),
            "mib_before": round(before / 1024),
            "mib_peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
    (ROOT / "benchmarks/results/import_file.json").write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
