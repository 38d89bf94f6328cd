"""A member in training: its model, what is minimised, and the epochs that are left."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from matscout import columns
from matscout.graphs.crystal_graph import CrystalGraph
from matscout.graphs.store.graph_store import GraphStore
from matscout.models.model import CrystalModel, build_model, encoder_of
from matscout.params import Compute, Target, base_target
from matscout.training.dataset import Fold, LabelledBatch, load_folds
from matscout.training.loop.processes import Processes
from matscout.training.loop.reproducible import reproducible
from matscout.training.loop.trainer import ALONE, EpochRecord, Optimisation, Trainer
from matscout.training.loss_and_errors import Objective, fold_figures, multi_task_loss
from matscout.training.runs.checkpoints import CheckpointStore, open_checkpoints
from matscout.training.runs.training import Provenance, TrackedRun, Tracker, Training, TrainingInputs
from matscout.training.starting_weights import Start, load_start


@dataclass(frozen=True)
class Task:
    """A member's model and how it is fitted.

    Attributes:
        model: in training; its head knows the statistics of the training labels.
        objective: (outputs, labels, noise), each by target -> scalar.
        trainer: of the model on that objective.
        training: what is trained; the targets with the weights that this member gives them.
    """

    model: CrystalModel
    objective: Objective
    trainer: Trainer
    training: Training

    @classmethod
    def prepare(
        cls,
        training: Training,
        folds: Mapping[str, Fold],
        device: torch.device,
        start: Start | None = None,
        processes: Processes = ALONE,
    ) -> "Task":
        """Build a member's model and its trainer.

        Args:
            training: what is trained, and how.
            folds: labelled rows; the fold `train` sets the statistics of the head.
            device: where the model is trained.
            start: weights to begin with; None = random ones, from torch's generator in its present state.
            processes: that share the training.

        Returns:
            The model before its first step, with its trainer.
        """
        member, recipe, train = training.member, training.recipe, folds[columns.TRAIN]
        targets = weighed(training.targets, member.training.target_weights)
        model = build_model(member, targets)
        model.head.fit_statistics(train.labels)
        if start:
            start.put_into(model)
        units = {target: float(head.spread) for target, head in model.head.heads.items()}  # type: ignore[arg-type]
        model.to(device)
        objective = partial(multi_task_loss, targets=targets, units=units)

        def loss(outputs: Any, batch: LabelledBatch) -> torch.Tensor:
            return objective(outputs, batch.labels, batch.noise, counts=batch.counts)

        trainer = Trainer(
            model,
            loss,
            Optimisation.of(recipe, member.training),
            steps_per_epoch=math.ceil(train.rows_per_epoch / recipe.batch_size),
            processes=processes,
            name=f"train {training.name}",
            forward=training_forward(model, training.compute, device),
        )
        return cls(model, objective, trainer, replace(training, targets=targets))

    @property
    def averaged(self) -> CrystalModel:
        """The model whose weights are the result."""
        return self.trainer.averaged  # type: ignore[return-value]


def weighed(targets: Mapping[str, Target], weights: Mapping[str, float]) -> dict[str, Target]:
    """The targets with the weights given in place of their own; one of a pretraining by the name before its @."""
    return {
        name: target.model_copy(update={"weight": weights.get(base_target(name), target.weight)})
        for name, target in targets.items()
    }


def training_forward(
    model: CrystalModel, compute: Compute, device: torch.device
) -> Callable[[CrystalGraph], dict[str, Tensor]]:
    """Make the function from a graph to parameters of distributions, with the weights of `model` itself.

    With `bfloat16` the encoder's matrix products run in it (torch.autocast); weights, their averages and the head stay
    in float32, since a loss is a difference of nearby numbers.

    Args:
        model: that is trained.
        compute: precision and compilation.
        device: where the model is trained.

    Returns:
        From n_crystals to (n_crystals, n_parameters) by target.
    """
    encoder = encoder_of(model, compiled=compute.compile)

    def forward(graph: CrystalGraph) -> dict[str, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=compute.precision == "bfloat16"):
            crystals = encoder(graph)
        return model.head(crystals.float())

    return forward


@dataclass(frozen=True)
class Prepared:
    """A member that is ready to train, or trained, with everything that belongs to it."""

    task: Task
    folds: Mapping[str, Fold]
    store: GraphStore
    provenance: Provenance
    checkpoints: CheckpointStore
    run: TrackedRun


@contextmanager
def prepared(
    training: Training,
    inputs: TrainingInputs,
    tracker: Tracker,
    *,
    processes: Processes = ALONE,
    folds: Sequence[str] = (columns.TRAIN, columns.VALIDATION, columns.TEST),
) -> Iterator[Prepared]:
    """A member as its last checkpoint left it, or untrained where there is none.

    Args:
        training: what is trained, and how.
        inputs: files that are read.
        tracker: of the run.
        processes: that share the training.
        folds: of the split, the only ones that are read.

    Yields:
        The member; its checkpoints are locked meanwhile.
    """
    start, hashes = load_start(training), inputs.hashes()
    provenance = training.provenance(hashes, start.taken if start and training.start else None)
    if start:
        start.warn_of_other_split(hashes["split"])
    with (
        reproducible(training.compute, training.member.training.seed) as device,
        processes.only_first(open_checkpoints(training.name, provenance.fingerprint)) as checkpoints,
    ):
        store = GraphStore.open(inputs.graphs)
        rows = load_folds(training, inputs, store, device, folds)
        task = Task.prepare(training, rows, device, start, processes)
        state = processes.from_first(lambda: checkpoints.load())  # noqa: PLW0108 -- the others have no checkpoints
        with processes.only_first(tracker.run(provenance, state["run_id"] if state else None)) as run:
            if state:
                task.trainer.load_state_dict(state["trainer"])
            yield Prepared(task, rows, store, provenance, checkpoints, run)


def fit(ready: Prepared, watch: Callable[[EpochRecord], None] = lambda _: None) -> None:
    """Train the epochs that are left, with a checkpoint and the tracker's points after each.

    Args:
        ready: from `prepared`.
        watch: sees each epoch, also those trained before a kill, and may raise.
    """
    trainer, training, folds = ready.task.trainer, ready.task.training, ready.folds
    for record in trainer.history if trainer.processes.is_first else ():
        watch(record)
    for record in trainer.history if trainer.processes.is_first else ():  # a killed run may not have sent them
        track(ready.run, record)

    def batches(epoch: int) -> Iterator[LabelledBatch]:
        seed = training.member.training.seed
        return folds[columns.TRAIN].training_batches(batch_size=training.recipe.batch_size, seed=seed, epoch=epoch)

    def validate(model: torch.nn.Module) -> dict[str, float]:
        return fold_figures(model, folds[columns.VALIDATION], ready.task.objective)  # type: ignore[arg-type]

    def save(trainer: Trainer) -> None:
        state = {"run_id": ready.run.run_id, "trainer": trainer.state_dict()}
        ready.checkpoints.save(len(trainer.history), state)

    def tell(trainer: Trainer) -> None:
        track(ready.run, trainer.history[-1])
        watch(trainer.history[-1])

    trainer.fit(batches, validate, [save, tell])


def track(run: TrackedRun, record: EpochRecord) -> None:
    """Send an epoch to the tracker."""
    run.log(record.epoch + 1, history_row(record) | {"data_wait_share": record.data_wait_share})


def history_row(record: EpochRecord) -> dict[str, float]:
    """One row of `history.parquet` without its epoch: what is the same in every run."""
    figures = {"validation_loss" if key == "loss" else key: value for key, value in record.validation.items()}
    return {"train_loss": record.train_loss, **figures, "lr": record.lr}
