"""Which rows can be used at all: whole cells, atoms apart, labels that are numbers in physical ranges."""

import math
from itertools import product

import moyopy
import numpy as np

from matscout import columns
from matscout.crystal import ATOMIC_NUMBERS, Crystal
from matscout.params import Validity
from matscout.sources.record import Record

IMAGES = np.array(list(product((-1, 0, 1), repeat=3)), dtype=np.float64)  # (27, 3)
LONGEST_VECTOR = 1e4  # Å, as in `graphs.cells`: beyond, a row would stop the neighbour search of all
SMALLEST_VOLUME = 1e-3  # Å³: below this three vectors span no cell

RANGED = (columns.FORMATION_ENERGY, columns.BAND_GAP, columns.BULK_MODULUS, columns.SHEAR_MODULUS)  # as in `Validity`

# (reason, detail): a short code that is counted, and the value with its rule and remedy
Fault = tuple[str, str]


def find_fault(record: Record, limits: Validity) -> Fault | None:
    """The first rule that `record` breaks, cheap rules before dear ones; None for a usable row."""
    return _label_fault(record, limits) or _cell_fault(record.crystal, limits)


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


def _label_fault(record: Record, limits: Validity) -> Fault | None:
    for label in columns.LABELS:
        value = getattr(record, label)
        if value is not None and not math.isfinite(value):
            return "label_not_finite", f"{label} = {value}: labels are finite numbers or absent; mend or drop the row"
    for label in RANGED:
        low, high = getattr(limits, label)
        value = getattr(record, label)
        if value is not None and not low <= value <= high:
            unit = columns.UNITS[label]
            rule = f"outside curation.validity.{label} = [{low:g}, {high:g}] {unit}"
            return f"{label}_out_of_range", f"{label} = {value:g} {unit}: {rule}; check the unit or widen the range"
    return None


def _cell_fault(crystal: Crystal, limits: Validity) -> Fault | None:
    n_atoms = crystal.n_atoms
    if n_atoms == 0:
        return "no_atoms", "the cell holds no atom; drop the row"
    if n_atoms > limits.max_atoms:
        return "too_many_atoms", f"{n_atoms} atoms: more than curation.validity.max_atoms = {limits.max_atoms}"
    unknown = sorted({symbol for symbol in crystal.species if symbol not in ATOMIC_NUMBERS})
    if unknown:
        return "unknown_element", f"species {unknown}: no elements; use symbols from H to Og"
    if crystal.lattice.shape != (3, 3) or crystal.frac_coords.shape != (n_atoms, 3):
        shapes = f"lattice {crystal.lattice.shape}, frac_coords {crystal.frac_coords.shape}, {n_atoms} species"
        return "shapes_disagree", f"{shapes}: expected (3, 3) and ({n_atoms}, 3); the row is cut off"
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all()):
        return "cell_not_finite", "lattice or coordinates hold NaN or infinity; drop the row"
    return _lattice_fault(crystal, limits) or _distance_fault(crystal, limits)


def _lattice_fault(crystal: Crystal, limits: Validity) -> Fault | None:
    longest = np.linalg.norm(crystal.lattice, axis=1).max()
    if longest > LONGEST_VECTOR:
        rule = f"at most {LONGEST_VECTOR:g} Å, or coordinates lose their digits; reduce the cell (Niggli) and try again"
        return "lattice_too_skewed", f"the longest lattice vector has {longest:.3g} Å: {rule}"
    if crystal.volume < SMALLEST_VOLUME:
        return "zero_volume", f"cell volume {crystal.volume:.2g} Å³: the lattice vectors lie in a plane; drop the row"
    low, high = limits.volume_per_atom
    volume = crystal.volume / crystal.n_atoms
    if not low <= volume <= high:
        rule = f"outside curation.validity.volume_per_atom = [{low:g}, {high:g}]"
        return "volume_per_atom_out_of_range", f"{volume:.3g} Å³/atom: {rule}; check the unit of the lattice"
    return None


def _distance_fault(crystal: Crystal, limits: Validity) -> Fault | None:
    distance = shortest_distance(crystal, limits.min_distance)
    if distance < limits.min_distance:
        rule = f"below curation.validity.min_distance = {limits.min_distance:g} Å"
        return "atoms_overlap", f"two atoms {distance:.3f} Å apart: {rule}; the same site may be listed twice"
    return None
