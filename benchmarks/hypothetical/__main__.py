"""How well trained ensembles judge crystals that nobody has made, beside published models on the same rows.

    python -m benchmarks.hypothetical [--ensemble NAME=MEMBERS:ENSEMBLE ...] [--rows N|all] [--wbm-rows N]

Without `--ensemble` it judges what `make repro` left in data/. Several are put beside each other, such as
`--ensemble sample=data/members:data/ensemble --ensemble "without labels"=W/members:W/ensemble`. It sees the unrelaxed
cells of WBM and the cells of OQMD and CMR as they were published; no label of theirs trains anything. `--rows` is how
many of each larger set are judged, drawn by the hash of the id.

Prints the tables and writes benchmarks/results/hypothetical.json and docs/hypothetical.md; ensembles that are in the
file already and were judged on the same rows are kept. With `--wbm-rows`, for a quick look, it only prints.
Needs ../shared/data.
"""

import argparse
import json
import math
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.hypothetical.rows import (
    DEFAULT_ROWS,
    WBM,
    LabelledSet,
    load_sets,
    published_predictions,
)
from benchmarks.hypothetical.scores import score_known, score_set, stability_by_grade
from benchmarks.hypothetical.tables import KNOWN, PAGE, text_of, write_page
from benchmarks.shared_rows import ROOT
from matscout import columns
from matscout.discovery.screen.candidate_scores import as_relaxed
from matscout.discovery.screen.predict_usable import predict_usable
from matscout.discovery.stability.energy_above_hull import References
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.files import write_json
from matscout.models.inference import plan_inference

RESULTS = ROOT / "benchmarks" / "results" / "hypothetical.json"
SAMPLE = "sample"  # what `make repro` trains


def folders(text: str) -> tuple[str, Path, Path]:
    """NAME=MEMBERS:ENSEMBLE taken apart."""
    name, equals, paths = text.partition("=")
    members, colon, ensemble = paths.partition(":")
    if not (name and equals and members and colon and ensemble):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=MEMBERS:ENSEMBLE, such as new=W/members:W/ensemble")
    return name, Path(members), Path(ensemble)


def n_rows(text: str) -> int | None:
    """A number of rows, or None for `all`."""
    if text == "all":
        return None
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is neither `all` nor a number of rows above 0")
    return int(text)


def predicted(predictor: EnsemblePredictor, references: References, sets: dict[str, LabelledSet]) -> pd.DataFrame:
    """Predictions of all sets as `screen` gives them, by id; crystals without a graph or prediction have no row."""
    ids = [name for each in sets.values() for name in each.ids]
    crystals = [crystal for each in sets.values() for crystal in each.crystals]
    found = as_relaxed(predict_usable(predictor.for_hypothetical(), ids, crystals), crystals, references)
    return found.table.set_index(columns.MATERIAL_ID)


def judged(
    members: Path, ensemble: Path, references: References, sets: dict[str, LabelledSet], device: str
) -> dict[str, Any]:
    """All figures of one ensemble."""
    began, used = time.perf_counter(), time.process_time()
    predictor = EnsemblePredictor.load(members, ensemble, plan_inference(device))
    table = predicted(predictor, references, sets)
    figures = {name: score_set(rows, table) for name, rows in sets.items()}
    figures[KNOWN] = score_known(pd.read_parquet(ensemble / "predictions.parquet"))
    return {
        "members": list(predictor.calibration.members),
        "sets": figures,
        "seconds": {
            "wall": round(time.perf_counter() - began, 1),
            "processor": round(time.process_time() - used, 1),
        },
    }


def rows_of(sets: dict[str, LabelledSet]) -> dict[str, Any]:
    """How many rows of each set are judged, and of how many."""
    return {name: {"judged": len(rows), "available": rows.available} for name, rows in sets.items()}


def as_json(value: Any) -> Any:
    """The same figures with null for what is undefined, six digits after the point."""
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, (float, np.floating)):
        return round(float(value), 6) if math.isfinite(value) else None
    return value


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hypothetical",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = (SAMPLE, ROOT / "data" / "members", ROOT / "data" / "ensemble")
    parser.add_argument("--ensemble", action="append", type=folders, metavar="NAME=MEMBERS:ENSEMBLE")
    parser.add_argument(
        "--materials", type=Path, default=ROOT / "data" / "curated" / "materials.parquet", help="the known phases"
    )
    parser.add_argument("--rows", type=n_rows, default=0, metavar="N|all", help=f"default: {DEFAULT_ROWS}")
    parser.add_argument(
        "--wbm-rows", type=n_rows, metavar="N", help="so many of WBM: a quick look, which writes nothing"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="write the JSON there, and no page")
    arguments = parser.parse_args()
    limits = DEFAULT_ROWS if arguments.rows == 0 else dict.fromkeys(DEFAULT_ROWS, arguments.rows)
    sets = load_sets({**limits, WBM: arguments.wbm_rows})
    wbm = sets[WBM]
    references = References.read(arguments.materials)
    results: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks.hypothetical", *sys.argv[1:]]),
        "device": arguments.device if arguments.device != "cpu" else f"cpu, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "rows": rows_of(sets),
        "published": {name: stability_by_grade(wbm, each) for name, each in published_predictions(wbm).items()},
        "ensembles": {},
    }
    for name, members, ensemble in arguments.ensemble or [default]:
        results["ensembles"][name] = judged(members, ensemble, references, sets, arguments.device)
    results = as_json(results)
    destination = arguments.output or RESULTS
    is_quick = arguments.wbm_rows is not None
    if not is_quick and destination.is_file():
        earlier = json.loads(destination.read_text(encoding="utf-8"))
        if earlier["rows"] == results["rows"]:
            results["ensembles"] = earlier["ensembles"] | results["ensembles"]
        elif left_out := sorted(earlier["ensembles"].keys() - results["ensembles"].keys()):
            print(f"not kept, since other rows judged them: {', '.join(left_out)}")
    if arguments.output or not is_quick:
        write_json(destination, results)
        results = json.loads(destination.read_text(encoding="utf-8"))  # in the order that the file has
    print(text_of(results))
    if arguments.output is None and not is_quick:
        write_page(results)
        print(f"written: {destination.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
