"""A batch for the next round of calculations: good candidates that differ from one another."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from matscout.crystal import ATOMIC_NUMBERS, Crystal

LENGTH_SCALE = 0.5  # of the similarity: candidates at this distance are half alike
LEAST_QUALITY = 1e-3  # keeps candidates with a chance of nearly zero in the running when nothing else is left
SYSTEM_STARTS = (1, 3, 16, 75, 143, 168, 195)  # first space group of triclinic, monoclinic, ..., cubic
STRUCTURE_WEIGHT = 0.25  # of volume and cell size beside composition


def diverse_batch(quality: NDArray[np.float64], features: NDArray[np.float64], size: int) -> list[int]:
    """Rows to take together, in order: the greedy mode of a determinantal point process.

    L_ij = q_i S_ij q_j with a Gaussian similarity S; each step takes the row with the largest
    conditional variance, so good rows go first and near copies of what is taken lose their worth
    (Chen et al., "Fast greedy MAP inference for determinantal point process", NeurIPS 2018, alg. 1).

    Args:
        quality: (n,) not negative, for example P(goal).
        features: (n, n_features); see `crystal_features`.
        size: how many rows; all of them where there are fewer.
    """
    quality = np.maximum(quality, LEAST_QUALITY)
    squared = ((features[:, None, :] - features[None, :, :]) ** 2).sum(axis=2)
    similarity = np.exp2(-squared / LENGTH_SCALE**2)
    kernel = quality[:, None] * similarity * quality[None, :]
    remaining = np.diag(kernel).copy()
    factors = np.zeros((0, len(quality)))
    taken: list[int] = []
    for _ in range(min(size, len(quality))):
        best = int(np.argmax(np.where(np.isin(np.arange(len(quality)), taken), -np.inf, remaining)))
        taken.append(best)
        if remaining[best] <= 0:  # a copy of what is taken: nothing is left to subtract
            continue
        row = (kernel[best] - factors[:, best] @ factors) / np.sqrt(remaining[best])
        factors = np.vstack([factors, row])
        remaining = remaining - row**2
    return taken


def crystal_features(crystals: Sequence[Crystal], space_groups: Sequence[int]) -> NDArray[np.float64]:
    """(n, n_features) whose Euclidean distance says how different two crystals are, about 0 to 1.5.

    Square roots of atomic fractions give the Hellinger distance between compositions (1 for no shared
    element, up to the factor sqrt(2)); crystal system and volume per atom stand for structure.
    """
    features = np.zeros((len(crystals), 119 + len(SYSTEM_STARTS) + 1))
    for row, crystal in enumerate(crystals):
        for symbol, number in crystal.element_counts.items():
            features[row, ATOMIC_NUMBERS[symbol]] = np.sqrt(number / crystal.n_atoms / 2)
        system = int(np.searchsorted(SYSTEM_STARTS, space_groups[row], side="right")) - 1
        features[row, 119 + system] = STRUCTURE_WEIGHT / np.sqrt(2)
        features[row, -1] = STRUCTURE_WEIGHT * np.log(crystal.volume / crystal.n_atoms)
    return features
