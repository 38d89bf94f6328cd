"""Check each row once: its rejection, or its formula, content key and reduced cell."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from matscout.crystal_checks import Rejection
from matscout.curation.duplicates.reduced_cell import ReducedCell, content_key, reduce_crystal
from matscout.curation.validity import reject_unphysical
from matscout.engine import parallel_stream
from matscout.params import Validity
from matscout.sources.record import Record

CHUNK_ROWS: Final = 200
KEEP_CELLS: Final = 4_000  # half a minute of one core
NOTHING_KNOWN: Final[Mapping[str, ReducedCell]] = MappingProxyType({})


@dataclass(frozen=True)
class Examined:
    """What curation derives from a usable row's crystal."""

    formula: str
    content: str
    reduced: ReducedCell


def examine(
    records: Sequence[Record],
    limits: Validity,
    symprec: float,
    *,
    workers: int,
    known: Mapping[str, ReducedCell] = NOTHING_KNOWN,
    keep: Callable[[Mapping[str, ReducedCell]], None] | None = None,
) -> list[Examined | Rejection]:
    """Check every record and reduce its cell.

    Args:
        records: rows of all databases.
        limits: physical limits.
        symprec: tolerance of the space group, Å.
        workers: processes; the result does not depend on it.
        known: content key -> reduced cell, of crystals that were reduced before.
        keep: called now and then with the cells reduced since, so that a killed run need not reduce them again; None =
            not called.

    Returns:
        One result per record, in order.
    """
    items = [(record, known.get(content_key(record.crystal))) for record in records]
    chunks = [items[start : start + CHUNK_ROWS] for start in range(0, len(items), CHUNK_ROWS)]
    function = partial(_examine_chunk, limits=limits, symprec=symprec)
    results: list[Examined | Rejection] = []
    fresh: dict[str, ReducedCell] = {}
    for chunk in parallel_stream(function, chunks, workers=workers, description="checking rows"):
        results += chunk
        fresh |= {one.content: one.reduced for one in chunk if isinstance(one, Examined) and one.content not in known}
        if keep is not None and len(fresh) >= KEEP_CELLS:
            keep(fresh)
            fresh = {}
    return results


def _examine_chunk(
    items: Sequence[tuple[Record, ReducedCell | None]], limits: Validity, symprec: float
) -> list[Examined | Rejection]:
    return [_examine_one(record, reduced, limits, symprec) for record, reduced in items]


def _examine_one(record: Record, reduced: ReducedCell | None, limits: Validity, symprec: float) -> Examined | Rejection:
    if (rejection := reject_unphysical(record, limits)) is not None:
        return rejection
    try:
        reduced = reduced or reduce_crystal(record.crystal, symprec)
    except ValueError as error:
        detail = f"no reduced cell or space group at {symprec:g} Å ({error}); check the coordinates"
        return record.reject("no_symmetry", detail)
    return Examined(record.crystal.reduced_formula, content_key(record.crystal), reduced)
