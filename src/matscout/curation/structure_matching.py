"""Reduced cells, and whether two of them are the same material.

A crystal's reduced cell, primitive and Niggli-reduced, does not depend on how the crystal was written down. pymatgen's
matcher compares the arrangements of atoms, in both directions because it is directional. It is tolerant: it matches
cubic and polar BaTiO3. Two cells are therefore the same material only if their space groups agree too. However, strain
and noise below the tolerance can change the space group that is found, so a difference counts only if the two cells
really differ by that much.
"""

import hashlib
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import moyopy
import numpy as np
from pymatgen.core import Structure

from matscout.crystal import Crystal
from matscout.curation.lattice_mappings import Arrangement, Tolerances, at_one_volume, best_mapping
from matscout.curation.lattice_mappings import matches as same_arrangement
from matscout.params import Matching

# moyopy warns, for each crystal, that a supercell hides symmetry operations, which does not matter here
logging.getLogger("moyo").setLevel(logging.ERROR)


PRIMITIVE_TOLERANCE: Final = 0.25  # Å, pymatgen's
ROUNDING: Final = 1e-8  # fractional

# The matcher compares cells of one formula and one number of atoms only: such a block is closed under matching.
Block = tuple[str, int]


@dataclass(frozen=True)
class ReducedCell:
    """What the matcher needs of one crystal.

    Attributes:
        crystal: the primitive, Niggli-reduced cell.
        space_group: number (1-230) of the cell as published, at the tolerance asked for.
    """

    crystal: Crystal
    space_group: int

    @property
    def block(self) -> Block:
        """Reduced formula and atoms in the primitive cell."""
        return self.crystal.reduced_formula, self.crystal.n_atoms

    @property
    def volume_per_atom(self) -> float:
        """Å³ per atom."""
        return self.crystal.volume / self.crystal.n_atoms


def reduce_crystal(crystal: Crystal, symprec: float) -> ReducedCell:
    """The primitive Niggli cell (pymatgen's, so that the matcher agrees) and the space group (moyo's).

    Raises:
        ValueError: no space group or no reduced cell could be found.
    """
    structure = crystal.to_structure()
    # a cell that holds k primitive ones holds a multiple of k atoms of each element
    if math.gcd(*crystal.element_counts.values()) > 1 and not surely_primitive(crystal):
        structure = structure.get_primitive_structure()
    reduced = structure.get_reduced_structure(reduction_algo="niggli")
    return ReducedCell(Crystal.from_structure(reduced), space_group_number(crystal, symprec))


def surely_primitive(crystal: Crystal) -> bool:
    """Whether pymatgen's search for a smaller cell surely finds none.

    It needs a translation that carries every atom to within twice `PRIMITIVE_TOLERANCE` of one of its kind along each
    axis. The only one that may be left is none at all; then the rows of a smaller cell, which are fractions of the
    cell's with at most the number of formula units below the line, are not within tolerance of lattice vectors.
    """
    counts = crystal.element_counts
    box = PRIMITIVE_TOLERANCE / np.linalg.norm(crystal.lattice, axis=1)
    if box.max() * math.gcd(*counts.values()) > 1 - ROUNDING:
        return False
    species = np.array(crystal.species)
    rarest = crystal.frac_coords[species == min(sorted(counts), key=counts.__getitem__)]
    shifts = rarest[1:] - rarest[0]
    for symbol in sorted(counts, key=counts.__getitem__):
        sites = crystal.frac_coords[species == symbol]
        for site in sites:
            apart = sites - site - shifts[:, None, :]
            apart -= np.round(apart)
            shifts = shifts[(np.abs(apart) <= 2 * box + ROUNDING).all(axis=-1).any(axis=-1)]
            if not len(shifts):
                return True
    return False


def space_group_number(crystal: Crystal, symprec: float) -> int:
    """International number of the space group at `symprec` (Å).

    Raises:
        ValueError: moyo finds no symmetry at all, not even the identity.
    """
    cell = moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), [int(z) for z in crystal.atomic_numbers])
    return int(moyopy.MoyoDataset(cell, symprec=symprec).number)


