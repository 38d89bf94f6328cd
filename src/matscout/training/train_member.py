"""Training of one member, from the curated table to weights on disk, in one process or shared by several."""

import math
import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch.distributed as group
from torch import cuda
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from matscout import columns
from matscout.crystal import SYMBOLS
from matscout.engine.worker_tasks import end_with_parent
from matscout.errors import MatscoutError, TrainingError
from matscout.files import atomic_path, write_json, write_parquet
from matscout.models.saved_member import CARD_FILE, MemberCard, save_member
from matscout.params import Compute, Params
from matscout.training.checkpoints import MEMBER_PART, keep_member
from matscout.training.dataset import Fold, fold_figures
from matscout.training.fitting import Prepared, Task, fit, history_row, prepared
from matscout.training.processes import Group
from matscout.training.training import (
    Provenance,
    Tracker,
    Training,
    TrainingInputs,
    Untracked,
    member_training,
)

HISTORY_FILE = "history.parquet"
METRICS_FILE = "metrics.json"
UNTRACKED = Untracked()


def train_member(
    name: str,
    *,
    params: Params,
    graphs: Path,
    split: Path,
    materials: Path,
    destination: Path,
    start: Path | None = None,
    tracker: Tracker = UNTRACKED,
) -> None:
    """Train the member `name` and write weights, card, history and metrics to the folder `destination`.

    A killed run resumes after its last whole epoch and gives the same bytes as one that was not killed. `destination`
    appears whole or not at all.

    With `compute.processes` above 1, the spawned processes import the calling script again: call this function under
    `if __name__ == "__main__":`.

    Args:
        name: key of `params.members` or `params.finetuned`.
        params: of which the training depends on the member's own, `targets`, `model` and `compute` alone.
        graphs: folder of the graph store.
        split: table of material_id and fold.
        materials: curated table.
        destination: folder to write.
        start: folder of a trained member of the same encoder, whose weights training begins with; by default
            what a block of `params.finetuned` names, and none for the others.
        tracker: where curves go beside `history.parquet`, such as `tracking.MLflowTracker(params)`; by default nowhere.

    Raises:
        ParameterError: no such member, no such device, or a start of another encoder.
        StoreError: the start is no trained member of this installation.
        TrainingError: nothing to learn from, a loss beyond reason, a second trainer of the same member, or
            a tracker that cannot be used.
    """
    train(member_training(name, params, start), TrainingInputs(graphs, split, materials), destination, tracker)


def train(training: Training, inputs: TrainingInputs, destination: Path, tracker: Tracker = UNTRACKED) -> None:
    """Train a member to the end and write its folder; `train_member` with all settings in one object.

    Args:
        training: what is trained, and how.
        inputs: files that are read.
        destination: folder of the member.
        tracker: of the run.
    """
    launch(training, inputs, tracker)
    with prepared(training, inputs, tracker) as ready:
        fit(ready)
        _finish(ready, destination)
        ready.checkpoints.delete()


def train_beforehand(training: Training, inputs: TrainingInputs, tracker: Tracker = UNTRACKED) -> None:
    """Train a member and keep it beside its checkpoints, for `take_member`.

    For members in parallel: workers outside of DVC call this, so that the stage only has to put the member in its
    place.

    Args:
        training: what is trained, and how.
        inputs: files that are read.
        tracker: of the run.
    """
    launch(training, inputs, tracker)
    with prepared(training, inputs, tracker) as ready:
        fit(ready)
        directory = ready.checkpoints.directory
        _finish(ready, directory / MEMBER_PART)
        keep_member(directory)


def launch(training: Training, inputs: TrainingInputs, tracker: Tracker) -> None:
    """Train to the last checkpoint in `compute.processes` processes; with one, do nothing, since this process trains.

    Args:
        training: what is trained, and how.
        inputs: files that are read.
        tracker: of the run.

    Raises:
        TrainingError: a process failed; the message quotes its error.
    """
    n = training.compute.processes
    if n == 1:
        return
    reasons = multiprocessing.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        meeting = f"file://{folder}/meeting"
        try:
            spawn(_fit_shared, (training, inputs, tracker, meeting, reasons), nprocs=n)
        except ProcessExitedException as error:
            reason = str(error) if reasons.empty() else reasons.get()
            raise TrainingError(f"train {training.name} in {n} processes: {reason}") from error


