"""The processes that share a training: a single one, or a group, each on its own GPU or cores.

Every process of a group holds the whole model and takes the same steps: it computes the gradient of its part of a
batch, and these gradients are summed over the processes. A step is therefore that of a single process, up to rounding.
Only the first process validates, writes checkpoints and sends curves to the tracker.

`DistributedDataParallel` sends gradients while others are still being computed. Here they are sent once a step, a few
megabytes at a time, because a process that takes its part in several passes (see `Trainer`) has them only at the end.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, Self, TypeVar

import torch
import torch.distributed as group
from torch import nn

N_IDS_SHOWN = 5


class Batch(Protocol):
    """Some rows with their labels."""

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

    def part(self, start: int, stop: int) -> Self:
        """The rows `start` to `stop` - 1; the losses of a batch's parts add up to the batch's."""
        ...


def named(batch: Batch) -> str:
    """The first few rows' names and how many more there are."""
    ids = ", ".join(batch.material_ids[:N_IDS_SHOWN])
    return ids + (f" and {batch.n_rows - N_IDS_SHOWN} more" if batch.n_rows > N_IDS_SHOWN else "")


T = TypeVar("T")


class Processes(Protocol):
    """The processes that take the steps of one training together."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        ...

    def from_first(self, make: Callable[[], T]) -> T:
        """The result of the first process, in all processes."""
        ...

    def only_first(self, manager: AbstractContextManager[T]) -> AbstractContextManager[T]:
        """Enter `manager` in the first process; the others get nothing, and must not use it."""
        ...

    def share_of(self, batch: Batch) -> Batch | None:
        """This process's rows of a batch; None where there are fewer rows than processes."""
        ...

    def add_up(self, model: nn.Module, loss: float) -> float:
        """Replace every gradient by its sum over the processes; return the sum of their losses."""
        ...


class Alone:
    """One process that takes every step by itself."""

    is_first = True

    def from_first(self, make: Callable[[], T]) -> T:
        """See `Processes`."""
        return make()

    def only_first(self, manager: AbstractContextManager[T]) -> AbstractContextManager[T]:
        """See `Processes`."""
        return manager

    def share_of(self, batch: Batch) -> Batch:
        """See `Processes`."""
        return batch

    def add_up(self, model: nn.Module, loss: float) -> float:  # noqa: ARG002 -- there is nobody to add to
        """See `Processes`."""
        return loss


class Group:
    """The processes of `torch.distributed`, which this one has joined."""

    def __init__(self) -> None:
        self._rank, self._size = group.get_rank(), group.get_world_size()

    @property
    def is_first(self) -> bool:
        """See `Processes`."""
        return self._rank == 0

    def from_first(self, make: Callable[[], T]) -> T:
        """See `Processes`."""
        box = [make() if self.is_first else None]
        group.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]

    def only_first(self, manager: AbstractContextManager[T]) -> AbstractContextManager[T]:
        """See `Processes`."""
        return manager if self.is_first else nullcontext()  # type: ignore[return-value]

    def share_of(self, batch: Batch) -> Batch | None:
        """See `Processes`."""
        start, stop = batch.n_rows * self._rank // self._size, batch.n_rows * (self._rank + 1) // self._size
        return batch.part(start, stop) if start < stop else None

    def add_up(self, model: nn.Module, loss: float) -> float:
        """See `Processes`."""
        learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learnt]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), gradients[0].new_tensor([loss])])
        group.all_reduce(flat)
        *sums, total = flat.split([*(gradient.numel() for gradient in gradients), 1])
        for parameter, values in zip(learnt, sums, strict=True):
            parameter.grad = values.view_as(parameter)
        return total.item()
