"""The stage `train`: one member of the ensemble, from the curated table to weights on disk."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from matscout import columns
from matscout.crystal import SYMBOLS
from matscout.errors import ParameterError
from matscout.files import atomic_path, write_json, write_parquet
from matscout.graphs.store import GraphStore
from matscout.models.member import MemberCard, save_member
from matscout.params import Member, Params
from matscout.training.checkpoints import CheckpointStore, open_checkpoints
from matscout.training.compute import reproducible
from matscout.training.distributed import from_first, is_first, launch, only_first
from matscout.training.folds import Fold, LabelledBatch, load_folds
from matscout.training.provenance import Provenance, provenance_of, training_hashes
from matscout.training.task import Task
from matscout.training.tracking import MemberRun, member_run
from matscout.training.trainer import EpochRecord, Trainer
from matscout.training.validation import fold_figures

HISTORY_FILE = "history.parquet"
METRICS_FILE = "metrics.json"


def train_member(name: str, *, params: Params, graphs: Path, split: Path, materials: Path, destination: Path) -> None:
    """Train the member `name` and write weights, card, history and metrics to the folder `destination`.

    A run that was killed goes on after its last whole epoch and ends in the same bytes as one that was
    not. `destination` appears whole or not at all.

    Args:
        name: key of `params.members`.
        params: all of them, since the tracker's pipeline run is known by them; the training itself
            depends on the member's own, `targets`, `model` and `compute` alone.
        graphs: folder of the graph store.
        split: table of material_id and fold.
        materials: curated table.
        destination: folder to write.

    Raises:
        ParameterError: no such member, or no such device.
        TrainingError: nothing to learn from, a loss beyond reason, a second trainer of the same member, or
            a tracker that cannot be used.
    """
    if params.compute.processes > 1:
        launch(name, params, graphs=graphs, split=split, materials=materials)
    with _fitted(name, params=params, graphs=graphs, split=split, materials=materials) as fitted:
        metrics = _metrics(fitted.task, fitted.folds)
        fitted.run.log(metrics["epochs"], flat_metrics(metrics))
        _write(destination, fitted, metrics)
        fitted.checkpoints.delete()


def fit_member(name: str, *, params: Params, graphs: Path, split: Path, materials: Path) -> None:
    """Train the member `name` to its last checkpoint and stop there; arguments as of `train_member`.

    For members in parallel: workers outside of DVC call this, and the stage, finding the checkpoint of the
    last epoch, has only the files left to write.
    """
    if params.compute.processes > 1:
        launch(name, params, graphs=graphs, split=split, materials=materials)
    else:
        fit_here(name, params=params, graphs=graphs, split=split, materials=materials)


def fit_here(name: str, *, params: Params, graphs: Path, split: Path, materials: Path) -> None:
    """`fit_member` in this process, alone or as one of those that share the training."""
    with _fitted(name, params=params, graphs=graphs, split=split, materials=materials):
        pass


@dataclass(frozen=True)
class _Fitted:
    """A trained member that is not written yet, and all that belongs to it."""

    task: Task
    folds: Mapping[str, Fold]
    store: GraphStore
    provenance: Provenance
    checkpoints: CheckpointStore
    run: MemberRun


@contextmanager
def _fitted(name: str, *, params: Params, graphs: Path, split: Path, materials: Path) -> Iterator[_Fitted]:
    member = _member(params, name)
    provenance = provenance_of(name, params, training_hashes(graphs=graphs, split=split, materials=materials))
    with (
        reproducible(params.compute, member.training.seed) as device,
        only_first(open_checkpoints(name, provenance.fingerprint)) as checkpoints,
    ):
        store = GraphStore.open(graphs)
        folds = load_folds(
            materials=materials, split=split, store=store, targets=params.targets, graph=member.graph, device=device
        )
        task = Task.prepare(name, params, folds, device)
        state = from_first(lambda: checkpoints.load())  # noqa: PLW0108 -- the others have no checkpoints
        with only_first(member_run(provenance, state["run_id"] if state else None)) as run:
            if state:
                task.trainer.load_state_dict(state["trainer"])
            _fit(task, folds, checkpoints, run)
            yield _Fitted(task, folds, store, provenance, checkpoints, run)


def _fit(task: Task, folds: Mapping[str, Fold], checkpoints: CheckpointStore, run: MemberRun) -> None:
    """Train the epochs that are left, with a checkpoint and the tracker's points after each."""

    def batches(epoch: int) -> Iterator[LabelledBatch]:
        seed = task.member.training.seed
        return folds[columns.TRAIN].training_batches(batch_size=task.params.model.batch_size, seed=seed, epoch=epoch)

    def validate(model: torch.nn.Module) -> dict[str, float]:
        return fold_figures(model, folds[columns.VALIDATION], task.objective)  # type: ignore[arg-type]

    def save(trainer: Trainer) -> None:
        checkpoints.save(len(trainer.history), {"run_id": run.run_id, "trainer": trainer.state_dict()})

    def track(trainer: Trainer) -> None:
        _track(run, trainer.history[-1])

    for record in task.trainer.history if is_first() else ():  # what a killed run had trained but not yet sent
        _track(run, record)
    task.trainer.fit(batches, validate, [save, track])


