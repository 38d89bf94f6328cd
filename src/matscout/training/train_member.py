"""The stage `train`: one member of the ensemble, from the curated table to weights on disk."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from matscout import columns
from matscout.crystal import SYMBOLS
from matscout.files import atomic_path, write_json, write_parquet
from matscout.graphs.store.graph_store import GraphStore
from matscout.models.saved_member import CARD_FILE, MemberCard, save_member
from matscout.params import Params
from matscout.training.labelled_rows import Fold, LabelledBatch, load_folds
from matscout.training.loop.reproducible import reproducible
from matscout.training.loop.trainer import EpochRecord, Trainer
from matscout.training.loss_and_errors import fold_figures
from matscout.training.runs.checkpoints import CheckpointStore, open_checkpoints
from matscout.training.runs.tracking import MemberRun, member_run
from matscout.training.runs.trained_beforehand import FOLDER, keep_member
from matscout.training.runs.training_hashes import Provenance, training_hashes
from matscout.training.shared_training import from_first, is_first, launch, only_first
from matscout.training.training_plan import Plan, plan_member
from matscout.training.training_task import Task

HISTORY_FILE = "history.parquet"
METRICS_FILE = "metrics.json"


def train_member(
    name: str,
    *,
    params: Params,
    graphs: Path,
    split: Path,
    materials: Path,
    destination: Path,
    start: Path | None = None,
) -> None:
    """Train the member `name` and write weights, card, history and metrics to the folder `destination`.

    A run that was killed goes on after its last whole epoch and ends in the same bytes as one that was
    not. `destination` appears whole or not at all.

    Args:
        name: key of `params.members` or `params.finetuned`.
        params: all of them, since the tracker's pipeline run is known by them; the training itself
            depends on the member's own, `targets`, `model` and `compute` alone.
        graphs: folder of the graph store.
        split: table of material_id and fold.
        materials: curated table.
        destination: folder to write.
        start: folder of a trained member of the same encoder, whose weights training begins with; by default
            what a block of `params.finetuned` names, and none for the others.

    Raises:
        ParameterError: no such member, no such device, or a start of another encoder.
        StoreError: the start is no trained member of this installation.
        TrainingError: nothing to learn from, a loss beyond reason, a second trainer of the same member, or
            a tracker that cannot be used.
    """
    train_plan(
        plan_member(name, params, start), graphs=graphs, split=split, materials=materials, destination=destination
    )


def train_plan(plan: Plan, *, graphs: Path, split: Path, materials: Path, destination: Path) -> None:
    """`train_member` for a plan."""
    if plan.params.compute.processes > 1:
        launch(plan, graphs=graphs, split=split, materials=materials)
    with _fitted(plan, graphs=graphs, split=split, materials=materials) as fitted:
        _finish(fitted, destination)
        fitted.checkpoints.delete()


def fit_member(name: str, *, params: Params, graphs: Path, split: Path, materials: Path) -> None:
    """Train the member `name` and keep it beside its checkpoints, for `take_member`; arguments as of `train_member`.

    For members in parallel: workers outside of DVC call this, and the stage has only to put the member in its place.
    """
    plan = plan_member(name, params)
    if params.compute.processes > 1:
        launch(plan, graphs=graphs, split=split, materials=materials)
    with _fitted(plan, graphs=graphs, split=split, materials=materials) as fitted:
        directory = fitted.checkpoints.directory
        _finish(fitted, directory / FOLDER)
        keep_member(directory)


def fit_here(plan: Plan, *, graphs: Path, split: Path, materials: Path) -> None:
    """Train to the last checkpoint in this process, alone or as one of those that share the training."""
    with _fitted(plan, graphs=graphs, split=split, materials=materials):
        pass


@dataclass(frozen=True)
class Prepared:
    """A member that is ready to train, or trained, and all that belongs to it."""

    task: Task
    folds: Mapping[str, Fold]
    store: GraphStore
    provenance: Provenance
    checkpoints: CheckpointStore
    run: MemberRun


@contextmanager
def prepared(
    plan: Plan,
    *,
    graphs: Path,
    split: Path,
    materials: Path,
    folds: Sequence[str] = (columns.TRAIN, columns.VALIDATION, columns.TEST),
) -> Iterator[Prepared]:
    """A member as its last checkpoint left it, else untrained; of the split only the named folds are read."""
    name, params, start = plan.name, plan.params, plan.load_start()
    member, hashes = params.members[name], training_hashes(graphs=graphs, split=split, materials=materials)
    provenance = plan.provenance(start, hashes)
    if start:
        start.warn_of_other_split(hashes["split"])
    with (
        reproducible(params.compute, member.training.seed) as device,
        only_first(open_checkpoints(name, provenance.fingerprint)) as checkpoints,
    ):
        store = GraphStore.open(graphs)
        rows = load_folds(
            materials=materials,
            split=split,
            store=store,
            targets=params.targets,
            graph=member.graph,
            device=device,
            names=folds,
            per_epoch=params.hypothetical.per_epoch,
        )
        task = Task.prepare(name, params, rows, device, start)
        state = from_first(lambda: checkpoints.load())  # noqa: PLW0108 -- the others have no checkpoints
        with only_first(member_run(provenance, state["run_id"] if state else None)) as run:
            if state:
                task.trainer.load_state_dict(state["trainer"])
            yield Prepared(task, rows, store, provenance, checkpoints, run)


@contextmanager
def _fitted(plan: Plan, *, graphs: Path, split: Path, materials: Path) -> Iterator[Prepared]:
    with prepared(plan, graphs=graphs, split=split, materials=materials) as ready:
        fit(ready)
        yield ready


def fit(ready: Prepared, watch: Callable[[EpochRecord], None] = lambda _: None) -> None:
    """Train the epochs that are left; `watch` sees each epoch, also those trained before a kill, and may raise."""
    for record in ready.task.trainer.history:
        watch(record)
    _fit(ready.task, ready.folds, ready.checkpoints, ready.run, watch)


def _fit(
    task: Task,
    folds: Mapping[str, Fold],
    checkpoints: CheckpointStore,
    run: MemberRun,
    watch: Callable[[EpochRecord], None],
) -> None:
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
    task.trainer.fit(batches, validate, [save, track, lambda trainer: watch(trainer.history[-1])])


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
        "n_rows": {name: int(fold.is_known.sum()) for name, fold in folds.items()},
        "n_hypothetical": int((~folds[columns.TRAIN].is_known).sum()),
    }
    for name in (columns.VALIDATION, columns.TEST):
        figures = fold_figures(task.averaged, folds[name], task.objective)
        mae = {target: figures[f"mae_{target}"] for target in task.params.targets}
        metrics[name] = {"mae": {target: error if math.isfinite(error) else None for target, error in mae.items()}}
    return metrics


def _finish(fitted: Prepared, destination: Path) -> None:
    """Work out the errors, tell the tracker, write the member's folder."""
    metrics = _metrics(fitted.task, fitted.folds)
    fitted.run.log(metrics["epochs"], flat_metrics(metrics))
    _write(destination, fitted, metrics)


def _write(destination: Path, fitted: Prepared, metrics: Mapping[str, Any]) -> None:
    task, provenance = fitted.task, fitted.provenance
    card = MemberCard(
        name=provenance.member,
        architecture=task.member.architecture,
        encoder=task.member.encoder.model_dump(),
        graph=task.member.graph.model_dump(),
        graphs=fitted.store.settings.model_dump(),
        targets={target: settings.model_dump() for target, settings in task.params.targets.items()},
        elements=_trained_elements(fitted.folds[columns.TRAIN]),
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
