"""A model and how it is fitted: what `params.yaml` and the training rows make of a member."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from matscout import columns
from matscout.graphs.crystal_graph import CrystalGraph
from matscout.models.model import CrystalModel, build_model, encoder_of
from matscout.params import Compute, Member, Params, Target, base_target
from matscout.training.labelled_rows import Fold, LabelledBatch
from matscout.training.loop.trainer import Recipe, Trainer
from matscout.training.loss_and_errors import Objective, multi_task_loss
from matscout.training.shared_training import SharedTrainer, is_shared
from matscout.training.starting_weights import Start


def weighed(targets: Mapping[str, Target], weights: Mapping[str, float]) -> dict[str, Target]:
    """The targets with the weights given in place of their own; one of a pretraining by the name before its @."""
    return {
        name: target.model_copy(update={"weight": weights.get(base_target(name), target.weight)})
        for name, target in targets.items()
    }


@dataclass(frozen=True)
class Task:
    """A member in training.

    Attributes:
        model: in training; its head knows the statistics of the training labels.
        objective: (outputs, labels, noise), each by target -> scalar.
        trainer: of the model on that objective.
        params: all parameters, the targets with the weights that this member gives them.
        member: this member's own.
    """

    model: CrystalModel
    objective: Objective
    trainer: Trainer
    params: Params
    member: Member

    @classmethod
    def prepare(
        cls, name: str, params: Params, folds: Mapping[str, Fold], device: torch.device, start: Start | None = None
    ) -> "Task":
        """A model that begins with `start`, else untrained from torch's generator as it stands, and its trainer."""
        member, train = params.members[name], folds[columns.TRAIN]
        params = params.model_copy(update={"targets": weighed(params.targets, member.training.target_weights)})
        model = build_model(member, params.targets)
        model.head.fit_statistics(train.labels)
        if start:
            start.put_into(model)
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
            schedule=params.model.schedule,
            early_stopping=params.model.early_stopping,
        )

        def loss(outputs: Any, batch: LabelledBatch) -> torch.Tensor:
            return objective(outputs, batch.labels, batch.noise, counts=batch.counts)

        steps = math.ceil(train.rows_per_epoch / params.model.batch_size)
        forward = training_forward(model, params.compute, device)
        make = SharedTrainer if is_shared() else Trainer
        trainer = make(model, loss, recipe, steps_per_epoch=steps, name=f"train {name}", forward=forward)
        return cls(model, objective, trainer, params, member)

    @property
    def averaged(self) -> CrystalModel:
        """The model whose weights are the result."""
        return self.trainer.averaged  # type: ignore[return-value]


def training_forward(
    model: CrystalModel, compute: Compute, device: torch.device
) -> Callable[[CrystalGraph], dict[str, Tensor]]:
    """Graph -> parameters of distributions by target, through the very weights of `model`.

    With `bfloat16` the encoder's matrix products run in it (torch.autocast); weights, their averages and the head stay
    in float32, since a loss is a difference of nearby numbers.
    """
    encoder = encoder_of(model, compiled=compute.compile)

    def forward(graph: CrystalGraph) -> dict[str, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=compute.precision == "bfloat16"):
            crystals = encoder(graph)
        return model.head(crystals.float())

    return forward
