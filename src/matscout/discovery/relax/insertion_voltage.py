"""Average voltage of a host by a potential: its mobile ion taken out fully, against the metal."""

from typing import Final

import numpy as np
from ase.build import bulk

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.relax.after_relaxation import VOLUME_CHANGED, NoValueError, at_rest
from matscout.params import Relaxation
from matscout.potentials.calculators import crystal_of
from matscout.potentials.potential import Potential

CHARGES: Final = {
    **dict.fromkeys(("Li", "Na", "K", "Rb", "Cs", "Ag"), 1),
    **dict.fromkeys(("Mg", "Ca", "Sr", "Ba", "Zn"), 2),
    **dict.fromkeys(("Al", "Y"), 3),
}

NO_ION: Final = "no_mobile_ion"
NO_HOST: Final = "no_host"


def average_voltage(crystal: Crystal, potential: Potential, settings: Relaxation) -> tuple[dict[str, float], str]:
    """V = -(E(full) - E(host) - n E(metal)) / (n z), and what the host's volume does.

    Aydinol et al., Phys. Rev. B 56, 1354 (1997), eq. 4; entropy and volume work are left out. The host is relaxed like
    the crystal, the metal in its usual structure.

    Args:
        crystal: at rest, with all its ions.
        potential: that pulls.
        settings: limits of a relaxation, and `mobile_ions`.

    Returns:
        Voltage in V and relative change of the volume when the ion is out, and which ion it is.

    Raises:
        NoValueError: there is no such ion, nothing else, or the host does not survive.
    """
    ion = next((symbol for symbol in settings.mobile_ions if symbol in crystal.species), None)
    if ion is None:
        raise NoValueError(NO_ION, f"holds none of relaxation.mobile_ions = {list(settings.mobile_ions)}")
    stays = np.array([symbol != ion for symbol in crystal.species])
    if not stays.any():
        raise NoValueError(NO_HOST, f"holds nothing but {ion}")
    host = Crystal(crystal.lattice, tuple(s for s in crystal.species if s != ion), crystal.frac_coords[stays])
    free = settings.model_copy(update={"cell": True, "symmetry": True})
    metal = at_rest(f"metal {ion}", crystal_of(bulk(ion)), potential, free)
    emptied = at_rest(f"host without {ion}", host, potential, settings)
    ratio, (low, high) = emptied.crystal.volume / crystal.volume, settings.volume
    if not low <= ratio <= high:
        detail = f"without {ion} {ratio:.2f} times the volume, outside relaxation.volume = [{low:g}, {high:g}]"
        raise NoValueError(VOLUME_CHANGED, detail)
    n = crystal.n_atoms - host.n_atoms
    bound = float(potential.energies([crystal])[0]) - emptied.energy_after * host.n_atoms - n * metal.energy_after
    voltage = -bound / (n * CHARGES[ion])
    return {columns.AVERAGE_VOLTAGE: voltage, columns.VOLUME_CHANGE: ratio - 1}, f"{ion} out, {CHARGES[ion]} e each"
