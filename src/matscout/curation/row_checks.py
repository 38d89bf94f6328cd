"""Check each row once: its rejection, or its formula, content key and reduced cell.

A usable row has a complete cell without overlapping atoms, and finite labels in physical ranges.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from types import MappingProxyType
from typing import Final

import moyopy
import numpy as np

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import MIN_DISTANCE, Rejection, find_rejection
from matscout.curation.structure_matching import ReducedCell, content_key, reduce_crystal
from matscout.engine import parallel_stream
from matscout.params import Validity
from matscout.sources.record import Record

CHUNK_ROWS: Final = 200
KEEP_CELLS: Final = 4_000  # half a minute of one core
NOTHING_KNOWN: Final[Mapping[str, ReducedCell]] = MappingProxyType({})


@dataclass(frozen=True)
class Examined:
    """The properties that curation derives from a usable row's crystal."""

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
        keep: called from time to time with the new reduced cells, so that a killed run need not reduce them again; None
            = not called.

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


IMAGES = np.array(list(product((-1, 0, 1), repeat=3)), dtype=np.float64)  # (27, 3)

RANGED = (columns.FORMATION_ENERGY, columns.BAND_GAP, columns.BULK_MODULUS, columns.SHEAR_MODULUS)  # as in `Validity`


def reject_unphysical(record: Record, limits: Validity) -> Rejection | None:
    """The first limit that a row breaks, cheap checks first; None for a usable row.

    Args:
        record: one row of a database.
        limits: limits of the training set, narrower than those of `crystal_checks`.
    """
    reason = _label_problem(record, limits) or _cell_problem(record.crystal, limits)
    return None if reason is None else record.reject(*reason)


def shortest_distance(crystal: Crystal, limit: float) -> float:
    """Smallest distance between two atoms or an atom and its own image, Å; exact where below `limit`.

    In a Niggli-reduced basis a vector shorter than half the smallest height between lattice planes
    has all fractional components within ±1/2, so the wrapped difference is the only candidate;
    thinner cells are searched over 27 images.
    """
    reduced, transformation = moyopy.niggli_reduce(crystal.lattice.tolist())
    lattice = np.asarray(reduced)
    frac = crystal.frac_coords @ np.linalg.inv(np.asarray(transformation).T)
    first, second = np.triu_indices(crystal.n_atoms, k=1)
    difference = frac[first] - frac[second]
    difference -= np.round(difference)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    shifts = IMAGES if heights.min() < 2 * limit else np.zeros((1, 3))
    self_image = float(np.linalg.norm(lattice, axis=1).min())
    nearest = [np.linalg.norm((difference + shift) @ lattice, axis=1).min(initial=math.inf) for shift in shifts]
    return min(self_image, float(min(nearest)))


def _label_problem(record: Record, limits: Validity) -> tuple[str, str] | None:
    for label, value in [*((label, getattr(record, label)) for label in columns.LABELS), *record.own_labels.items()]:
        if value is not None and not math.isfinite(value):
            return "label_not_finite", f"{label} = {value}: labels must be finite or absent; correct or drop the row"
    for label in RANGED:
        low, high = getattr(limits, label)
        value = getattr(record, label)
        if value is not None and not low <= value <= high:
            unit = columns.UNITS[label]
            rule = f"outside curation.validity.{label} = [{low:g}, {high:g}] {unit}"
            return f"{label}_out_of_range", f"{label} = {value:g} {unit}: {rule}; check the unit or widen the range"
    return None


def _cell_problem(crystal: Crystal, limits: Validity) -> tuple[str, str] | None:
    n_atoms = crystal.n_atoms
    if n_atoms > limits.max_atoms:
        return "too_many_atoms", f"{n_atoms} atoms: more than curation.validity.max_atoms = {limits.max_atoms}"
    if (rejection := find_rejection(crystal)) is not None:
        return rejection.reason, rejection.detail
    low, high = limits.volume_per_atom
    volume = crystal.volume / n_atoms
    if not low <= volume <= high:
        rule = f"outside curation.validity.volume_per_atom = [{low:g}, {high:g}]"
        return "volume_per_atom_out_of_range", f"{volume:.3g} Å³/atom: {rule}; check the unit of the lattice"
    least = max(limits.min_distance, MIN_DISTANCE)
    distance = shortest_distance(crystal, least)
    if distance < least:
        rule = f"below curation.validity.min_distance = {limits.min_distance:g} Å"
        if least > limits.min_distance:
            rule = f"below {least:g} Å, the smallest distance that a graph can have"
        return "atoms_overlap", f"two atoms {distance:.3f} Å apart: {rule}; the same site may be listed twice"
    return None
