"""What a universal potential is to matscout: a few facts, and energies and forces of crystals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from matscout.crystal import Crystal

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Facts:
    """What a potential is, for provenance.

    Attributes:
        name: such as `SevenNet_0__11Jul2024`.
        version: of the package that holds the weights.
        weights_sha256: of the file of weights; empty where there is none.
        functional: of the calculations that trained it.
        corrections: scheme of the corrections that its energies contain, see `sources.energy_corrections`.
        licence: of the weights.
        citation: of the potential.
        training_data: what trained it. On crystals of that database its errors are too small.
    """

    name: str
    version: str
    weights_sha256: str
    functional: str
    corrections: str
    licence: str
    citation: str
    training_data: str = ""

    def to_json(self) -> dict[str, Any]:
        """For summaries and cards."""
        return asdict(self)


@dataclass(frozen=True)
class EnergiesAndForces:
    """What a potential says of n crystals; all NaN for one that it cannot judge.

    Attributes:
        energies: (n,) eV per cell.
        forces: n arrays (n_atoms, 3), eV/Å.
        stresses: (n, 3, 3) derivative of the energy by strain over the volume, eV/Å³; positive = the cell shrinks.
    """

    energies: Array
    forces: tuple[Array, ...]
    stresses: Array


class Potential(Protocol):
    """A universal potential.

    Attributes:
        facts: what it is.
        elements: symbols that it knows.
    """

    @property
    def facts(self) -> Facts: ...  # noqa: D102 -- see the class

    @property
    def elements(self) -> frozenset[str]: ...  # noqa: D102 -- see the class

    def energies(self, crystals: Sequence[Crystal]) -> Array:
        """(n,) eV per cell, NaN for a cell that it cannot judge, such as one with an element that it does not know."""
        ...

    def energies_and_forces(self, crystals: Sequence[Crystal]) -> EnergiesAndForces:
        """Energies, forces and stresses of any number of crystals at once."""
        ...


def gathered(crystals: Sequence[Crystal], found: dict[int, tuple[float, Array, Array]]) -> EnergiesAndForces:
    """`EnergiesAndForces` of n crystals from (energy, forces, stress) by place; NaN for the other places."""
    energies, stresses = np.full(len(crystals), np.nan), np.full((len(crystals), 3, 3), np.nan)
    forces = [np.full((crystal.n_atoms, 3), np.nan) for crystal in crystals]
    for place, (energy, force, stress) in found.items():
        energies[place], forces[place], stresses[place] = energy, force, stress
    return EnergiesAndForces(energies, tuple(forces), stresses)


def from_voigt(stress: Array) -> Array:
    """(3, 3) from the six numbers xx, yy, zz, yz, xz, xy."""
    xx, yy, zz, yz, xz, xy = (float(value) for value in stress)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
