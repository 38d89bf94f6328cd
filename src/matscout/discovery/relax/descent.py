"""Relax the cell and the atoms of crystals with a potential, keeping or breaking their symmetry.

`relax_all` relaxes many.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculatorError
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE

from matscout.crystal import Crystal
from matscout.errors import InputError
from matscout.files import sha256_of_json
from matscout.params import Relaxation
from matscout.potentials.calculators import PotentialCalculator, atoms_of, crystal_of
from matscout.potentials.load_potential import code_of, load_potential
from matscout.potentials.potential import Potential

SYMPREC: Final = 0.01  # Å, the tolerance of the exported CIFs, whose cells are symmetrised
RATTLE: Final = 0.02  # Å, standard deviation of the displacements that break the symmetry
EXPLODED: Final = 3.0  # a relaxation stops if the volume changes by more than this factor

UNKNOWN_ELEMENT: Final = "unknown_element"
NOT_JUDGED: Final = "potential_cannot_judge"
CELL_EXPLODED: Final = "cell_exploded"
NOT_CONVERGED: Final = "not_converged"


@dataclass(frozen=True)
class Descent:
    """One relaxation: the final crystal, or why it failed.

    Attributes:
        crystal: the crystal at the end.
        energy_before, energy_after: energies by the potential, eV/atom; NaN if it gives none for the cell.
        steps: number of steps taken.
        force: largest force on an atom at the end, eV/Å.
        moved: root mean square displacement of the atoms in the final cell, without their common drift, Å.
        reason: why it failed; empty if it converged.
        detail: value, rule and remedy.
    """

    crystal: Crystal
    energy_before: float
    energy_after: float
    steps: int
    force: float
    moved: float
    reason: str = ""
    detail: str = ""


class _ExplodedError(Exception):
    """The volume changed beyond `EXPLODED`."""


def descend(name: str, crystal: Crystal, potential: Potential, settings: Relaxation) -> Descent:
    """Relax one crystal with ASE's Fréchet cell filter. A crystal that fails raises nothing; the result says why.

    BFGS takes half the steps of FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201, 2006). If BFGS does not converge,
    FIRE starts again from the original crystal.

    Args:
        name: name of the crystal; seeds the displacements that break its symmetry.
        crystal: the unrelaxed crystal.
        potential: gives energies, forces and stresses.
        settings: limits, and whether the cell and the symmetry may change.
    """
    unknown = sorted(set(crystal.species) - potential.elements)
    if unknown:
        detail = f"{potential.facts.name} does not support {', '.join(unknown)}; relax with another potential"
        return _failed(crystal, UNKNOWN_ELEMENT, detail)
    first = _try(name, crystal, potential, settings, BFGS)
    return first if not first.reason else _try(name, crystal, potential, settings, FIRE)


def starting_atoms(name: str, crystal: Crystal, settings: Relaxation) -> Atoms:
    """The crystal, with atoms displaced a little by random numbers of its name if its symmetry is not kept."""
    atoms = atoms_of(crystal)
    if not settings.symmetry:
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        atoms.rattle(RATTLE, rng=np.random.default_rng(seed))
    return atoms


def _try(
    name: str, crystal: Crystal, potential: Potential, settings: Relaxation, optimizer: type[BFGS] | type[FIRE]
) -> Descent:
    atoms = starting_atoms(name, crystal, settings)
    atoms.calc = PotentialCalculator(potential)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about steps that break the symmetry; `_watch` stops an exploding cell
        try:
            return _descend(crystal, atoms, settings, optimizer)
        except CalculatorError as error:
            detail = f"{error}: an atom may be isolated, or two overlap"
            return _failed(crystal, NOT_JUDGED, detail)
        except (_ExplodedError, RuntimeError, np.linalg.LinAlgError) as error:  # FixSymmetry rejects very large steps
            ratio = atoms.get_volume() / crystal.volume
            detail = f"volume {ratio:.2f} times the original ({error}); check the candidate"
            return _failed(crystal, CELL_EXPLODED, detail)


def _descend(crystal: Crystal, atoms: Atoms, settings: Relaxation, optimizer: type[BFGS] | type[FIRE]) -> Descent:
    if settings.symmetry:
        atoms.set_constraint(FixSymmetry(atoms, symprec=SYMPREC))
    before = float(atoms.get_potential_energy())
    start = atoms.copy()
    moving: Any = FrechetCellFilter(atoms) if settings.cell else atoms
    run = optimizer(moving, logfile=cast("Any", None))
    run.attach(_watch, interval=1, atoms=atoms, volume=crystal.volume)
    converged = run.run(fmax=settings.force, steps=settings.steps)
    force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
    rule = f"more than relaxation.force = {settings.force:g}; raise relaxation.steps"
    return Descent(
        crystal_of(atoms),
        before / crystal.n_atoms,
        float(atoms.get_potential_energy()) / crystal.n_atoms,
        int(run.nsteps),
        force,
        moved(start, atoms),
        "" if converged else NOT_CONVERGED,
        "" if converged else f"forces on atoms or cell after {run.nsteps} steps (on an atom {force:.3f} eV/Å): {rule}",
    )


def _watch(atoms: Atoms, volume: float) -> None:
    ratio = atoms.get_volume() / volume
    if not 1 / EXPLODED < ratio < EXPLODED:
        raise _ExplodedError(f"outside of {1 / EXPLODED:.2f} to {EXPLODED:g}")


def moved(start: Atoms, end: Atoms) -> float:
    """Root mean square displacement of the atoms in the final cell, without their common drift, Å."""
    steps = end.cell.scaled_positions(end.positions) - start.cell.scaled_positions(start.positions)
    steps = (steps - np.round(steps)) @ end.cell.array
    return float(np.sqrt(np.square(steps - steps.mean(axis=0)).sum(axis=1).mean()))


def _failed(crystal: Crystal, reason: str, detail: str) -> Descent:
    return Descent(crystal, np.nan, np.nan, 0, np.nan, np.nan, reason, detail)


def loaded(settings: Relaxation, device: str = "cpu") -> Potential:
    """The potential named in the section, loaded once per process and device.

    Args:
        settings: the section `relaxation`.
        device: cpu or cuda.

    Raises:
        InputError: no potential is named, or it is not available.
    """
    if settings.potential is None:
        raise InputError("relaxation.potential is null: name one, such as sevennet-0")
    return load_potential(settings.potential, trust_file=settings.trust_file, device=device)


def loaded_judge(settings: Relaxation) -> Potential:
    """The potential that gives the energies of the relaxed cells, loaded once per process; see `loaded`."""
    if settings.judge is None:
        return loaded(settings)
    return load_potential(settings.judge, trust_file=settings.trust_file)


def part_name(work: str, crystals: Sequence[Crystal], name: str = "") -> str:
    """Name of the part with the results of these very crystals; others in their place never take them over."""
    rows = [[crystal.lattice.tolist(), crystal.species, crystal.frac_coords.tolist()] for crystal in crystals]
    return f"{work}-{sha256_of_json([name, rows])[:16]}"


def potentials_of(settings: Relaxation) -> list[Any]:
    """What decides the results of the potentials, for a run's fingerprint: facts, and the code of a user's file."""
    facts = [loaded(settings).facts.to_json(), loaded_judge(settings).facts.to_json()]
    return [*facts, *(code_of(name) for name in (settings.potential, settings.judge) if name)]