def content_key(crystal: Crystal) -> str:
    """32 hex digits of the cell as written: equal keys are equal cells, atom for atom."""
    digest = hashlib.sha256("\0".join(crystal.species).encode())
    digest.update(np.ascontiguousarray(crystal.lattice, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(crystal.frac_coords, dtype="<f8").tobytes())
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class Match:
    """A pair of cells that match, and how closely.

    Attributes:
        first, second: positions in the sequence that was compared.
        rms: root mean square site displacement, in units of (volume per atom)^(1/3).
        max_distance: largest site displacement, same unit.
        volume_difference: |V_1 - V_2| / mean, per atom (the matcher scales both to one volume).
        strain: largest principal strain between the lattices at equal volume; NaN where the space groups agree and it
            is not needed.
        same_material: whether the space groups agree, or differ within tolerance.
    """

    first: int
    second: int
    rms: float
    max_distance: float
    volume_difference: float
    strain: float
    same_material: bool


def match_pairs(cells: Sequence[ReducedCell], pairs: Iterable[tuple[int, int]], settings: Matching) -> list[Match]:
    """Compare pairs of cells; a match holds in both directions.

    Args:
        cells: reduced, of one composition.
        pairs: positions in `cells`.
        settings: tolerances.

    Returns:
        The matches, in the order of `pairs`.
    """
    tolerances = Tolerances(ltol=settings.ltol, stol=settings.stol, angle_tol=settings.angle_tol)
    arrangements = [_arrangement(cell.crystal.to_structure()) for cell in cells]
    reduced: dict[int, Arrangement] = {}  # of the cells that match another
    matches: list[Match] = []
    for first, second in pairs:
        ours, theirs = arrangements[first], arrangements[second]
        if not same_arrangement(ours, theirs, tolerances):
            continue
        for place in (first, second):
            if place not in reduced:
                structure = cells[place].crystal.to_structure().get_reduced_structure(reduction_algo="niggli")
                reduced[place] = _arrangement(structure)
        found = best_mapping(*at_one_volume(reduced[first], reduced[second]), tolerances)
        if found is None:  # at the very edge of the tolerances, where rounding decides whether there is a match
            continue
        volumes = cells[first].volume_per_atom, cells[second].volume_per_atom
        rms, farthest = float(found.distance), float(max(found.distances))
        strain, same = np.nan, same_up_to_mirror(cells[first].space_group, cells[second].space_group)
        if not same:
            strain = _strain(ours, theirs, tolerances)
            displacement = farthest * (sum(volumes) / 2) ** (1 / 3)
            same = _within_tolerance(displacement, strain, settings)
        difference = 2 * abs(volumes[0] - volumes[1]) / sum(volumes)
        matches.append(Match(first, second, rms, farthest, difference, strain, same))
    return matches


def _arrangement(structure: Structure) -> Arrangement:
    species = np.array([site.specie.Z for site in structure], dtype=np.uint8)
    return Arrangement(structure.lattice, structure.frac_coords, species)


def _within_tolerance(displacement: float, strain: float, settings: Matching) -> bool:
    """Whether a cell displaced (Å) and strained so little shares the other's symmetry at `symprec`.

    An operation that maps the first cell's sites onto each other maps the displaced ones to within
    twice the displacement.
    """
    return 2 * displacement <= settings.symprec and strain <= settings.strain


def _strain(first: Arrangement, second: Arrangement, tolerances: Tolerances) -> float:
    """Largest principal strain that takes one lattice to the other at equal volume; infinite if none is found.

    With metric tensors G = L L^T of matching bases the principal stretches are the roots of the
    eigenvalues of G_1^-1 G_2.
    """
    found = best_mapping(*at_one_volume(first, second), tolerances, onto_first=True)
    if found is None:
        return float("inf")
    ours, theirs = first.lattice.matrix, found.transformation @ second.lattice.matrix
    squares = np.linalg.eigvals(np.linalg.solve(ours @ ours.T, theirs @ theirs.T)).real
    stretches = np.sqrt(squares / np.prod(squares) ** (1 / 3))
    return float(np.abs(stretches - 1).max())


# International Tables A: left- and right-handed screw axes of one structure; energy and gap are equal
MIRROR_IMAGES: Final = MappingProxyType(
    {
        78: 76,  # P4_3, P4_1
        95: 91,  # P4_322, P4_122
        96: 92,  # P4_32_12, P4_12_12
        145: 144,  # P3_2, P3_1
        153: 151,  # P3_212, P3_112
        154: 152,  # P3_221, P3_121
        170: 169,  # P6_5, P6_1
        172: 171,  # P6_4, P6_2
        179: 178,  # P6_522, P6_122
        181: 180,  # P6_422, P6_222
        213: 212,  # P4_132, P4_332
    }
)


def same_up_to_mirror(first: int, second: int) -> bool:
    """Whether two space groups are equal or each other's mirror image."""
    return MIRROR_IMAGES.get(first, first) == MIRROR_IMAGES.get(second, second)
