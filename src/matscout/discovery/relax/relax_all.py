"""Relax many crystals, one per core at a time; each result is stored at once, so that a killed run can resume."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pyarrow as pa

from matscout.crystal import Crystal
from matscout.discovery.relax.descent import Descent, descend
from matscout.engine import parallel_stream
from matscout.errors import InputError, StoreError
from matscout.params import Relaxation
from matscout.potentials.load_potential import load_potential
from matscout.potentials.potential import Potential
from matscout.resume.parts import Parts


def relax_all(
    ids: Sequence[str], crystals: Sequence[Crystal], settings: Relaxation, parts: Parts, *, workers: int
) -> list[Descent]:
    """Relax crystals side by side.

    Args:
        ids: ids of the crystals.
        crystals: the unrelaxed crystals.
        settings: the section `relaxation`.
        parts: parts of this run; crystals already in them are not relaxed again.
        workers: processes; the results do not depend on their number.

    Returns:
        One relaxation per crystal, in the given order.
    """
    todo = [(place, ids[place], crystal) for place, crystal in enumerate(crystals) if parts.table(_name(place)) is None]
    function = partial(_relax_one, settings, parts.folder.resolve())
    for _ in parallel_stream(function, todo, workers=workers, description="relaxing", unit="crystal"):
        pass
    return [_kept(parts, place) for place in range(len(crystals))]


def loaded(settings: Relaxation) -> Potential:
    """The potential named in the section, loaded once per process.

    Raises:
        InputError: no potential is named, or it is not available.
    """
    if settings.potential is None:
        raise InputError("relaxation.potential is null: name one, such as sevennet-0")
    return load_potential(settings.potential, trust_file=settings.trust_file)


def loaded_judge(settings: Relaxation) -> Potential:
    """The potential that gives the energies of the relaxed cells, loaded once per process; see `loaded`."""
    if settings.judge is None:
        return loaded(settings)
    return load_potential(settings.judge, trust_file=settings.trust_file)


def _relax_one(settings: Relaxation, folder: Path, task: tuple[int, str, Crystal]) -> None:
    place, name, crystal = task
    found = descend(name, crystal, loaded(settings), settings)
    row = asdict(found) | {"crystal": found.crystal.to_row()}
    Parts(folder).save_table(_name(place), pa.Table.from_pylist([row]))


def _kept(parts: Parts, place: int) -> Descent:
    if (table := parts.table(_name(place))) is None:
        raise StoreError(f"{parts.folder} was changed while it was read; run the stage again")
    (row,) = table.to_pylist()
    return Descent(**(row | {"crystal": Crystal.from_row(row["crystal"])}))


def _name(place: int) -> str:
    return f"descent-{place}"
