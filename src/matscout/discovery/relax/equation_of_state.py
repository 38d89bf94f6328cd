"""Bulk modulus by a potential: energies over volumes, with an equation of state through them."""

from typing import Final

import numpy as np
from ase.eos import EquationOfState
from ase.units import GPa

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.relax.after_relaxation import NoValueError, at_rest
from matscout.params import Relaxation
from matscout.potentials.potential import Potential

VOLUMES: Final = np.linspace(0.94, 1.06, 7)  # times that at rest
FORCE: Final = 0.02  # eV/Å at most: energies over volumes differ by a few meV/atom
LARGEST_MISFIT: Final = 0.05  # of the fit, root mean square, relative to the spread of the energies

NO_MINIMUM: Final = "no_minimum"
NOT_SMOOTH: Final = "energies_not_smooth"


def bulk_modulus(crystal: Crystal, potential: Potential, settings: Relaxation) -> tuple[dict[str, float], str]:
    """The third-order Birch-Murnaghan bulk modulus at the minimum over seven volumes.

    The cell keeps its shape and atoms relax with their symmetry, so that it is the Voigt average: the Reuss average of
    an anisotropic crystal is lower.

    Args:
        crystal: at rest.
        potential: that pulls.
        settings: limits of a relaxation; forces are at most `FORCE` here.

    Returns:
        Bulk modulus in GPa, and how well the curve fits.

    Raises:
        NoValueError: a volume does not come to rest, or the energies are no such curve.
    """
    fixed = settings.model_copy(update={"cell": False, "force": min(settings.force, FORCE)})
    volumes, energies, frac = VOLUMES * crystal.volume, np.zeros(len(VOLUMES)), crystal.frac_coords
    for place, ratio in enumerate(VOLUMES):
        cell = Crystal(crystal.lattice * np.cbrt(ratio), crystal.species, frac)
        descent = at_rest(f"at {ratio:.2f} of its volume", cell, potential, fixed)
        energies[place], frac = descent.energy_after * crystal.n_atoms, descent.crystal.frac_coords
    if not 0 < int(np.argmin(energies)) < len(VOLUMES) - 1:
        raise NoValueError(NO_MINIMUM, f"no minimum within {VOLUMES[0]:g} to {VOLUMES[-1]:g} of the volume at rest")
    curve = EquationOfState(volumes, energies, eos="birchmurnaghan")
    curve.fit(warn=False)
    said = np.array([curve.func(volume, *curve.eos_parameters) for volume in volumes])
    misfit = float(np.sqrt(np.square(said - energies).mean()) / np.ptp(energies))
    if misfit > LARGEST_MISFIT:
        raise NoValueError(NOT_SMOOTH, f"the fit misses the energies by {misfit:.0%} of their spread")
    return {columns.BULK_MODULUS_POTENTIAL: float(curve.B) / GPa}, f"fit within {misfit:.1%} of the energies' spread"
