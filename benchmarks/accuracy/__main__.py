"""Errors of members and ensemble on the benchmark rows, learning curves, and what each default is worth.

    python -m benchmarks.accuracy bench6k                  # all members on 5,000 training rows
    python -m benchmarks.accuracy curves                   # 500, 1,000 and 2,000 of them beside all
    python -m benchmarks.accuracy ablations                # one thing changed at a time, three seeds
    python -m benchmarks.accuracy search                   # learning rate and batch size on bench6k, by `matscout tune`
    python -m benchmarks.accuracy mp_36k                   # 29,386 training rows, twelve members

Needs ../shared/data/mp_36k; says so and stops where it is absent. recipes.yaml says what changes in
params.yaml. Trainings go to `--work` (default .checkpoints/accuracy), which a second run goes on from. Writes
benchmarks/results/accuracy_<part>.json.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.accuracy.errors_by_group import errors_by_group
from benchmarks.accuracy.trainings import Training, changed, chosen, judged, recipe, rows_of, setting, times, train_all
from benchmarks.uncertainty.members_and_rows import BENCH6K_FOLDS, ROOT
from matscout.commands.tune import tune
from matscout.curated_table import CuratedTable
from matscout.files import write_json
from matscout.params import check_params, load_params
from matscout.training.train_member import METRICS_FILE, UNTRACKED
from matscout.training.training import TrainingInputs

VARIANTS = ROOT / "benchmarks" / "accuracy" / "ablations.yaml"
CURVE_ROWS = (500, 1000, 2000)
ABLATION_ROWS, ABLATION_SEEDS = 1000, (1, 2, 3)
SEARCHED, SEARCH_TRIALS, SEARCH_KNOBS, SEARCH_SEED = "cgcnn", 12, ("lr", "batch_size"), 17
KEPT = ("unit", "n_test", "n_validation", "best_member", "mae_minus_best_member")


def ensemble_part(name: str, work: Path, members: list[str] | None, n_train: int | None = None) -> dict[str, Any]:
    """Members on one set of rows, and their ensemble."""
    params = chosen(recipe(name), members)
    inputs = rows_of(params, work / name, name, n_train)
    here = work / name / (f"rows_{n_train}" if n_train else "all_rows")
    train_all([Training(member, params, inputs, here) for member in params.members])
    metrics = judged(params, inputs, here)
    predictions = pd.read_parquet(here / "ensemble" / "predictions.parquet").query("fold == 'test'")
    return {
        "members": {member: params.members[member].model_dump(mode="json") for member in params.members},
        "model": params.model.model_dump(mode="json"),
        "times": times(here, list(params.members)),
        "targets": {target: kept_of(figures) for target, figures in metrics["targets"].items()},
        "groups": errors_by_group(predictions, CuratedTable(inputs.materials).rows(), list(params.targets)),
    }


def kept_of(figures: dict[str, Any]) -> dict[str, Any]:
    """The part of metrics.json that the tables show."""
    return {
        **{key: figures[key] for key in KEPT if key in figures},
        "mae_minus_mean": figures["combinations"]["mean"]["ensemble_mae_minus_this"],
        "method": figures["combination"]["method"],
        "ensemble": figures["ensemble"]["all"]["mae"],
        "members": {name: member["mae"] for name, member in figures["members"].items()},
        "combinations": {name: made["mae"] for name, made in figures["combinations"].items()},
        "baselines": {name: made["mae"] for name, made in figures["baselines"].items()},
        "coverage_90": figures["ensemble"]["all"].get("coverage_90"),
    }


def ablations(work: Path) -> dict[str, Any]:
    """Validation errors of one member with one thing changed, by variant and seed."""
    tree = recipe("ablations").model_dump(mode="json")
    variants: dict[str, Any] = yaml.safe_load(VARIANTS.read_text())
    inputs = rows_of(check_params(tree), work / "bench6k", "bench6k", ABLATION_ROWS)
    trainings = {}
    for variant, change in variants.items():
        for seed in ABLATION_SEEDS:
            member = change["member"]
            mine = changed(tree, change.get("params", {}))
            mine = changed(mine, {"members": {member: {"training": {"seed": seed}}}})
            here = work / "ablations" / variant.replace(" ", "_") / str(seed)
            params = chosen(check_params(mine), [member])
            trainings[variant, seed] = Training(member, params, inputs, here, change.get("patch"))
    train_all(list(trainings.values()), Training.attempt)
    results: dict[str, Any] = {}
    for (variant, _), training in trainings.items():
        found = results.setdefault(variant, {"member": training.member, "diverged": 0, "validation_mae": {}})
        if training.diverged:
            found["diverged"] += 1
            continue
        metrics = json.loads((training.folder / METRICS_FILE).read_text())
        for target, error in metrics["validation"]["mae"].items():
            found["validation_mae"].setdefault(target, []).append(error)
    return {"rows": ABLATION_ROWS, "seeds": list(ABLATION_SEEDS), "variants": results}


def search(work: Path) -> dict[str, Any]:
    """Trials of the recipe that members share, on validation rows, best first."""
    params = recipe("search")
    inputs = rows_of(params, work / "bench6k", "bench6k")
    os.environ["DVC_ROOT"] = str(work / "search")
    trials = tune(
        SEARCHED,
        params,
        n_trials=SEARCH_TRIALS,
        over=SEARCH_KNOBS,
        seed=SEARCH_SEED,
        inputs=TrainingInputs(inputs.graphs, inputs.split, inputs.materials),
        tracker=lambda _title, _trial: UNTRACKED,
        say=print,
    )
    epochs = params.members[SEARCHED].training.epochs
    return {
        "member": SEARCHED,
        "epochs": epochs,
        "rows": BENCH6K_FOLDS[0],
        "trials": [asdict(trial) for trial in trials],
    }


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("bench6k", "curves", "ablations", "search", "mp_36k"))
    parser.add_argument("--members", nargs="+", help="some of the recipe's; all by default (not of ablations, search)")
    parser.add_argument("--rows", nargs="+", type=int, help=f"of the curves, beside all; {CURVE_ROWS} by default")
    parser.add_argument("--work", type=Path, default=ROOT / ".checkpoints" / "accuracy")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    if arguments.members and arguments.part in ("ablations", "search"):
        parser.error(f"--members: {arguments.part} has its own")
    if arguments.rows and arguments.part != "curves":
        parser.error(f"--rows: of the curves only, not of {arguments.part}")
    rows = arguments.rows or CURVE_ROWS
    if wrong := [n for n in rows if not 0 < n < BENCH6K_FOLDS[0]]:
        parser.error(f"--rows {wrong}: numbers from 1 to {BENCH6K_FOLDS[0] - 1}")
    if arguments.part == "ablations":
        figures = ablations(work)
    elif arguments.part == "search":
        figures = search(work)
    elif arguments.part == "curves":
        members = arguments.members or list(load_params(ROOT / "params.yaml").members)
        figures = {str(n): ensemble_part("bench6k", work, members, n) for n in rows}
        figures[str(BENCH6K_FOLDS[0])] = ensemble_part("bench6k", work, members)
    else:
        figures = ensemble_part(arguments.part, work, arguments.members)
    results = {"command": " ".join(["python", *sys.argv]), "setting": setting(), "figures": figures}
    path = ROOT / "benchmarks" / "results" / f"accuracy_{arguments.part}.json"
    write_json(path, results)
    print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
