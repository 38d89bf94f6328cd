"""How much the relaxation of a proposed crystal's atoms lowers its energy.

The ensemble has learned the energies of hypothetical crystals whose atoms stay where they are, at the best volume
(`matscout.hypothetical`). Relaxing the atoms lowers the energy further: the more, the farther the crystal lies above
the hull, and the more parameters its symmetry leaves free. A crystal without free parameters gains nothing.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from matscout.crystal import Crystal
from matscout.graphs.symmetry import n_free_parameters

Array = NDArray[np.float64]

AT_THE_HULL: Final = 0.0103
"""eV/atom for a unit of log(1 + free parameters). Fitted, as `PER_ENERGY`, by least absolute deviations to 600 crystals
that a potential relaxed: `python data/sample/relaxation_gain.py`."""

PER_ENERGY: Final = 0.246
"""Of the energy above hull, for a unit of log(1 + free parameters)."""

MOST_PER_ENERGY: Final = 0.5
"""Of the energy above hull, however many parameters are free: a relaxed crystal stays above the hull."""

SOFTENING: Final = 0.025
"""eV/atom by which the potential's energies of such crystals lie below DFT's. Universal potentials are systematically
too soft (Deng et al., npj Comput. Mater. 11, 9, 2025). Chosen on WBM's development rows, those without free parameters
above all."""

SYMPREC: Final = 0.01
"""Å, the tolerance with which candidates are relaxed."""


def relaxation_gain(crystals: Sequence[Crystal], above_hull: Array) -> Array:
    """Estimate what crystals gain by a relaxation that keeps their symmetry.

    Args:
        crystals: n cells, Å.
        above_hull: (n,) energy above the hull of the known phases with the atoms where they are, eV/atom.

    Returns:
        (n,) eV/atom, not negative.
    """
    extent = np.log1p([n_free(crystal) for crystal in crystals])
    return AT_THE_HULL * extent + np.minimum(PER_ENERGY * extent, MOST_PER_ENERGY) * np.maximum(above_hull, 0.0)


def n_free(crystal: Crystal) -> int:
    """Parameters of a crystal that its relaxation can change, see `n_free_parameters`."""
    return n_free_parameters(crystal.lattice, crystal.frac_coords, crystal.atomic_numbers, SYMPREC)
