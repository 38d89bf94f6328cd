"""An exponential moving average of a model's weights: the last epochs of one run as an ensemble."""

import copy
from typing import Generic, TypeVar

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


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
