"""The training loop: it knows neither the architecture nor the tracker nor what a crystal is."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from matscout.errors import DivergedError
from matscout.progress import progress
from matscout.training.averaging import WeightAverage
from matscout.training.schedule import one_cycle

DIVERGED = 1e4  # losses are standardised: an untrained model's is about 1 a target
N_IDS_SHOWN = 5


class Batch(Protocol):
    """What the loop needs to know of a batch."""

    @property
    def inputs(self) -> Any:
        """What the model is called with."""

    @property
    def material_ids(self) -> Sequence[str]:
        """Names of the rows, for messages."""
        ...

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        ...


@dataclass(frozen=True)
class Recipe:
    """How to optimise; fields as in `params.Model` and `params.MemberTraining`, `lr` with its scale."""

    epochs: int
    lr: float
    weight_decay: float
    grad_clip: float
    averaging: float
    warmup: float


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave. All but `data_wait_share` is the same in every run."""

    epoch: int
    train_loss: float
    lr: float
    validation: Mapping[str, float]
    data_wait_share: float


class Trainer:
    """Fits a model with AdamW, one-cycle learning rate, clipped gradients and averaged weights.

    The result is the *last* averaged weights (`trainer.averaged`), never the epoch that happened to do
    best on the validation rows: the learning rate ends near zero, so that the last epoch is within
    noise of the best, and the validation rows stay unselected for the calibration that follows.

    Args:
        model: module to train, in place.
        loss: (model output, batch) -> scalar.
        recipe: how to optimise.
        steps_per_epoch: batches in one epoch.
        name: shown beside the progress bar and in errors.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        recipe: Recipe,
        *,
        steps_per_epoch: int,
        name: str = "training",
    ) -> None:
        self.model, self.loss, self.recipe, self.name = model, loss, recipe, name
        self.steps_per_epoch = steps_per_epoch
        self.average = WeightAverage(model, recipe.averaging)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
        self.step = 0
        self.history: list[EpochRecord] = []

    @property
    def averaged(self) -> nn.Module:
        """The model with averaged weights, in evaluation mode."""
        return self.average.model

    def fit(
        self,
        batches: Callable[[int], Iterable[Batch]],
        validate: Callable[[nn.Module], Mapping[str, float]],
        callbacks: Sequence[Callable[["Trainer"], None]] = (),
    ) -> None:
        """Train the epochs that `history` does not hold yet.

        Args:
            batches: epoch -> its batches; must depend on the epoch alone, so that a resumed run sees
                the same ones.
            validate: averaged model -> figures of the epoch; the bar shows the first.
            callbacks: called in order after each epoch; they find it in `history[-1]`.

        Raises:
            DivergedError: a loss or gradient is not finite or beyond reason; names the batch's rows.
        """
        total = self.recipe.epochs * self.steps_per_epoch
        with progress(description=self.name, total=total, unit="step") as bar:
            bar.n = bar.initial = self.step  # so that rate and time left count this run's steps only
            for epoch in range(len(self.history), self.recipe.epochs):
                train_loss, data_wait_share = self._run_epoch(epoch, batches(epoch), bar)
                figures = dict(validate(self.averaged))
                self.history.append(EpochRecord(epoch, train_loss, self._lr(), figures, data_wait_share))
                shown = {key: f"{value:.3f}" for key, value in list(figures.items())[:1]}  # a line has 100 columns
                bar.set_postfix({"epoch": f"{epoch + 1}/{self.recipe.epochs}", **shown}, refresh=False)
                for callback in callbacks:
                    callback(self)

    def _run_epoch(self, epoch: int, batches: Iterable[Batch], bar: Any) -> tuple[float, float]:
        """Mean loss over the rows, and the share of the time spent waiting for batches."""
        self.model.train()
        total, n_rows, waited = 0.0, 0, 0.0
        begun = asked = time.perf_counter()
        for batch in batches:
            waited += time.perf_counter() - asked
            total += self._step(batch, epoch) * batch.n_rows
            n_rows += batch.n_rows
            bar.update(1)
            asked = time.perf_counter()
        return total / n_rows, waited / (asked - begun)

    def _step(self, batch: Batch, epoch: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.model(batch.inputs), batch)
        value = loss.item()
        self._check("loss", value, batch, epoch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.grad_clip)
        self._check("gradient norm", norm.item(), batch, epoch)
        self.optimizer.step()
        self.average.update(self.model)
        self.step += 1
        return value

    def _lr(self) -> float:
        total = self.recipe.epochs * self.steps_per_epoch
        return one_cycle(self.step, total=total, peak=self.recipe.lr, warmup=self.recipe.warmup)

    def _check(self, what: str, value: float, batch: Batch, epoch: int) -> None:
        if math.isfinite(value) and (what != "loss" or value < DIVERGED):
            return
        ids = ", ".join(batch.material_ids[:N_IDS_SHOWN])
        more = f" and {batch.n_rows - N_IDS_SHOWN} more" if batch.n_rows > N_IDS_SHOWN else ""
        raise DivergedError(
            f"{self.name}: {what} = {value:g} in epoch {epoch + 1}, step {self.step + 1}, on the batch of {ids}{more}; "
            f"it must be finite and a loss below {DIVERGED:g}. Look at these rows' labels and geometry, "
            f"or lower model.lr ({self.recipe.lr:g} here) or model.grad_clip ({self.recipe.grad_clip:g})"
        )

    def state_dict(self) -> dict[str, Any]:
        """All that the coming epochs depend on: weights, averages, optimizer, step, random state, history."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "n_averaged": self.average.n_updates,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "history": [asdict(record) for record in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken."""
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.average.n_updates = state["n_averaged"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.history = [EpochRecord(**record) for record in state["history"]]
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available():  # this machine may have fewer cards than the one that saved
            torch.cuda.set_rng_state_all(state["random_cuda"][: torch.cuda.device_count()])
