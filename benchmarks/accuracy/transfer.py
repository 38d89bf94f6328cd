"""What pretraining saves: errors on another database's crystals, from scratch and from pretrained weights.

    python -m benchmarks.accuracy.transfer [--sets oqmd_perovskites oqmd_heuslers aflow_metals] [--rows 100 1000 all]
                                  [--member cogn] [--epochs 30] [--seeds 3] [--work DIR]

The base is one member of params.yaml, trained on the 5,000 training rows of bench6k (Materials Project, formation
energy and gap) without those whose formula is in a test set. Each set's formulas are ordered by SHA-256: the first
rows test (10 %, at least 500; 100 of AFLOW's), the next validate, the others train; all rows of a formula stay
together. The learning rate is 0.002, in fine-tuning times `--lr-scale`, each scale with figures of its own; both have
at least `--steps` steps. Seeds draw other training rows and other weights; they count for the smallest number of rows.
`--work` goes on from a killed run.
Writes benchmarks/results/transfer.json, keeping the figures of other sets and scales. Needs ../shared/data.
"""

import argparse
import json
import math
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.shared_rows import ROOT, order, read_rows, table_of
from matscout import columns
from matscout.files import write_json, write_parquet
from matscout.graphs.graph_store import GraphStore, build_store
from matscout.models.inference import distributions, embed
from matscout.models.saved_member import load_member
from matscout.params import Params, load_params
from matscout.training.train_member import train_member

RESULTS = ROOT / "benchmarks" / "results" / "transfer.json"
BASE = {"sites": 50, "train": 5000, "validation": 500}  # bench6k, see ../shared/data/README.md
N_VALIDATION = 200
LR = 0.002
SETS = {  # targets beside formation energy, and rows that test
    "oqmd_perovskites": ((columns.BAND_GAP,), 500),
    "oqmd_heuslers": ((), 500),
    "aflow_metals": ((), 100),
}
UNIT = {columns.FORMATION_ENERGY: "eV/atom", columns.BAND_GAP: "eV"}


@dataclass(frozen=True)
class Inputs:
    """Paths of a table and its graphs, and which rows test and validate."""

    materials: Path
    graphs: Path
    table: pd.DataFrame
    test: list[str]
    validation: list[str]

    def split(self, rows: int | str, seed: int, path: Path) -> int:
        """Write the split with so many training rows, nested in the larger ones of the seed; return their number."""
        pool = self.table[~self.table[columns.MATERIAL_ID].isin([*self.test, *self.validation])]
        ids = sorted(pool[columns.MATERIAL_ID], key=lambda name: order(f"{seed} {name}"))
        ids = ids if rows == "all" else ids[: int(rows)]
        folds = {columns.TRAIN: ids, columns.VALIDATION: self.validation, columns.TEST: self.test}
        rows_of = [(name, fold) for fold, names in folds.items() for name in names]
        write_parquet(path, pd.DataFrame(rows_of, columns=[columns.MATERIAL_ID, columns.FOLD]))
        return len(ids)


