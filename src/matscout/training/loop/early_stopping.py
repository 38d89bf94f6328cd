"""When to stop before the last epoch, and which weights are then the result."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class EarlyStopping:
    """Keeps the weights of the epoch with the least validation loss.

    Attributes:
        patience: epochs without a better loss after which training is over; null = never, and nothing is kept.
        epoch: the best so far, from 1; 0 = none yet.
        loss: of that epoch.
        weights: of that epoch.
    """

    patience: int | None
    epoch: int = 0
    loss: float = float("inf")
    weights: Mapping[str, Tensor] | None = None

    def see(self, epoch: int, figures: Mapping[str, float], model: nn.Module) -> None:
        """Keep the model's weights if `figures["loss"]` is the least so far; epochs count from 1."""
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
        """What the coming epochs depend on."""
        return {"epoch": self.epoch, "loss": self.loss, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.epoch, self.loss, self.weights = state["epoch"], state["loss"], state["weights"]
