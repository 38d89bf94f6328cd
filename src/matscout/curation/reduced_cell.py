"""One cell per crystal that does not depend on how it was written down: primitive, Niggli-reduced."""

import hashlib
import logging
import math
from dataclasses import dataclass

import moyopy
import numpy as np

from matscout.crystal import Crystal

# moyopy warns, for each crystal, that a supercell hides symmetry operations, which does not matter here
logging.getLogger("moyo").setLevel(logging.ERROR)


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
    if math.gcd(*crystal.element_counts.values()) > 1:
        structure = structure.get_primitive_structure()
    reduced = structure.get_reduced_structure(reduction_algo="niggli")
    return ReducedCell(Crystal.from_structure(reduced), space_group_number(crystal, symprec))


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
