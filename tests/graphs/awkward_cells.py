"""Cells made to be awkward."""

import numpy as np


def random_cell(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A cell of 1-6 atoms: skewed by shears, elongated, of either handedness, with coordinates in any image."""
    lattice = np.diag(rng.uniform(2.0, 5.0, 3)) * rng.choice([1.0, 1.0, 4.0], 3)[:, None]
    lattice += rng.uniform(-0.3, 0.3, (3, 3))
    for _ in range(rng.integers(0, 4)):
        one, other = rng.choice(3, 2, replace=False)
        lattice[one] += rng.integers(-3, 4) * lattice[other]
    return lattice * rng.choice([-1.0, 1.0]), rng.uniform(-2.0, 2.0, (rng.integers(1, 7), 3))
