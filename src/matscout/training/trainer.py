"""The training loop, independent of architecture, tracker and crystals.

Learning rates depend only on the step, so a checkpoint needs no state of a schedule. The resulting weights are an
average over the last steps or, on request, those of the best epoch.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from matscout.errors import DivergedError
from matscout.models.short_memory import in_parts_that_fit
from matscout.params import MemberTraining, Recipe
from matscout.progress import progress
from matscout.training.processes import Alone, Batch, Processes, named

ALONE = Alone()
DIVERGED = 1e4  # losses are standardised: an untrained model's is about 1 a target


@dataclass(frozen=True)
class Optimisation:
    """How one model is optimised: the recipe of all members, with this one's epochs and its scale of `lr`."""

    epochs: int
    lr: float
    weight_decay: float
    grad_clip: float
    averaging: float
    warmup: float
    schedule: str = "one_cycle"
    early_stopping: int | None = None

    @classmethod
    def of(cls, recipe: Recipe, own: MemberTraining) -> Self:
        """From the section `model` and a member's `training`."""
        return cls(
            epochs=own.epochs,
            lr=recipe.lr * own.lr_scale,
            weight_decay=recipe.weight_decay,
            grad_clip=recipe.grad_clip,
            averaging=recipe.averaging,
            warmup=recipe.warmup,
            schedule=recipe.schedule,
            early_stopping=recipe.early_stopping,
        )


@dataclass(frozen=True)
class EpochRecord:
    """The figures of one epoch. All but `data_wait_share` are the same in every run."""

    epoch: int
    train_loss: float
    lr: float
    validation: Mapping[str, float]
    data_wait_share: float


