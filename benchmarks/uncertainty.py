"""What the error bars are worth: the ensemble's figures, and a chemistry that it never saw.

    python benchmarks/uncertainty.py [--cells sample|bench6k|mp_36k] [--hold-out N]

`sample` without `--hold-out` reads what `make repro` left in data/; everything else trains members anew
(params.yaml's, `--members` of them, `--epochs` long) into `--work`, which a second run goes on from.
Writes benchmarks/results/uncertainty.json, keeping the figures of other runs, and the tables of
docs/uncertainty.md.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from uncertainty_data import ROOT, Inputs, hold_out, mp_inputs, pipeline_inputs
from uncertainty_shift import measure_shift
from uncertainty_tables import write_tables

from matscout.ensemble.evaluate import evaluate
from matscout.files import write_json
from matscout.params import Params, load_params
from matscout.training.member import train_member

RESULTS = ROOT / "benchmarks" / "results" / "uncertainty.json"
NOT_KEPT = ("curves", "members", "combination")  # long, and in metrics.json for who wants them


def chosen(params: Params, names: list[str] | None, epochs: int | None) -> Params:
    """The parameters with fewer members, or fewer epochs."""
    members = {name: params.members[name] for name in names or params.members}
    if epochs is not None:
        for name, member in members.items():
            training = member.training.model_copy(update={"epochs": epochs})
            members[name] = member.model_copy(update={"training": training})
    return params.model_copy(update={"members": members})


def trained(params: Params, inputs: Inputs, work: Path) -> tuple[Path, Path]:
    """Members and ensemble under `work`; what is there is kept."""
    os.environ["DVC_ROOT"] = str(work)  # checkpoints and the tracker's database stay there too
    paths = {"materials": inputs.materials, "graphs": inputs.graphs, "split": inputs.split}
    for name in params.members:
        if not (work / "members" / name).exists():
            train_member(name, params=params, **paths, destination=work / "members" / name)
    evaluate(work / "members", params=params, **paths, destination=work / "ensemble")
    return work / "members", work / "ensemble"


def figures_of(ensemble: Path) -> dict[str, Any]:
    """The part of metrics.json that the tables show."""
    metrics = json.loads((ensemble / "metrics.json").read_text())
    calibration = json.loads((ensemble / "calibration.json").read_text())
    targets = {}
    for target, measured in metrics["targets"].items():
        targets[target] = {key: value for key, value in measured.items() if key not in NOT_KEPT}
        targets[target]["member_mae"] = {name: member["mae"] for name, member in measured["members"].items()}
        targets[target]["dropped"] = measured["combination"]["dropped"]
        targets[target]["temperature"] = calibration["targets"][target]["temperature"]
    return {"members": metrics["members"], "flags": metrics["flags"], "targets": targets}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", choices=("sample", "bench6k", "mp_36k"), default="sample")
    parser.add_argument("--hold-out", metavar="ELEMENT", help="leave every crystal with this element out")
    parser.add_argument("--members", nargs="+")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    params = chosen(load_params(ROOT / "params.yaml"), arguments.members, arguments.epochs)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        work = (arguments.work or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        if arguments.cells == "sample":
            inputs = pipeline_inputs()
        else:
            inputs = mp_inputs(params, work, small=arguments.cells == "bench6k")
        if arguments.hold_out:
            inputs, ids = hold_out(inputs, work, arguments.hold_out)
            members, ensemble = trained(params, inputs, work)
            figures = measure_shift(params, inputs, members, ensemble, ids) | {"members": list(params.members)}
            results[f"{arguments.cells} without {arguments.hold_out}"] = figures
        elif arguments.cells == "sample":
            results["sample"] = figures_of(ROOT / "data" / "ensemble")
        else:
            results[arguments.cells] = figures_of(trained(params, inputs, work)[1])
    write_json(RESULTS, results)
    write_tables(results, ROOT / "docs" / "uncertainty.md")
    print(f"written: {RESULTS.relative_to(ROOT)}, docs/uncertainty.md")


if __name__ == "__main__":
    main()
