"""The interface of a universal potential: a few facts, and energies and forces of crystals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from matscout.crystal import Crystal
from matscout.errors import InputError
from matscout.files import sha256_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Facts:
    """Facts about a potential, for provenance.

    Attributes:
        name: for example `SevenNet_0__11Jul2024`.
        version: version of the package that contains the weights.
        weights_sha256: SHA-256 of the file of weights; empty if there is none.
        functional: functional of the calculations that it was trained on.
        corrections: corrections that its energies contain, see `sources.energy_corrections`.
        licence: licence of the weights.
        citation: citation of the potential.
        training_data: data that it was trained on; its errors on crystals of that database are too small.
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
        """The content for summaries and cards."""
        return asdict(self)


@dataclass(frozen=True)
class EnergiesAndForces:
    """The results of a potential for n crystals; all NaN for a crystal that it does not support.

    Attributes:
        energies: (n,) eV per cell.
        forces: n arrays (n_atoms, 3), eV/Å.
        stresses: (n, 3, 3) derivative of the energy with respect to strain, per volume, eV/Å³; if positive, the cell
            shrinks.
    """

    energies: Array
    forces: tuple[Array, ...]
    stresses: Array


class Potential(Protocol):
    """A universal potential.

    Attributes:
        facts: facts about the potential.
        elements: symbols of the elements that it supports.
    """

    @property
    def facts(self) -> Facts: ...  # noqa: D102 -- see the class

    @property
    def elements(self) -> frozenset[str]: ...  # noqa: D102 -- see the class

    def energies(self, crystals: Sequence[Crystal]) -> Array:
        """(n,) eV per cell, NaN for an unsupported cell, for example one with an unsupported element."""
        ...

    def energies_and_forces(self, crystals: Sequence[Crystal]) -> EnergiesAndForces:
        """Energies, forces and stresses of any number of crystals at once."""
        ...


def gathered(crystals: Sequence[Crystal], found: dict[int, tuple[float, Array, Array]]) -> EnergiesAndForces:
    """`EnergiesAndForces` of n crystals from (energy, forces, stress) by index; NaN for missing indices."""
    energies, stresses = np.full(len(crystals), np.nan), np.full((len(crystals), 3, 3), np.nan)
    forces = [np.full((crystal.n_atoms, 3), np.nan) for crystal in crystals]
    for place, (energy, force, stress) in found.items():
        energies[place], forces[place], stresses[place] = energy, force, stress
    return EnergiesAndForces(energies, tuple(forces), stresses)


def from_voigt(stress: Array) -> Array:
    """(3, 3) matrix from the six numbers xx, yy, zz, yz, xz, xy."""
    xx, yy, zz, yz, xz, xy = (float(value) for value in stress)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def check_weights(path: Path, expected: str) -> str:
    """Check and return the SHA-256 of a file of weights from an installed package.

    Such files are pickles, which can run code, so only known ones are read.

    Args:
        path: the file.
        expected: its SHA-256, as hex.

    Raises:
        InputError: the file has another SHA-256.
    """
    sha256 = sha256_of(path)
    if sha256 != expected:
        raise InputError(
            f"{path} has SHA-256 {sha256}, not {expected}: reading it could run foreign code, so it is not read. "
            "Install the package again in the version of pyproject.toml"
        )
    return sha256
