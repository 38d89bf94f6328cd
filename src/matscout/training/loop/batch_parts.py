"""What the loop needs to know about a batch, and how it splits one."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self

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


def parts(batch: Batch, most_rows: int | None) -> Iterator[Batch]:
    """The batch in nearly equal parts of at most so many rows; the batch itself if it is one part."""
    n_parts = math.ceil(batch.n_rows / most_rows) if most_rows else 1
    if n_parts == 1:
        yield batch
        return
    for number in range(n_parts):
        yield batch.part(batch.n_rows * number // n_parts, batch.n_rows * (number + 1) // n_parts)


def named(batch: Batch) -> str:
    """The first few rows' names and how many more there are."""
    ids = ", ".join(batch.material_ids[:N_IDS_SHOWN])
    return ids + (f" and {batch.n_rows - N_IDS_SHOWN} more" if batch.n_rows > N_IDS_SHOWN else "")
