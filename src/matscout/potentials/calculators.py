"""Use a potential as an ASE calculator, and any ASE calculator as a potential."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorError, all_changes
from numpy.typing import NDArray

from matscout.crystal import SYMBOLS, Crystal
from matscout.potentials.potential import EnergiesAndForces, Facts, Potential, from_voigt, gathered


def atoms_of(crystal: Crystal) -> Atoms:
    """ASE's atoms of a crystal, periodic in all directions."""
    return Atoms(list(crystal.species), scaled_positions=crystal.frac_coords, cell=crystal.lattice, pbc=True)


def crystal_of(atoms: Atoms) -> Crystal:
    """The inverse of `atoms_of`; fractional coordinates may lie in any image."""
    return Crystal(
        np.array(atoms.cell.array, dtype=np.float64),
        tuple(atoms.get_chemical_symbols()),
        np.array(atoms.cell.scaled_positions(atoms.positions), dtype=np.float64),
    )


class PotentialCalculator(Calculator):
    """A potential for ASE's optimisers; a cell without a finite energy raises `CalculatorError`."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`: energy in eV, forces in eV/Å, stress in eV/Å³ as xx, yy, zz, yz, xz, xy."""
        super().calculate(atoms, list(properties), list(system_changes))
        assert self.atoms is not None  # noqa: S101 -- set just above
        said = self.potential.energies_and_forces([crystal_of(self.atoms)])
        energy, stress = float(said.energies[0]), said.stresses[0]
        if not np.isfinite(energy) or not np.isfinite(said.forces[0]).all():
            raise CalculatorError("the potential gives no finite energy and forces for this cell")
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": said.forces[0],
            "stress": np.array([stress[0, 0], stress[1, 1], stress[2, 2], stress[1, 2], stress[0, 2], stress[0, 1]]),
        }


@dataclass(frozen=True)
class CalculatorPotential:
    """Any ASE calculator as a potential, such as MACE's or ORB's from their own packages.

    Attributes:
        calculator: gives energies, forces and stresses; used for one crystal at a time.
        facts: facts about the potential.
        elements: symbols of the elements that it supports; by default all.
    """

    calculator: Any
    facts: Facts
    elements: frozenset[str] = frozenset(SYMBOLS[1:])

    def energies(self, crystals: Sequence[Crystal]) -> NDArray[np.float64]:
        """(n,) eV per cell; see `Potential`."""
        return np.array([self._one(crystal, ["energy"])[0] for crystal in crystals])

    def energies_and_forces(self, crystals: Sequence[Crystal]) -> EnergiesAndForces:
        """See `Potential`."""
        asked = ["energy", "forces", "stress"]
        return gathered(crystals, {place: self._one(crystal, asked) for place, crystal in enumerate(crystals)})

    def _one(self, crystal: Crystal, asked: list[str]) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        nothing = np.full((crystal.n_atoms, 3), np.nan), np.full((3, 3), np.nan)
        if not set(crystal.species) <= self.elements:
            return np.nan, *nothing
        atoms = atoms_of(crystal)
        atoms.calc = self.calculator
        try:
            energy = float(atoms.get_potential_energy())
            if "forces" not in asked:
                return energy, *nothing
            return energy, np.array(atoms.get_forces()), from_voigt(atoms.get_stress())
        except (CalculatorError, NotImplementedError, ValueError):  # an element or a cell that it does not support
            return np.nan, *nothing
