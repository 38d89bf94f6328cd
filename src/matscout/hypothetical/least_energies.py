"""The lowest energy of a crystal over its volume, by a potential.

Parabolas through three volumes find the minimum. Something that has learned the volumes of earlier minima saves most of
that work: where it is sure, the energy at its volume alone is the label.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from matscout.crystal import Crystal
from matscout.potentials.potential import Potential

Array = NDArray[np.float64]

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
        points: (n,) volumes whose energies gave it: 3, or 1 where the minimum was known beforehand.
    """

    energy: Array
    scale: Array
    points: NDArray[np.int8]


@dataclass(frozen=True)
class LikelyMinima:
    """Where the minima of n crystals are to be expected.

    Attributes:
        log_scale: (n,) logarithm of the volume at the minimum divided by the given volume.
        is_sure: (n,) whether the energy there is that of the minimum.
    """

    log_scale: Array
    is_sure: NDArray[np.bool_]


class KnowsMinima(Protocol):
    """Knows beforehand where minima are likely.

    Attributes:
        fingerprint: changes with what it says.
    """

    @property
    def fingerprint(self) -> str: ...  # noqa: D102 -- see the class

    def __call__(self, crystals: Sequence[Crystal]) -> LikelyMinima:
        """The likely minima of n crystals."""
        ...


def least_energies(potential: Potential, crystals: Sequence[Crystal], likely: LikelyMinima | None = None) -> Minimum:
    """Minimise each crystal's energy over its volume, with the cell's shape and fractional coordinates fixed.

    Three volumes give a parabola in the logarithm of the volume. Where its minimum lies outside of them, the middle
    volume moves towards it and three new volumes are tried.

    Args:
        potential: gives the energies.
        crystals: n cells, Å.
        likely: where to begin, and which minima are known already; None = at the given volumes, none.
    """
    n = len(crystals)
    atoms = np.array([crystal.n_atoms for crystal in crystals], dtype=np.float64)
    middle, energy, scale, points = np.zeros(n), np.full(n, np.nan), np.full(n, np.nan), np.full(n, 3, dtype=np.int8)
    open_rows = np.arange(n)
    if likely is not None:
        middle += np.clip(likely.log_scale, -RANGE, RANGE)
        sure = np.flatnonzero(likely.is_sure)
        cells = [_at(crystals[row], middle[row]) for row in sure.tolist()]
        energy[sure], points[sure] = potential.energies(cells) / atoms[sure], 1
        scale[sure] = np.where(np.isfinite(energy[sure]), np.exp(middle[sure]), np.nan)
        open_rows = np.flatnonzero(~likely.is_sure)
    for _ in range(ROUNDS):
        if not len(open_rows):
            break
        offsets = np.array([-STEP, 0.0, STEP])
        logs = middle[open_rows, None] + offsets
        cells = [_at(crystals[row], log) for row, three in zip(open_rows.tolist(), logs, strict=True) for log in three]
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
    return Minimum(energy, scale, points)


def _at(crystal: Crystal, log_scale: float) -> Crystal:
    """The crystal with its volume scaled."""
    return Crystal(crystal.lattice * np.exp(log_scale / 3), crystal.species, crystal.frac_coords)