def _fit_shared(
    rank: int, training: Training, inputs: TrainingInputs, tracker: Tracker, meeting: str, reasons: Any
) -> None:
    """One of the processes of `launch`. The first that fails reports why; the others only that it ended."""
    end_with_parent()
    if rank:  # one progress bar is enough; errors go to `reasons`
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
    try:
        backend = _backend(rank, training.compute)
        group.init_process_group(backend, meeting, rank=rank, world_size=training.compute.processes)
        with prepared(training, inputs, tracker, processes=Group()) as ready:
            fit(ready)
        group.destroy_process_group()
    except Exception as error:
        reasons.put(str(error) if isinstance(error, MatscoutError) else traceback.format_exc())
        raise SystemExit(1) from error


def _backend(rank: int, compute: Compute) -> str:
    """How tensors are sent between the processes, each of which takes its own graphics card if there are any."""
    if compute.device == "cpu" or not cuda.is_available():
        return "gloo"
    if rank >= cuda.device_count():
        raise TrainingError(
            f"compute.processes = {compute.processes}, but torch sees {cuda.device_count()} GPUs; each process needs "
            "one of its own"
        )
    cuda.set_device(rank)
    return "cpu:gloo,cuda:nccl"


def _finish(ready: Prepared, destination: Path) -> None:
    """Compute the errors, send them to the tracker, write the member's folder."""
    metrics = _metrics(ready.task, ready.folds)
    ready.run.log(metrics["epochs"], flat_metrics(metrics))
    _write(destination, ready, metrics)


def _metrics(task: Task, folds: Mapping[str, Fold]) -> dict[str, Any]:
    """Errors of the averaged model on real rows, in the targets' units; the same in every run."""
    metrics: dict[str, Any] = {
        "epochs": len(task.trainer.history),
        "n_parameters": task.model.n_parameters,
        "n_rows": {name: int(fold.is_known.sum()) for name, fold in folds.items()},
        "n_hypothetical": int((~folds[columns.TRAIN].is_known).sum()),
    }
    for name in (columns.VALIDATION, columns.TEST):
        figures = fold_figures(task.averaged, folds[name], task.objective)
        mae = {target: figures[f"mae_{target}"] for target in task.training.targets}
        metrics[name] = {"mae": {target: error if math.isfinite(error) else None for target, error in mae.items()}}
    return metrics


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """`{"test": {"mae": {"band_gap": 0.3}}}` -> `{"test_mae_band_gap": 0.3}`, for the tracker."""
    return {
        f"{fold}_mae_{target}": error
        for fold in (columns.VALIDATION, columns.TEST)
        for target, error in metrics[fold]["mae"].items()
        if error is not None
    }


def _write(destination: Path, ready: Prepared, metrics: Mapping[str, Any]) -> None:
    task, provenance = ready.task, ready.provenance
    card = MemberCard(
        name=task.training.name,
        architecture=task.training.member.architecture,
        encoder=task.training.member.encoder.model_dump(),
        graph=task.training.member.graph.model_dump(),
        graphs=ready.store.settings.model_dump(),
        targets={target: settings.model_dump() for target, settings in task.training.targets.items()},
        elements=_trained_elements(ready.folds[columns.TRAIN]),
        hashes={**provenance.hashes, **_start_hash(provenance), "fingerprint": provenance.fingerprint},
    )
    history = pd.DataFrame([{"epoch": r.epoch + 1, **history_row(r)} for r in task.trainer.history])
    with atomic_path(destination, mark=CARD_FILE) as folder:
        folder.mkdir()
        save_member(folder, task.averaged, card)
        write_parquet(folder / HISTORY_FILE, history)
        write_json(folder / METRICS_FILE, metrics)


def _start_hash(provenance: Provenance) -> dict[str, str]:
    return {"start": provenance.parameters["start"]["weights_sha256"]} if "start" in provenance.parameters else {}


def _trained_elements(fold: Fold) -> tuple[str, ...]:
    numbers: set[int] = set()
    for _, batch in fold.known().ordered_batches():
        numbers.update(batch.inputs.atomic_numbers.unique().tolist())
    return tuple(SYMBOLS[number] for number in sorted(numbers))