def target_inputs(name: str, params: Params, work: Path) -> Inputs:
    """A set's table, graphs and held-out rows."""
    table = table_of(name, read_rows(name))
    table = table.iloc[np.argsort(table[columns.FORMULA].map(order), kind="stable")]
    n_test = max(SETS[name][1], len(table) // 10) if SETS[name][1] > 100 else SETS[name][1]
    n_validation = min(N_VALIDATION, n_test)
    formulas = table[columns.FORMULA].to_numpy()
    ends = [np.flatnonzero(formulas == formulas[n - 1])[-1] + 1 for n in (n_test, n_test + n_validation)]
    ids = table[columns.MATERIAL_ID].tolist()
    return stored(
        Inputs(work / "materials.parquet", work / "graphs", table, ids[: ends[0]], ids[ends[0] : ends[1]]), params
    )


def base_inputs(params: Params, work: Path, tested: set[str]) -> tuple[Inputs, int]:
    """The rows of bench6k without the formulas that are tested, and how many training rows these were."""
    rows = [row for row in read_rows("mp_36k") if len(row["species"]) <= BASE["sites"]]
    rows.sort(key=lambda row: order(row["material_id"]))
    table = table_of("mp_36k", rows[: BASE["train"] + BASE["validation"]])
    held = table[columns.FORMULA].isin(tested).to_numpy()
    validates = np.arange(len(table)) >= BASE["train"]
    validation = table.loc[validates & ~held, columns.MATERIAL_ID].tolist()
    # nothing tests the base: half of the validation rows stand in for it, since a training reports on both
    half = len(validation) // 2
    kept = table[~held]
    inputs = Inputs(work / "materials.parquet", work / "graphs", kept, validation[:half], validation[half:])
    return stored(inputs, params), int((held & ~validates).sum())


def stored(inputs: Inputs, params: Params) -> Inputs:
    if not inputs.graphs.exists():
        write_parquet(inputs.materials, inputs.table)
        build_store(inputs.materials, inputs.graphs, params.graphs, workers=1)
    return inputs


def chosen(params: Params, arguments: argparse.Namespace, name: str, **training: Any) -> Params:
    """The parameters with one member, and the targets of a set."""
    member = params.members[arguments.member]
    member = member.model_copy(update={"training": member.training.model_copy(update=training)})
    wanted = {columns.FORMATION_ENERGY, *(SETS[name][0] if name in SETS else (columns.BAND_GAP,))}
    targets = {target: settings for target, settings in params.targets.items() if target in wanted}
    compute = params.compute.model_copy(update={"threads": 1, "device": "cpu"})
    model = params.model.model_copy(update={"lr": LR})
    return params.model_copy(
        update={"members": {"base": member}, "targets": targets, "compute": compute, "model": model}
    )


def once(work: Path, key: str, run: Any) -> dict[str, Any]:
    """The figures of a run with its seconds, from the file of an earlier call if it is there."""
    path = work / f"{key}.json"
    if not path.exists():
        processor, wall = time.process_time(), time.perf_counter()
        figures = run(work / key)
        seconds = {"processor_s": time.process_time() - processor, "wall_s": time.perf_counter() - wall}
        write_json(path, figures | {name: round(value, 1) for name, value in seconds.items()})
        print(f"{work.name} {key}: {json.dumps(json.loads(path.read_text()))}", flush=True)
    return json.loads(path.read_text())


def trained(
    inputs: Inputs, params: Params, rows: int | str, seed: int, folder: Path, start: Path | None = None
) -> dict:
    """Train a member and read its errors on the test rows."""
    split = folder.parent / f"{folder.name}.split.parquet"
    n_rows = inputs.split(rows, seed, split)
    paths = {"materials": inputs.materials, "graphs": inputs.graphs, "split": split}
    if not folder.exists():
        train_member("base", params=params, **paths, destination=folder, start=start)
    metrics = json.loads((folder / "metrics.json").read_text())
    return {"rows": n_rows, "epochs": metrics["epochs"], "mae": metrics["test"]["mae"]}


def untouched(inputs: Inputs, params: Params, base: Path) -> dict[str, float]:
    """Errors of the pretrained member on the test rows, before any fine-tuning."""
    loaded, store = load_member(base), GraphStore.open(inputs.graphs)
    predicted = distributions(loaded.model, embed(loaded.model, store, store.rows_of(inputs.test), **loaded.card.graph))
    rows = inputs.table.set_index(columns.MATERIAL_ID).loc[inputs.test]
    labels = {target: rows[settings.label].to_numpy(float) for target, settings in params.targets.items()}
    return {target: float(np.nanmean(np.abs(predicted[target].median() - labels[target]))) for target in params.targets}


def rows_saved(scratch: dict[int, float], pretrained: dict[int, float]) -> dict[str, str | float]:
    """By rows, how many times as many a training from scratch needs for the same error: log-log between its points."""
    sizes = sorted(scratch)
    errors = np.minimum.accumulate([scratch[n] for n in sizes])
    saved: dict[str, str | float] = {}
    for n, error in sorted(pretrained.items()):
        if error <= errors[-1]:
            saved[str(n)] = f"more than {sizes[-1] / n:.3g}"
        elif error > errors[0]:
            saved[str(n)] = f"less than {sizes[0] / n:.3g}"
        else:
            equal = np.exp(np.interp(-np.log(error), -np.log(errors), np.log(sizes)))
            saved[str(n)] = round(float(equal) / n, 2)
    return saved


def epochs_for(n_rows: int, params: Params, arguments: argparse.Namespace) -> int:
    steps = math.ceil(n_rows / params.model.batch_size)
    return max(arguments.epochs, math.ceil(arguments.steps / steps))


def measure(name: str, params: Params, base: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """All runs of one set."""
    work = arguments.work / name
    inputs = target_inputs(name, params, work)
    n_pool = len(inputs.table) - len(inputs.test) - len(inputs.validation)
    sizes = [n_pool if rows == "all" else int(rows) for rows in arguments.rows]
    sizes = sorted({n for n in sizes if n <= n_pool})
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {"scratch": {}, "pretrained": {}}
    for n in sizes:
        for seed in range(arguments.seeds if n == sizes[0] else 1):
            epochs = epochs_for(n, params, arguments)
            for kind, lr_scale in (("scratch", 1.0), ("pretrained", arguments.lr_scale)):
                recipe = chosen(params, arguments, name, epochs=epochs, lr_scale=lr_scale, seed=seed)
                start = None if kind == "scratch" else base
                key = f"{kind}-{n}-{seed}" if start is None else f"{kind}-{n}-{seed}-rate{lr_scale}"
                figures = once(work, key, lambda f, r=recipe, n=n, s=seed, b=start: trained(inputs, r, n, s, f, b))
                metrics = json.loads((work / key / "metrics.json").read_text())
                runs[kind].setdefault(n, []).append(figures | {"validation_mae": metrics["validation"]["mae"]})
    mean, validation = (
        {
            kind: {n: {t: float(np.mean([f[key][t] for f in of_n])) for t in of_n[0][key]} for n, of_n in by_n.items()}
            for kind, by_n in runs.items()
        }
        for key in ("mae", "validation_mae")
    )
    targets = chosen(params, arguments, name).targets
    return {
        "test_rows": len(inputs.test),
        "validation_rows": len(inputs.validation),
        "pool_rows": n_pool,
        "pretrained_not_tuned_mae": untouched(inputs, chosen(params, arguments, name), base),
        "mae": {kind: {str(n): errors for n, errors in by_n.items()} for kind, by_n in mean.items() if by_n},
        "validation_mae": {kind: {str(n): e for n, e in by_n.items()} for kind, by_n in validation.items() if by_n},
        "runs": {kind: {str(n): of_n for n, of_n in by_n.items()} for kind, by_n in runs.items() if by_n},
        "rows_saved": {
            target: rows_saved(
                *({n: errors[target] for n, errors in mean[kind].items()} for kind in ("scratch", "pretrained"))
            )
            for target in targets
        },
        "unit": {target: UNIT[target] for target in targets},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--rows", nargs="+", default=["100", "1000", "all"])
    parser.add_argument("--member", default="cogn")
    parser.add_argument("--epochs", type=int, default=30, help="at least")
    parser.add_argument("--steps", type=int, default=600, help="at least")
    parser.add_argument("--lr-scale", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=ROOT / ".checkpoints" / "transfer")
    arguments = parser.parse_args()
    arguments.work = arguments.work.resolve()
    os.environ["DVC_ROOT"] = str(arguments.work)  # checkpoints stay there too
    torch.set_num_threads(1)
    params = load_params(ROOT / "params.yaml")
    tested: set[str] = set()
    for name in SETS:
        inputs = target_inputs(name, params, arguments.work / name)
        tested |= set(inputs.table.set_index(columns.MATERIAL_ID).loc[inputs.test, columns.FORMULA])
    base, n_left_out = base_inputs(params, arguments.work / "base", tested)
    recipe = chosen(params, arguments, "base", epochs=arguments.epochs)
    folder = arguments.work / "base" / "member"
    figures = once(folder.parent, folder.name, lambda to: trained(base, recipe, "all", 0, to))
    by_scale = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    results = by_scale.setdefault(str(arguments.lr_scale), {})
    results |= {
        "command": " ".join(["python", *sys.argv]),
        "base": figures | {"member": arguments.member, "left_out_as_tested": n_left_out},
        "device": f"cpu, 1 thread, {platform.processor() or platform.machine()}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "settings": {"lr_scale": arguments.lr_scale, "least_epochs": arguments.epochs, "least_steps": arguments.steps},
    }
    for name in arguments.sets:
        results[name] = measure(name, params, folder, arguments)
        write_json(RESULTS, by_scale)
    print(f"written: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
