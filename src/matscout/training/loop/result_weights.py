"""Which weights are the result: an average over the last steps, or, on request, that of the best epoch."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

_lerp = torch._foreach_lerp_  # type: ignore[attr-defined]  # torch's optimizers use it so
Model = TypeVar("Model", bound=nn.Module)


class WeightAverage(Generic[Model]):
    """Keeps `model`, a copy whose weights trail those of the model in training.

    w_average <- w_average + (1 - d) (w - w_average), with d = min(decay, (1 + n) / (10 + n)) after n
    updates, so that the random start is soon forgotten. Buffers with a fraction (running statistics)
    are averaged alike; counters are copied.

    Args:
        model: the model whose weights to start from; not changed.
        decay: of the average, per step; 0 copies the weights.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
        self.decay = decay
        self.n_updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the present weights of `model`."""
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates)) if self.decay else 0.0
        averaged, present = _tensors(self.model), _tensors(model)
        moving = [name for name, tensor in averaged.items() if tensor.is_floating_point()]
        # one fused kernel: a loop over the tensors costs as much as a small model's optimizer step
        _lerp([averaged[name] for name in moving], [present[name] for name in moving], 1 - decay)
        for name, tensor in averaged.items():
            if not tensor.is_floating_point():
                tensor.copy_(present[name])
        self.n_updates += 1


@dataclass
class EarlyStopping:
    """When to stop before the last epoch: keeps the weights of the epoch with the least validation loss.

    Attributes:
        patience: epochs without a better loss after which training ends; None = never, and no weights are kept.
        epoch: the best so far, from 1; 0 = none yet.
        loss: of that epoch.
        weights: of that epoch.
    """

    patience: int | None
    epoch: int = 0
    loss: float = float("inf")
    weights: Mapping[str, Tensor] | None = None

    def see(self, epoch: int, figures: Mapping[str, float], model: nn.Module) -> None:
        """Keep the model's weights if the loss is the least so far.

        Args:
            epoch: that has just ended, from 1.
            figures: of the validation fold; `loss` counts.
            model: whose weights are copied.
        """
        if self.patience is not None and figures["loss"] < self.loss:
            self.epoch, self.loss = epoch, figures["loss"]
            self.weights = {name: value.clone() for name, value in model.state_dict().items()}

    def is_over(self, n_epochs: int) -> bool:
        """Whether training ends after so many epochs."""
        return self.patience is not None and n_epochs - self.epoch >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Put the best weights into the model, if any are kept."""
        if self.weights is not None:
            model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The state on which the next epochs depend."""
        return {"epoch": self.epoch, "loss": self.loss, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.epoch, self.loss, self.weights = state["epoch"], state["loss"], state["weights"]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
