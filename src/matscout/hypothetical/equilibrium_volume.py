"""The volume that minimises a crystal's energy, found with parabolas through three volumes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from matscout.crystal import Crystal
from matscout.potentials.potential import Potential

STEP: Final = 0.08  # between neighbouring volumes, in their logarithm
ROUNDS: Final = 4
FARTHEST_MOVE: Final = 0.25  # of the middle volume from one round to the next, in the logarithm
RANGE: Final = 0.7  # largest change of the logarithm of the volume over all rounds


@dataclass(frozen=True)
class Minimum:
    """The minima of n crystals.

    Attributes:
        energy: (n,) eV/atom, NaN where no minimum was found within `ROUNDS` and `RANGE`.
        scale: (n,) volume at the minimum divided by the given volume; NaN as above.
    """

    energy: NDArray[np.float64]
    scale: NDArray[np.float64]


def least_energies(potential: Potential, crystals: Sequence[Crystal]) -> Minimum:
    """Minimise each crystal's energy over its volume, with the cell's shape and fractional coordinates fixed.

    Three volumes give a parabola in the logarithm of the volume. Where its minimum lies outside of them, the middle
    volume moves towards it and three new volumes are tried.
    """
    n = len(crystals)
    atoms = np.array([crystal.n_atoms for crystal in crystals], dtype=np.float64)
    middle, energy, scale = np.zeros(n), np.full(n, np.nan), np.full(n, np.nan)
    open_rows = np.arange(n)
    for _ in range(ROUNDS):
        if not len(open_rows):
            break
        offsets = np.array([-STEP, 0.0, STEP])
        logs = middle[open_rows, None] + offsets
        cells = [
            Crystal(crystals[row].lattice * np.exp(log / 3), crystals[row].species, crystals[row].frac_coords)
            for row, three in zip(open_rows.tolist(), logs, strict=True)
            for log in three
        ]
        values = potential.energies(cells).reshape(-1, 3) / atoms[open_rows, None]
        curvature = values[:, 0] - 2 * values[:, 1] + values[:, 2]
        slope = (values[:, 2] - values[:, 0]) / 2
        with np.errstate(all="ignore"):
            shift = np.where(curvature > 0, -slope / curvature, -np.sign(slope) * np.inf) * STEP
        inside = np.isfinite(values).all(axis=1) & (np.abs(shift) <= STEP * 1.25)
        done = open_rows[inside]
        energy[done] = values[inside, 1] - slope[inside] ** 2 / (2 * curvature[inside])
        scale[done] = np.exp(middle[done] + shift[inside])
        middle[open_rows] += np.clip(np.nan_to_num(shift, nan=np.inf), -FARTHEST_MOVE, FARTHEST_MOVE)
        keep = ~inside & np.isfinite(values).all(axis=1) & (np.abs(middle[open_rows]) <= RANGE)
        open_rows = open_rows[keep]
    return Minimum(energy, scale)
