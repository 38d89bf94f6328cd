"""One member's training shared by several processes, each on its GPU or cores, through torch's own launcher.

All hold the whole model and take the same steps: each works out the gradient of its part of a batch, and the
parts' gradients are added up over the processes, so that a step is that of one process up to rounding. The first
process alone validates, writes checkpoints and tells the tracker.

`DistributedDataParallel` sends gradients while they are still computed. Here they go once a step, when all are there: a
process that has to take its part in several passes (see `Trainer`) could not send them earlier, and they
are a few megabytes.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as group
from torch import nn

from matscout.errors import TrainingError
from matscout.training.loop.batch_parts import Batch
from matscout.training.loop.trainer import Trainer
from matscout.training.training_plan import Plan

T = TypeVar("T")

INPUTS = ("graphs", "split", "materials")


def is_shared() -> bool:
    """Whether this process is one of several that share a training."""
    return group.is_available() and group.is_initialized()


def is_first() -> bool:
    """Whether this process is the one that writes; true where it is the only one."""
    return not is_shared() or group.get_rank() == 0


def only_first(manager: AbstractContextManager[T]) -> AbstractContextManager[T]:
    """Enter `manager` in the first process; the others get nothing, and must not ask for it."""
    return manager if is_first() else nullcontext()  # type: ignore[return-value]


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, in all processes."""
    if not is_shared():
        return make()
    box = [make() if is_first() else None]
    group.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[return-value]


class SharedTrainer(Trainer):
    """A trainer that is one of several; their models stay alike."""

    def fit(
        self,
        batches: Callable[[int], Iterable[Batch]],
        validate: Callable[[nn.Module], Mapping[str, float]],
        callbacks: Sequence[Callable[[Trainer], None]] = (),
    ) -> None:
        """As `Trainer.fit`, with `validate` and `callbacks` in the first process only."""

        def validate_once(model: nn.Module) -> Mapping[str, float]:
            return from_first(lambda: dict(validate(model)))

        super().fit(batches, validate_once, callbacks if is_first() else ())

    def _gradients(self, batch: Batch, epoch: int) -> float:
        rank, size = group.get_rank(), group.get_world_size()
        start, stop = batch.n_rows * rank // size, batch.n_rows * (rank + 1) // size
        if start == stop:  # fewer rows than processes
            self.optimizer.zero_grad(set_to_none=True)
            return _add_up(self.model, 0.0)
        return _add_up(self.model, super()._gradients(batch.part(start, stop), epoch))


def _add_up(model: nn.Module, loss: float) -> float:
    """Replace every gradient by its sum over the processes; return the sum of their losses."""
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learnt]
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), gradients[0].new_tensor([loss])])
    group.all_reduce(flat)
    *sums, total = flat.split([*(gradient.numel() for gradient in gradients), 1])
    for parameter, values in zip(learnt, sums, strict=True):
        parameter.grad = values.view_as(parameter)
    return total.item()


def launch(plan: Plan, **inputs: Path) -> None:
    """Train to the last checkpoint in `compute.processes` processes; `inputs` are graphs, split and materials.

    Raises:
        TrainingError: one of them failed; what it said.
    """
    compute = plan.params.compute
    with tempfile.TemporaryDirectory() as folder:
        settings, complaint = Path(folder) / "plan.json", Path(folder) / "error"
        settings.write_text(json.dumps(plan.to_json()))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(compute.processes), "-m", "matscout.training.shared_process"]
        command += [str(settings), str(complaint), *(str(inputs[key].resolve()) for key in INPUTS)]
        environment = os.environ | {"OMP_NUM_THREADS": str(compute.threads)}
        code = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 -- fixed arguments
        if code:
            told = complaint.read_text() if complaint.exists() else f"torch.distributed.run left with code {code}"
            raise TrainingError(f"train {plan.name} in {compute.processes} processes: {told}")
