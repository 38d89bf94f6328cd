"""Which crystals can be used at all: the limits of every room, and the `Rejection` of what breaks one.

`curation.validity` in params.yaml sets narrower limits for the training set; what passes those has a graph.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from matscout.crystal import ATOMIC_NUMBERS, Crystal

MIN_DISTANCE: Final = 0.5
"""Å: atoms closer than this are one atom written twice (pymatgen's tolerance; H-H in H2 is 0.74)."""

MIN_VOLUME_PER_ATOM: Final = 0.1
"""Å³: below this the three lattice vectors lie in one plane."""

LONGEST_VECTOR: Final = 1e4
"""Å: the neighbour search shortens any lattice first, but coordinates along longer vectors have lost the digits."""

LARGEST_NUMBER: Final = 1e6
"""Å or cells: beyond this, coordinates have lost the digits that tell neighbours apart."""

MAX_ATOMS: Final = 65_535
"""Neighbours are stored as 16-bit positions within a crystal."""

MAX_ATOMS_READ: Final = 10_000
"""A file or a service's row of more atoms is rejected before they are written out: a short text can ask for many."""

LONGEST_TEXT: Final = 500  # characters of a rejection's texts


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A row or crystal that cannot be used, and why.

    Attributes:
        source: name of the database; empty where there is none.
        material_id: as far as it is known, else empty.
        file: page or file that held the row; empty for a crystal in memory.
        row: its number in that file or among the crystals given, from 0; -1 = not known.
        reason: short code, such as `unknown_element`.
        detail: value, rule, remedy.
    """

    source: str = ""
    material_id: str = ""
    file: str = ""
    row: int = -1
    reason: str
    detail: str

    def __post_init__(self) -> None:
        """Make every text one that a table can hold, whatever the row or the disk had in it."""
        for name in ("material_id", "file", "detail"):
            value = str(getattr(self, name)).encode("utf-8", "surrogateescape" if name == "file" else "replace")
            object.__setattr__(self, name, value.decode("utf-8", "replace")[:LONGEST_TEXT])


def find_rejection(crystal: Crystal) -> Rejection | None:
    """The first limit of this file that a crystal breaks, cheap checks first; None for a usable one.

    Distances are not checked here: the neighbour search finds atoms nearer than `MIN_DISTANCE` on its way.
    """
    n_atoms = crystal.n_atoms
    if n_atoms == 0:
        return rejected("no_atoms")
    if n_atoms > MAX_ATOMS:
        return rejected("too_many_atoms", n_atoms)
    return find_malformed(crystal) or _find_outside(crystal)


def _find_outside(crystal: Crystal) -> Rejection | None:
    """The first limit that the numbers of a well-formed cell break."""
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all()):
        return rejected("cell_not_finite")
    largest = max(float(np.abs(crystal.lattice).max()), float(np.abs(crystal.frac_coords).max()))
    if largest > LARGEST_NUMBER:
        return rejected("cell_too_large", largest)
    longest = float(np.linalg.norm(crystal.lattice, axis=1).max())
    if longest > LONGEST_VECTOR:
        return rejected("lattice_too_skewed", longest)
    volume = crystal.volume / crystal.n_atoms
    return rejected("zero_volume", volume) if volume < MIN_VOLUME_PER_ATOM else None


def find_malformed(crystal: Crystal) -> Rejection | None:
    """Why a crystal is malformed: a species that is not an element, or arrays of other shapes; None if it is not."""
    unknown = sorted({symbol for symbol in crystal.species if symbol not in ATOMIC_NUMBERS})
    if unknown:
        return Rejection(reason="unknown_element", detail=f"species {unknown}: not elements; use symbols from H to Og")
    n_atoms = crystal.n_atoms
    if crystal.lattice.shape != (3, 3) or crystal.frac_coords.shape != (n_atoms, 3):
        shapes = f"lattice {crystal.lattice.shape}, frac_coords {crystal.frac_coords.shape}, {n_atoms} species"
        detail = f"{shapes}: expected (3, 3) and ({n_atoms}, 3); the row is cut off"
        return Rejection(reason="shapes_disagree", detail=detail)
    return None


def rejected(reason: str, value: float = 0.0, *, row: int = -1) -> Rejection:
    """The rejection of a cell that breaks a limit of this file.

    Args:
        reason: the limit's code.
        value: what exceeds or undercuts it.
        row: the crystal's place among those given; -1 = it is alone.

    Returns:
        Code and detail: value, rule and remedy.
    """
    details = {
        "no_atoms": "the cell holds no atoms; give at least one",
        "too_many_atoms": f"the cell has {value:.0f} atoms, at most {MAX_ATOMS} can be stored; give a smaller cell",
        "cell_not_finite": "the lattice or the coordinates hold NaN or infinity; give finite numbers",
        "cell_too_large": (
            f"a lattice vector or coordinate is {value:.3g}, at most {LARGEST_NUMBER:g} is allowed; check the unit"
        ),
        "zero_volume": (
            f"the cell has {value:.3g} Å³ per atom, at least {MIN_VOLUME_PER_ATOM} is needed: the lattice vectors "
            "must span a volume; check the lattice and its unit"
        ),
        "lattice_too_skewed": (
            f"the longest lattice vector has {value:.3g} Å, at most {LONGEST_VECTOR:g} are allowed, since coordinates "
            "lose their digits; reduce the cell (Niggli)"
        ),
        "atoms_overlap": (
            f"two atoms are {value:.3f} Å apart, at least {MIN_DISTANCE} is needed; remove the duplicate site"
        ),
    }
    return Rejection(row=row, reason=reason, detail=details[reason])