def _track(run: MemberRun, record: EpochRecord) -> None:
    run.log(record.epoch + 1, history_row(record) | {"data_wait_share": record.data_wait_share})


def history_row(record: EpochRecord) -> dict[str, float]:
    """One row of `history.parquet` but its epoch: what is the same in every run."""
    figures = {"validation_loss" if key == "loss" else key: value for key, value in record.validation.items()}
    return {"train_loss": record.train_loss, **figures, "lr": record.lr}


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """`{"test": {"mae": {"band_gap": 0.3}}}` -> `{"test_mae_band_gap": 0.3}`, for the tracker."""
    return {
        f"{fold}_mae_{target}": error
        for fold in (columns.VALIDATION, columns.TEST)
        for target, error in metrics[fold]["mae"].items()
        if error is not None
    }


def _metrics(task: Task, folds: Mapping[str, Fold]) -> dict[str, Any]:
    """Errors of the averaged model on real rows, in the targets' units; the same in every run."""
    metrics: dict[str, Any] = {
        "epochs": len(task.trainer.history),
        "n_parameters": task.model.n_parameters,
        "n_rows": {name: len(fold) for name, fold in folds.items()},
    }
    for name in (columns.VALIDATION, columns.TEST):
        figures = fold_figures(task.averaged, folds[name], task.objective)
        mae = {target: figures[f"mae_{target}"] for target in task.params.targets}
        metrics[name] = {"mae": {target: error if math.isfinite(error) else None for target, error in mae.items()}}
    return metrics


def _write(destination: Path, fitted: _Fitted, metrics: Mapping[str, Any]) -> None:
    task, provenance = fitted.task, fitted.provenance
    card = MemberCard(
        name=provenance.member,
        architecture=task.member.architecture,
        encoder=task.member.encoder.model_dump(),
        graph=task.member.graph.model_dump(),
        graphs=fitted.store.settings.model_dump(),
        targets={target: settings.model_dump() for target, settings in task.params.targets.items()},
        elements=_trained_elements(fitted.folds[columns.TRAIN]),
        hashes={**provenance.hashes, "fingerprint": provenance.fingerprint},
    )
    history = pd.DataFrame([{"epoch": r.epoch + 1, **history_row(r)} for r in task.trainer.history])
    with atomic_path(destination) as folder:
        folder.mkdir()
        save_member(folder, task.averaged, card)
        write_parquet(folder / HISTORY_FILE, history)
        write_json(folder / METRICS_FILE, metrics)


def _trained_elements(fold: Fold) -> tuple[str, ...]:
    numbers: set[int] = set()
    for _, batch in fold.ordered_batches():
        numbers.update(batch.inputs.atomic_numbers.unique().tolist())
    return tuple(SYMBOLS[number] for number in sorted(numbers))


def _member(params: Params, name: str) -> Member:
    if name not in params.members:
        raise ParameterError(f"member {name!r} is not in params.yaml; choose one of {sorted(params.members)}")
    return params.members[name]
