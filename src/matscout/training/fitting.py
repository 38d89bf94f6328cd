"""A member in training: its model, its starting weights, its objective, and the remaining epochs.

A training may start from a trained member with the same encoder. It always takes over the weights of the encoder. It
may also take over a head with the statistics of its target: predictions then begin exactly as those of the start, and
few rows suffice to correct them. A new head begins with the statistics of the labels. Device, threads and determinism
are set for the training and restored after it.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from matscout import columns
from matscout.engine.process_setup import keep_freed_memory, let_cublas_be_deterministic, subnormals_flushed
from matscout.errors import ParameterError
from matscout.graphs.crystal_graph import CrystalGraph
from matscout.graphs.graph_store import GraphStore
from matscout.models.model import CrystalModel, build_model, encoder_of
from matscout.models.saved_member import LoadedMember, MemberCard, load_member
from matscout.params import Compute, Member, Target, base_target
from matscout.training.checkpoints import CheckpointStore, open_checkpoints
from matscout.training.dataset import Fold, LabelledBatch, Objective, fold_figures, load_folds, multi_task_loss
from matscout.training.processes import Processes
from matscout.training.trainer import ALONE, EpochRecord, Optimisation, Trainer
from matscout.training.training import CONTINUED, Provenance, TrackedRun, Tracker, Training, TrainingInputs, flatten

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Attributes:
        encoder: the encoder's tensors by name.
        heads: by target, the tensors of the head that is continued; a target that is absent here gets a fresh one.
        weights_sha256: of the file they came from.
        split_sha256: of the split that the start was trained on; None = not known.
        knows_no_row: whether it was trained on hypothetical crystals alone, so that no split matters.
    """

    encoder: Mapping[str, Tensor]
    heads: Mapping[str, Mapping[str, Tensor]]
    weights_sha256: str
    split_sha256: str | None
    knows_no_row: bool = False

    @property
    def taken(self) -> dict[str, Any]:
        """Identity of the starting weights, for the fingerprint of the training."""
        return {"weights_sha256": self.weights_sha256, "continued": sorted(self.heads)}

    def put_into(self, model: CrystalModel) -> None:
        """Replace the weights of `model`, whose fresh heads keep what they have."""
        model.encoder.load_state_dict(self.encoder)
        for target, state in self.heads.items():
            model.head.heads[target].load_state_dict(state)

    def warn_of_other_split(self, split_sha256: str) -> None:
        """Warn that errors on the test fold may be too small, since the start may have seen its rows."""
        if not self.knows_no_row and self.split_sha256 != split_sha256:
            logger.warning(
                "the weights to begin with were trained on another split (%s, here %s): whether they saw rows of this "
                "test fold is not known",
                (self.split_sha256 or "unknown")[:12],
                split_sha256[:12],
            )


def load_start(training: Training) -> Start | None:
    """Read the weights that a training begins with, if any, and check that they are of its member's encoder.

    With the heads `continued`, a target continues the start's head of its name, or else the head that
    pretraining made for the target and the reference database, if the kind is the same; with `fresh`, none does.

    Args:
        training: says with which member's weights it begins.

    Returns:
        The weights; None = random ones.

    Raises:
        StoreError: no trained member of this installation is there.
        ParameterError: its encoder is another.
    """
    folder = training.begins_with
    if folder is None:
        return None
    loaded = load_member(folder)
    if differences := _differences(loaded.card, training.member):
        raise ParameterError(
            f"{folder} cannot be the start of this member: {'; '.join(differences)}. "
            "Give the member the start's architecture, graph and encoder, or begin with another"
        )
    continued = _continued(loaded, training.targets, training.reference) if training.heads == CONTINUED else {}
    return Start(
        encoder=loaded.model.encoder.state_dict(),
        heads={target: loaded.model.head.heads[name].state_dict() for target, name in continued.items()},
        weights_sha256=loaded.card.weights_sha256,
        split_sha256=loaded.card.hashes.get("split"),
        knows_no_row="hypothetical" in loaded.card.hashes and "materials" not in loaded.card.hashes,
    )


def _continued(loaded: LoadedMember, targets: Mapping[str, Target], database: str) -> dict[str, str]:
    """The head of the start that each target continues, by target."""
    kinds = loaded.model.head.kinds
    names = {target: next((n for n in (target, f"{target}@{database}") if n in kinds), "") for target in targets}
    return {target: name for target, name in names.items() if kinds.get(name) == targets[target].head}


def _differences(card: MemberCard, member: Member) -> list[str]:
    """Differences between the encoders of the start and of the member, in words."""
    theirs = _description(card.architecture, card.graph, card.encoder)
    ours = _description(member.architecture, member.graph.model_dump(), member.encoder.model_dump())
    keys = ["architecture"] if card.architecture != member.architecture else sorted(theirs | ours)
    return [
        f"{key} = {theirs.get(key)!r} there, {ours.get(key)!r} here" for key in keys if theirs.get(key) != ours.get(key)
    ]


def _description(architecture: str, graph: Mapping[str, Any], encoder: Mapping[str, Any]) -> dict[str, Any]:
    return flatten({"architecture": architecture, "graph": graph, "encoder": encoder})


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
    """Yield a member in the state of its last checkpoint, or untrained if there is none.

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
    """Train the remaining epochs; after each, write a checkpoint and send its figures to the tracker.

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


_memory: Any = torch.utils.deterministic


@contextmanager
def reproducible(compute: Compute, seed: int) -> Iterator[torch.device]:
    """Seed torch, set threads and determinism, flush subnormals, and yield the device.

    The same seed and threads on the same kind of processor give the same bytes.

    Raises:
        ParameterError: `cuda` is asked for and there is none.
    """
    keep_freed_memory()
    device = _device(compute.device)
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    fills = _memory.fill_uninitialized_memory
    if device.type == "cuda":
        let_cublas_be_deterministic()
    torch.set_num_threads(compute.threads)
    torch.use_deterministic_algorithms(compute.deterministic)
    _memory.fill_uninitialized_memory = False  # a debugging aid that writes every buffer twice
    torch.manual_seed(seed)
    try:
        with subnormals_flushed():
            yield device
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        _memory.fill_uninitialized_memory = fills


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ParameterError("compute.device = 'cuda', but torch sees no GPU; choose cpu or auto")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
