"""What the error bars are worth: the ensemble's figures, a chemistry and databases that it never saw.

    python -m benchmarks.uncertainty [--cells sample|bench6k|mp_36k] [--work FOLDER] [--hold-out N | --databases]

`sample` reads what `make repro` left in data/; the others train the members of benchmarks/accuracy/recipes.yaml into
`--work`/members and keep what is there, so that members trained elsewhere can be put there. `--hold-out` trains members
anew into `--work`/without_ELEMENT; `--databases` judges the ensemble on OQMD, AFLOW and JARVIS as well.
Writes benchmarks/results/uncertainty.json, keeping the figures of other runs, every table to
benchmarks/results/uncertainty.md, and the summary of docs/uncertainty.md.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from benchmarks.accuracy.trainings import chosen, recipe
from benchmarks.uncertainty.databases import measure_databases
from benchmarks.uncertainty.members_and_rows import ROOT, Inputs, hold_out, mp_inputs, pipeline_inputs
from benchmarks.uncertainty.shift import measure_shift
from benchmarks.uncertainty.tables import write_tables
from benchmarks.uncertainty.widths import measure_widths
from matscout.ensemble.evaluate import evaluate
from matscout.files import write_json
from matscout.params import Params, load_params
from matscout.training.train_member import train_member

RESULTS = ROOT / "benchmarks" / "results" / "uncertainty.json"
NOT_KEPT = ("curves", "members", "combination", "best_member")  # long, and in metrics.json for who wants them


def shortened(params: Params, epochs: int) -> Params:
    """The parameters with this number of epochs for every member."""
    members = {
        name: member.model_copy(update={"training": member.training.model_copy(update={"epochs": epochs})})
        for name, member in params.members.items()
    }
    return params.model_copy(update={"members": members})


def trained(params: Params, inputs: Inputs, work: Path) -> tuple[Path, Path]:
    """Members and ensemble under `work`; members that are there are kept, the ensemble is made anew."""
    work.mkdir(parents=True, exist_ok=True)
    os.environ["DVC_ROOT"] = str(work)  # checkpoints and the tracker's database stay there too
    paths = {"materials": inputs.materials, "graphs": inputs.graphs, "split": inputs.split}
    for name in params.members:
        if not (work / "members" / name).exists():
            train_member(name, params=params, **paths, destination=work / "members" / name)
    with threadpool_limits(1, user_api="blas"):  # as in the stages: the same sums on any number of cores
        evaluate(work / "members", params=params, **paths, destination=work / "ensemble")
    return work / "members", work / "ensemble"


def figures_of(ensemble: Path, materials: Path) -> dict[str, Any]:
    """The part of metrics.json that the tables show, and every way of scaling the intervals that was tried."""
    metrics = json.loads((ensemble / "metrics.json").read_text())
    calibration = json.loads((ensemble / "calibration.json").read_text())
    tried = measure_widths(ensemble / "predictions.parquet", materials, list(metrics["targets"]))
    targets = {}
    for target, measured in metrics["targets"].items():
        targets[target] = {key: value for key, value in measured.items() if key not in NOT_KEPT}
        best = measured["best_member"]
        targets[target]["best_member"] = {"name": best["name"], "all": best["rows"]["all"]}
        targets[target]["member_mae"] = {name: member["mae"] for name, member in measured["members"].items()}
        targets[target]["dropped"] = measured["combination"]["dropped"]
        targets[target]["temperature"] = calibration["targets"][target]["temperature"]
        targets[target]["ways_tried"] = tried[target]["ways"]
        targets[target]["limits"] = tried[target]["limits"]
    return {"members": metrics["members"], "flags": metrics["flags"], "targets": targets}


def measured(arguments: argparse.Namespace, params: Params, work: Path) -> dict[str, Any]:
    """Figures by the name of the run that they belong to."""
    is_sample = arguments.cells == "sample"
    inputs = pipeline_inputs() if is_sample else mp_inputs(params, work, small=arguments.cells == "bench6k")
    if arguments.hold_out:
        inputs, ids = hold_out(inputs, work, arguments.hold_out)
        members, ensemble = trained(params, inputs, work / f"without_{arguments.hold_out}")
        epochs = {name: member.training.epochs for name, member in params.members.items()}
        shift = measure_shift(params, inputs, members, ensemble, ids)
        return {f"{arguments.cells} without {arguments.hold_out}": {"epochs": epochs, **shift}}
    data = ROOT / "data"
    members, ensemble = data / "members", data / "ensemble"
    if not is_sample:
        members, ensemble = trained(params, inputs, work)
    found = {arguments.cells: figures_of(ensemble, inputs.materials)}
    if arguments.databases:
        found[f"{arguments.cells}, other databases"] = measure_databases(params, members, ensemble)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", choices=("sample", "bench6k", "mp_36k"), default="sample")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--hold-out", metavar="ELEMENT", help="leave every crystal with this element out")
    other.add_argument("--databases", action="store_true", help="judge rows of databases that trained no member")
    parser.add_argument("--members", nargs="+")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--work", type=Path, help="data, members and ensemble; what is there is kept")
    arguments = parser.parse_args()
    all_members = load_params(ROOT / "params.yaml") if arguments.cells == "sample" else recipe(arguments.cells)
    params = chosen(all_members, arguments.members)
    if arguments.epochs is not None:
        params = shortened(params, arguments.epochs)
    with tempfile.TemporaryDirectory() as folder:
        work = (arguments.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        found = measured(arguments, params, work)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results |= found
    write_json(RESULTS, results)
    details = RESULTS.with_suffix(".md")
    write_tables(json.loads(RESULTS.read_text()), ROOT / "docs" / "uncertainty.md", details)
    print(f"written: {RESULTS.relative_to(ROOT)}, {details.relative_to(ROOT)}, docs/uncertainty.md")


if __name__ == "__main__":
    main()
