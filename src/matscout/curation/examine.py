"""Look at each row once: its first fault, or its formula, content key and reduced cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from matscout.curation.reduction import ReducedCell, content_key, reduce_crystal
from matscout.curation.validity import Fault, find_fault
from matscout.engine import parallel_map
from matscout.params import Validity
from matscout.sources.record import Record

CHUNK_ROWS = 200


@dataclass(frozen=True)
class Examined:
    """What curation derives from a usable row's crystal."""

    formula: str
    content: str
    reduced: ReducedCell


def examine(records: Sequence[Record], limits: Validity, symprec: float, *, workers: int) -> list[Examined | Fault]:
    """One result per record, in order."""
    chunks = [records[start : start + CHUNK_ROWS] for start in range(0, len(records), CHUNK_ROWS)]
    function = partial(_examine_chunk, limits=limits, symprec=symprec)
    results = parallel_map(function, chunks, workers=workers, description="checking rows")
    return [result for chunk in results for result in chunk]


def _examine_chunk(records: Sequence[Record], limits: Validity, symprec: float) -> list[Examined | Fault]:
    return [_examine_one(record, limits, symprec) for record in records]


def _examine_one(record: Record, limits: Validity, symprec: float) -> Examined | Fault:
    fault = find_fault(record, limits)
    if fault is not None:
        return fault
    try:
        reduced = reduce_crystal(record.crystal, symprec)
    except ValueError as error:
        return "no_symmetry", f"no reduced cell or space group at {symprec:g} Å ({error}); check the coordinates"
    return Examined(record.crystal.reduced_formula, content_key(record.crystal), reduced)
