"""Trainings of the accuracy benchmark: members side by side, one thread each, resumable, timed."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from threadpoolctl import threadpool_limits

from benchmarks.accuracy.changed_layers import patched
from benchmarks.uncertainty.members_and_rows import ROOT, Inputs, mp_inputs
from matscout import columns
from matscout.engine import n_workers, parallel_map
from matscout.ensemble.evaluate import evaluate
from matscout.errors import DivergedError
from matscout.files import write_json, write_parquet
from matscout.params import Params, check_params
from matscout.training.train_member import train_member

RECIPES = ROOT / "benchmarks" / "accuracy" / "recipes.yaml"
TIME_FILE = "time.json"
DIVERGED_FILE = "diverged.json"
REMOVED = "removed"
NO_TARGET = {
    "description": "asks for no target, so that any may be removed",
    "objectives": [{"column": "elemental_cost", "window": None, "direction": "minimize"}],
}


@dataclass(frozen=True)
class Training:
    """One member to train.

    Attributes:
        member: its name in `params`.
        params: all parameters.
        inputs: rows, graphs and folds.
        work: folder for members, checkpoints and the tracker's database.
        patch: name of a change to the code (`accuracy_patches.PATCHES`), for what is no parameter.
    """

    member: str
    params: Params
    inputs: Inputs
    work: Path
    patch: str | None = None

    @property
    def folder(self) -> Path:
        """Where the member's files go."""
        return self.work / "members" / self.member

    def run(self) -> None:
        """Train, unless that is done; a killed training goes on, and then only its last part is timed."""
        if self.folder.exists():
            return
        os.environ["DVC_ROOT"] = str(self.work)
        started, before = time.perf_counter(), _processor_seconds()
        paths = {"materials": self.inputs.materials, "graphs": self.inputs.graphs, "split": self.inputs.split}
        with patched(self.patch):
            train_member(self.member, params=self.params, **paths, destination=self.folder)
        spent = {
            "processor_seconds": round(_processor_seconds() - before, 1),
            "seconds": round(time.perf_counter() - started, 1),
        }
        write_json(self.folder / TIME_FILE, spent)

    def attempt(self) -> None:
        """`run`, where a training that diverges is a result too."""
        if self.diverged:
            return
        try:
            self.run()
        except DivergedError as error:
            self.work.mkdir(parents=True, exist_ok=True)
            write_json(self.work / DIVERGED_FILE, {"error": str(error)})

    @property
    def diverged(self) -> bool:
        """Whether `attempt` ended so."""
        return (self.work / DIVERGED_FILE).exists()


def recipe(name: str) -> Params:
    """`params.yaml` with one thread a member and the changes of `recipes.yaml`."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["screening"] |= {"goal": "cheap", "goals": {"cheap": NO_TARGET}}  # a goal needs its targets
    changes = yaml.safe_load(RECIPES.read_text())[name]
    return check_params(changed(changed(tree, {"compute": {"threads": 1}}), changes))


def chosen(params: Params, members: Sequence[str] | None) -> Params:
    """The parameters with these members only; all where none are named."""
    if unknown := sorted(set(members or ()) - set(params.members)):
        sys.exit(f"no members {unknown}; choose from {list(params.members)}")
    return params.model_copy(update={"members": {name: params.members[name] for name in members or params.members}})


def changed(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of `tree` in which the values of `changes` stand; a key whose value is REMOVED is left out."""
    result = {key: value for key, value in tree.items() if changes.get(key) != REMOVED}
    for key, value in changes.items():
        if value == REMOVED:
            continue
        inner = result.get(key)
        result[key] = changed(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return result


def rows_of(params: Params, work: Path, name: str, n_train: int | None = None) -> Inputs:
    """A benchmark set, with the first `n_train` rows of its training fold where asked."""
    work.mkdir(parents=True, exist_ok=True)
    inputs = mp_inputs(params, work, small=name == "bench6k")
    if n_train is None:
        return inputs
    split = pd.read_parquet(inputs.split)
    left_out = np.flatnonzero((split[columns.FOLD] == columns.TRAIN).to_numpy())[n_train:]
    split.loc[left_out, columns.FOLD] = columns.UNUSED
    path = work / f"split_{n_train}.parquet"
    write_parquet(path, split)
    return Inputs(inputs.materials, inputs.graphs, path)


def train_all(trainings: Sequence[Training], run: Callable[[Training], None] = Training.run) -> None:
    """All of them over this machine's cores, the longest first."""
    longest_first = sorted(trainings, key=lambda t: -t.params.members[t.member].training.epochs)
    parallel_map(run, longest_first, workers=n_workers(), description="trainings", unit="member")


def times(work: Path, members: Sequence[str]) -> dict[str, dict[str, float]]:
    """Seconds of processor and wall by member."""
    return {name: json.loads((work / "members" / name / TIME_FILE).read_text()) for name in members}


def judged(params: Params, inputs: Inputs, work: Path) -> dict[str, Any]:
    """metrics.json of the ensemble of the members in `work`."""
    paths = {"materials": inputs.materials, "graphs": inputs.graphs, "split": inputs.split}
    with threadpool_limits(1, user_api="blas"):  # as in the stages: the same sums on any number of cores
        evaluate(work / "members", params=params, **paths, destination=work / "ensemble")
    return json.loads((work / "ensemble" / "metrics.json").read_text())


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def setting() -> dict[str, Any]:
    """Where a figure was measured."""
    return {"device": "cpu", "threads_a_member": 1, "members_at_once": n_workers(), "torch": torch.__version__}