class Trainer:
    """Fits a model with AdamW, a scheduled learning rate, clipped gradients and averaged weights.

    The result is the *last* averaged weights (`trainer.averaged`), never the epoch that happened to do best on the
    validation rows: the learning rate ends near zero, so that the last epoch is within noise of the best, and the
    validation rows stay unselected for the calibration that follows. `early_stopping` gives this up to save time: the
    result is then the averaged weights of the best epoch.

    A batch that does not fit into memory is taken in parts, whose gradients add up to its own.

    Args:
        model: module to train, in place.
        loss: (model output, batch) -> scalar.
        how: learning rate, epochs and what else decides the steps.
        steps_per_epoch: batches in one epoch.
        processes: that take the steps together; their models stay alike.
        name: shown beside the progress bar and in errors.
        forward: how the model is called in training; None = directly.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Tensor],
        how: Optimisation,
        *,
        steps_per_epoch: int,
        processes: Processes = ALONE,
        name: str = "training",
        forward: Callable[[Any], Any] | None = None,
    ) -> None:
        self.model, self.loss, self.how, self.name = model, loss, how, name
        self.processes = processes
        self.forward = forward or model
        self.steps_per_epoch = steps_per_epoch
        self.average = WeightAverage(model, how.averaging)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=how.lr, weight_decay=how.weight_decay, fused=True)
        self.stopping = EarlyStopping(how.early_stopping)
        self.most_rows: int | None = None  # that fitted into memory at once
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
            validate: averaged model -> figures of the epoch; the bar shows the first, `early_stopping` reads `loss`.
                The first of the processes calls it.
            callbacks: called in order after each epoch, by the first of the processes; they find it in `history[-1]`.

        Raises:
            DivergedError: a loss or gradient is not finite or beyond reason; names the batch's rows.
            InputError: a row alone does not fit into memory; names it.
        """
        total = self.how.epochs * self.steps_per_epoch
        with progress(description=self.name, total=total, done=self.step, unit="step") as bar:
            for epoch in range(len(self.history), self.how.epochs):
                if self.stopping.is_over(epoch):
                    break
                train_loss, data_wait_share = self._run_epoch(epoch, batches(epoch), bar)
                figures = self.processes.from_first(lambda: dict(validate(self.averaged)))
                self.history.append(EpochRecord(epoch, train_loss, self._lr(), figures, data_wait_share))
                self.stopping.see(epoch + 1, figures, self.averaged)
                shown = {key: f"{value:.3f}" for key, value in list(figures.items())[:1]}  # a line has 100 columns
                bar.set_postfix({"epoch": f"{epoch + 1}/{self.how.epochs}", **shown}, refresh=False)
                for callback in callbacks if self.processes.is_first else ():
                    callback(self)
        self.stopping.restore(self.averaged)

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
        value = self._gradients(batch, epoch)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.how.grad_clip)
        self._check("gradient norm", norm.item(), batch, epoch)
        self.optimizer.step()
        self.average.update(self.model)
        self.step += 1
        return value

    def _gradients(self, batch: Batch, epoch: int) -> float:
        """Set the gradients of the batch's loss, over all processes; return the loss."""
        share, loss = self.processes.share_of(batch), 0.0
        if share is None:
            self.optimizer.zero_grad(set_to_none=True)
        else:
            loss = self._own_gradients(share, epoch)
        return self.processes.add_up(self.model, loss)

    def _own_gradients(self, batch: Batch, epoch: int) -> float:
        """Set the gradients of this process's rows, in parts where they need too much memory; return their loss."""

        def add_gradients(start: int, stop: int) -> float:
            if start == 0:  # a part that failed may have left some
                self.optimizer.zero_grad(set_to_none=True)
            return self._backward(batch.part(start, stop) if stop - start < batch.n_rows else batch, epoch)

        losses, self.most_rows = in_parts_that_fit(add_gradients, batch.material_ids, self.most_rows, name=self.name)
        return sum(losses)

    def _backward(self, part: Batch, epoch: int) -> float:
        loss = self.loss(self.forward(part.inputs), part)
        value = loss.item()
        self._check("loss", value, part, epoch)
        loss.backward()
        return value

    def _lr(self) -> float:
        total = self.how.epochs * self.steps_per_epoch
        schedule = SCHEDULES[self.how.schedule]
        return schedule(self.step, total=total, peak=self.how.lr, warmup=self.how.warmup)

    def _check(self, what: str, value: float, batch: Batch, epoch: int) -> None:
        if math.isfinite(value) and (what != "loss" or value < DIVERGED):
            return
        raise DivergedError(
            f"{self.name}: {what} = {value:g} in epoch {epoch + 1}, step {self.step + 1}, on the batch of "
            f"{named(batch)}; it must be finite and a loss below {DIVERGED:g}. Look at these rows' labels and "
            f"geometry, or lower model.lr ({self.how.lr:g} here) or model.grad_clip ({self.how.grad_clip:g})"
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything on which the next epochs depend: weights, averages, optimizer, step, random state, history."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "n_averaged": self.average.n_updates,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "most_rows": self.most_rows,
            "stopping": self.stopping.state_dict(),
            "history": [asdict(record) for record in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.average.n_updates = state["n_averaged"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.most_rows = state["step"], state["most_rows"]
        self.stopping.load_state_dict(state["stopping"])
        self.history = [EpochRecord(**record) for record in state["history"]]
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available():  # this machine may have fewer cards than the one that saved
            torch.cuda.set_rng_state_all(state["random_cuda"][: torch.cuda.device_count()])


START_DIVISOR = 25.0  # peak over first learning rate
END_DIVISOR = 1e4  # peak over last learning rate


def one_cycle(step: int, *, total: int, peak: float, warmup: float) -> float:
    """Learning rate of `step` in [0, total): a cosine rise to `peak`, then a cosine fall to almost zero.

    Smith & Topin, "Super-convergence" (2019), in the two-phase form of fastai.

    Args:
        step: index of the optimisation step, from 0.
        total: number of steps of the whole training.
        peak: largest learning rate.
        warmup: share of the steps before the peak.

    Returns:
        The learning rate, positive.
    """
    rise = warmup * total
    if step < rise:
        return _cosine(peak / START_DIVISOR, peak, step / rise)
    return _cosine(peak, peak / END_DIVISOR, (step - rise) / max(total - 1 - rise, 1))


def cosine(step: int, *, total: int, peak: float, warmup: float) -> float:
    """Learning rate of `step` in [0, total): a straight rise to `peak`, then half a cosine down to zero at `total`.

    Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017), eq. 5, with one period.

    Arguments and result as in `one_cycle`.
    """
    rise = warmup * total
    if step < rise:
        return peak * (step + 1) / (math.ceil(rise) + 1)
    return _cosine(peak, 0.0, (step - rise) / max(total - rise, 1))


SCHEDULES: Final[dict[str, Callable[..., float]]] = {"one_cycle": one_cycle, "cosine": cosine}


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


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
        """Restore the state that `state_dict` returned."""
        self.epoch, self.loss, self.weights = state["epoch"], state["loss"], state["weights"]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
