"""The crystal that every room exchanges: a periodic cell as plain arrays."""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition, Element, Lattice, Structure

from matscout import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

SYMBOLS: tuple[str, ...] = ("X", *(Element.from_Z(z).symbol for z in range(1, 119)))
N_ELEMENTS = len(SYMBOLS) - 1
ATOMIC_NUMBERS: dict[str, int] = {symbol: z for z, symbol in enumerate(SYMBOLS) if z > 0}


@dataclass(frozen=True)
class Crystal:
    """One periodic cell.

    Attributes:
        lattice: (3, 3) float64, rows are lattice vectors, Å.
        species: n_atoms element symbols.
        frac_coords: (n_atoms, 3) float64, fractional, any image.
    """

    lattice: NDArray[np.float64]
    species: tuple[str, ...]
    frac_coords: NDArray[np.float64]

    @property
    def n_atoms(self) -> int:
        """Number of atoms in the cell."""
        return len(self.species)

    @property
    def atomic_numbers(self) -> NDArray[np.uint8]:
        """(n_atoms,) uint8; KeyError on a symbol that is no element."""
        return np.array([ATOMIC_NUMBERS[symbol] for symbol in self.species], dtype=np.uint8)

    @property
    def volume(self) -> float:
        """Cell volume, Å³ (absolute: a left-handed cell is as good as a right-handed one)."""
        return float(abs(np.linalg.det(self.lattice)))

    @property
    def reduced_formula(self) -> str:
        """Reduced formula such as `SrTiO3`."""
        with warnings.catch_warnings():
            # a noble gas has no electronegativity, which only orders the symbols here
            warnings.filterwarnings("ignore", "No Pauling electronegativity", UserWarning)
            return Composition.from_dict(self.element_counts).reduced_formula

    @property
    def element_counts(self) -> dict[str, int]:
        """Atoms in the cell by element symbol."""
        counts: dict[str, int] = {}
        for symbol in self.species:
            counts[symbol] = counts.get(symbol, 0) + 1
        return counts

    def to_structure(self) -> Structure:
        """The same cell as a pymatgen `Structure`."""
        return Structure(Lattice(self.lattice), list(self.species), self.frac_coords)

    def to_row(self) -> dict[str, Any]:
        """The crystal's three table columns, flattened row-major."""
        return {
            columns.LATTICE: self.lattice.reshape(-1),
            columns.SPECIES: list(self.species),
            columns.FRAC_COORDS: self.frac_coords.reshape(-1),
        }

    @classmethod
    def from_structure(cls, structure: Structure) -> Self:
        """From an ordered pymatgen `Structure`; oxidation states are dropped.

        Raises:
            ValueError: a site is partially occupied.
        """
        if not structure.is_ordered:
            message = f"{structure.formula} has partially occupied sites; matscout needs an ordered cell"
            raise ValueError(message)
        species: Sequence[str] = [site.specie.symbol for site in structure]
        return cls(np.array(structure.lattice.matrix), tuple(species), np.array(structure.frac_coords))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """From a table row (the inverse of `to_row`)."""
        return cls(
            np.asarray(row[columns.LATTICE], dtype=np.float64).reshape(3, 3),
            tuple(row[columns.SPECIES]),
            np.asarray(row[columns.FRAC_COORDS], dtype=np.float64).reshape(-1, 3),
        )


def formula_key(species: "Sequence[str]") -> str:
    """The reduced formula of a list of atoms, elements in alphabetical order: `O3 Sr1 Ti1`."""
    counts = Counter(species)
    divisor = gcd(*counts.values())
    return " ".join(f"{symbol}{counts[symbol] // divisor}" for symbol in sorted(counts))
