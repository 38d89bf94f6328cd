"""Relax many crystals: in batches with torch-sim where that is chosen, else side by side, one per core at a time.

Each result is stored at once, so that a killed run can resume.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pyarrow as pa

from matscout.crystal import Crystal
from matscout.discovery.relax.batched_descent import CPU, descend_together, in_batches
from matscout.discovery.relax.descent import Descent, descend, loaded, part_name
from matscout.engine import parallel_stream
from matscout.errors import StoreError
from matscout.params import Relaxation
from matscout.resume.parts import Parts

Task = tuple[str, str, Crystal]  # name of its part, id, and the crystal


def relax_all(
    ids: Sequence[str],
    crystals: Sequence[Crystal],
    settings: Relaxation,
    parts: Parts,
    *,
    workers: int,
    batches_on: str | None = None,
) -> list[Descent]:
    """Relax crystals, first in batches if so chosen; what does not come to rest there is relaxed by itself.

    Args:
        ids: ids of the crystals.
        crystals: the unrelaxed crystals.
        settings: the section `relaxation`.
        parts: parts of this run; crystals and batches already in them are not relaxed again.
        workers: processes; the results do not depend on their number.
        batches_on: the device of `batch_device`; None = no batches.

    Returns:
        One relaxation per crystal, in the given order.

    Raises:
        StoreError: the parts were changed from outside.
    """
    names = [part_name("descent", [crystal], name) for name, crystal in zip(ids, crystals, strict=True)]
    tasks: list[Task] = list(zip(names, ids, crystals, strict=True))
    folder = parts.folder.resolve()
    if batches_on is not None:
        batches = [[tasks[place] for place in places] for places in in_batches(crystals, batches_on)]
        left = [batch for batch in batches if parts.table(_batch_name(batch)) is None]
        together = partial(_relax_batch, settings, folder, batches_on)
        processes = workers if batches_on == CPU else 1
        for _ in parallel_stream(together, left, workers=processes, description="relaxing in batches", unit="batch"):
            pass
    todo = [task for task in tasks if parts.table(task[0]) is None]
    alone = partial(_relax_one, settings, folder)
    for _ in parallel_stream(alone, todo, workers=workers, description="relaxing", unit="crystal"):
        pass
    return [_kept(parts, name) for name in names]


def _relax_batch(settings: Relaxation, folder: Path, device: str, batch: Sequence[Task]) -> None:
    _, ids, crystals = zip(*batch, strict=True)
    found = descend_together(ids, crystals, loaded(settings, device), settings)
    parts = Parts(folder)
    for (part, _, _), descent in zip(batch, found, strict=True):
        if descent is not None:
            _keep(parts, part, descent)
    parts.save_table(_batch_name(batch), pa.table({"at_rest": [descent is not None for descent in found]}))  # the last


def _batch_name(batch: Sequence[Task]) -> str:
    """The part that says that a batch is finished; one that was killed is relaxed again as a whole."""
    return part_name("batch", [crystal for _, _, crystal in batch], " ".join(name for _, name, _ in batch))


def _relax_one(settings: Relaxation, folder: Path, task: Task) -> None:
    part, name, crystal = task
    _keep(Parts(folder), part, descend(name, crystal, loaded(settings), settings))


def _keep(parts: Parts, name: str, descent: Descent) -> None:
    parts.save_table(name, pa.Table.from_pylist([asdict(descent) | {"crystal": descent.crystal.to_row()}]))


def _kept(parts: Parts, name: str) -> Descent:
    if (table := parts.table(name)) is None:
        raise StoreError(f"{parts.folder} was changed while it was read; run the stage again")
    (row,) = table.to_pylist()
    return Descent(**(row | {"crystal": Crystal.from_row(row["crystal"])}))
