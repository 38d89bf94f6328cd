"""The stage `train`: one member of the ensemble, from the curated table to weights on disk."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from matscout import columns
from matscout.crystal import SYMBOLS
from matscout.errors import ParameterError
from matscout.files import atomic_path, sha256_of, sha256_of_json, write_json, write_parquet
from matscout.graphs.store import GraphStore
from matscout.models.member import MemberCard, save_member
from matscout.models.model import CrystalModel, build_model
from matscout.params import Member, Params
from matscout.training.checkpoints import CheckpointStore, open_checkpoints
from matscout.training.compute import reproducible
from matscout.training.folds import Fold, LabelledBatch, load_folds
from matscout.training.losses import multi_task_loss
from matscout.training.provenance import Provenance, code_hash
from matscout.training.tracking import MemberRun, member_run
from matscout.training.trainer import EpochRecord, Recipe, Trainer
from matscout.training.validation import Objective, fold_figures

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
        ParameterError: no such member.
        TrainingError: nothing to learn from, a loss beyond reason, a second trainer of the same member, or
            a tracker that cannot be used.
    """
    member = _member(params, name)
    provenance = _provenance(name, params, graphs=graphs, split=split, materials=materials)
    with (
        reproducible(params.compute, member.training.seed) as device,
        open_checkpoints(name, provenance.fingerprint) as checkpoints,
    ):
        store = GraphStore.open(graphs)
        folds = load_folds(
            materials=materials, split=split, store=store, targets=params.targets, graph=member.graph, device=device
        )
        task = _Task.prepare(name, params, folds, device)
        state = checkpoints.load()
        with member_run(provenance, state["run_id"] if state else None) as run:
            if state:
                task.trainer.load_state_dict(state["trainer"])
            _fit(task, folds, checkpoints, run)
            metrics = _metrics(task, folds)
            run.log(member.training.epochs, flat_metrics(metrics))
            _write(destination, task, folds, store, provenance, metrics)
            checkpoints.delete()


@dataclass(frozen=True)
class _Task:
    """A model and how it is fitted."""

    model: CrystalModel
    objective: Objective
    trainer: Trainer
    params: Params
    member: Member

    @classmethod
    def prepare(cls, name: str, params: Params, folds: Mapping[str, Fold], device: torch.device) -> "_Task":
        member, train = params.members[name], folds[columns.TRAIN]
        model = build_model(member, params.targets)
        model.head.fit_statistics(train.labels)
        units = {target: float(head.spread) for target, head in model.head.heads.items()}  # type: ignore[arg-type]
        model.to(device)
        objective = partial(multi_task_loss, targets=params.targets, units=units)
        recipe = Recipe(
            epochs=member.training.epochs,
            lr=params.model.lr * member.training.lr_scale,
            weight_decay=params.model.weight_decay,
            grad_clip=params.model.grad_clip,
            averaging=params.model.averaging,
            warmup=params.model.warmup,
        )

        def loss(outputs: Any, batch: LabelledBatch) -> torch.Tensor:
            return objective(outputs, batch.labels, batch.noise)

        steps = math.ceil(len(train) / params.model.batch_size)
        trainer = Trainer(model, loss, recipe, steps_per_epoch=steps, name=f"train {name}")
        return cls(model, objective, trainer, params, member)

    @property
    def averaged(self) -> CrystalModel:
        """The model whose weights are the result."""
        return self.trainer.averaged  # type: ignore[return-value]


def _fit(task: _Task, folds: Mapping[str, Fold], checkpoints: CheckpointStore, run: MemberRun) -> None:
    """Train the epochs that are left, with a checkpoint and the tracker's points after each."""

    def batches(epoch: int) -> Iterator[LabelledBatch]:
        seed = task.member.training.seed
        return folds[columns.TRAIN].training_batches(batch_size=task.params.model.batch_size, seed=seed, epoch=epoch)

    def validate(model: torch.nn.Module) -> dict[str, float]:
        return fold_figures(model, folds[columns.VALIDATION], task.objective)  # type: ignore[arg-type]

    def save(trainer: Trainer) -> None:
        checkpoints.save(len(trainer.history), {"run_id": run.run_id, "trainer": trainer.state_dict()})

    for record in task.trainer.history:  # what a killed run had trained but not yet sent
        _track(run, record)
    track: Callable[[Trainer], None] = lambda trainer: _track(run, trainer.history[-1])  # noqa: E731 -- one of two alike
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


def _metrics(task: _Task, folds: Mapping[str, Fold]) -> dict[str, Any]:
    """Errors of the averaged model on real rows, in the targets' units; the same in every run."""
    metrics: dict[str, Any] = {
        "epochs": task.member.training.epochs,
        "n_parameters": task.model.n_parameters,
        "n_rows": {name: len(fold) for name, fold in folds.items()},
    }
    for name in (columns.VALIDATION, columns.TEST):
        figures = fold_figures(task.averaged, folds[name], task.objective)
        mae = {target: figures[f"mae_{target}"] for target in task.params.targets}
        metrics[name] = {"mae": {target: error if math.isfinite(error) else None for target, error in mae.items()}}
    return metrics


def _write(
    destination: Path,
    task: _Task,
    folds: Mapping[str, Fold],
    store: GraphStore,
    provenance: Provenance,
    metrics: Mapping[str, Any],
) -> None:
    card = MemberCard(
        name=provenance.member,
        architecture=task.member.architecture,
        encoder=task.member.encoder.model_dump(),
        graph=task.member.graph.model_dump(),
        graphs=store.settings.model_dump(),
        targets={target: settings.model_dump() for target, settings in task.params.targets.items()},
        elements=_trained_elements(folds[columns.TRAIN]),
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


def _provenance(name: str, params: Params, *, graphs: Path, split: Path, materials: Path) -> Provenance:
    tree = params.model_dump(mode="json")
    parameters = {"member": tree["members"][name], **{key: tree[key] for key in ("targets", "model", "compute")}}
    hashes = {
        "code": code_hash(),
        "graphs": sha256_of(graphs),
        "materials": sha256_of(materials),
        "split": sha256_of(split),
    }
    fingerprint = sha256_of_json([name, parameters, hashes, torch.__version__])
    return Provenance(name, fingerprint, parameters, tree, hashes)
