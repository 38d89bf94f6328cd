"""The rotations of a lattice: the integer matrices that keep its lengths and angles."""

import math

import numpy as np
from numpy.typing import NDArray

from matscout.graphs.compiled import compiled

_MAX_ROTATIONS = 48  # the order of the cubic point group; no lattice has more


@compiled
def lattice_rotations(lattice: NDArray[np.float64], symprec: float) -> NDArray[np.int64]:
    """(n, 3, 3) integer matrices that keep the metric of a reduced lattice within `symprec`.

    Row i is the image of lattice vector i in lattice coordinates; in a reduced cell its entries are -1, 0, 1.
    """
    lengths = np.empty(3)
    for axis in range(3):
        lengths[axis] = math.sqrt(_dot(lattice[axis], lattice[axis]))
    images, vectors, counts = _images_of_axes(lattice, lengths, symprec)
    angle01, slack01 = _dot(lattice[0], lattice[1]), symprec * (lengths[0] + lengths[1])
    angle02, slack02 = _dot(lattice[0], lattice[2]), symprec * (lengths[0] + lengths[2])
    angle12, slack12 = _dot(lattice[1], lattice[2]), symprec * (lengths[1] + lengths[2])
    found = np.empty((_MAX_ROTATIONS, 3, 3), np.int64)
    n_found = 0
    for i in range(counts[0]):
        for j in range(counts[1]):
            if abs(_dot(vectors[0, i], vectors[1, j]) - angle01) > slack01:
                continue
            for k in range(counts[2]):
                if abs(_dot(vectors[0, i], vectors[2, k]) - angle02) > slack02:
                    continue
                if abs(_dot(vectors[1, j], vectors[2, k]) - angle12) > slack12 or n_found == _MAX_ROTATIONS:
                    continue
                for c in range(3):
                    found[n_found, 0, c] = images[0, i, c]
                    found[n_found, 1, c] = images[1, j, c]
                    found[n_found, 2, c] = images[2, k, c]
                n_found += 1
    return found[:n_found]


@compiled
def _images_of_axes(
    lattice: NDArray[np.float64], lengths: NDArray[np.float64], symprec: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Per lattice vector the short vectors of its length: integers (3, 27, 3), Cartesian (3, 27, 3), counts (3,)."""
    images = np.empty((3, 27, 3), np.int64)
    vectors = np.empty((3, 27, 3))
    counts = np.zeros(3, np.int64)
    vector = np.empty(3)
    for a in range(-1, 2):
        for b in range(-1, 2):
            for c in range(-1, 2):
                for axis in range(3):
                    vector[axis] = a * lattice[0, axis] + b * lattice[1, axis] + c * lattice[2, axis]
                norm = math.sqrt(_dot(vector, vector))
                for axis in range(3):
                    if abs(norm - lengths[axis]) <= symprec:
                        images[axis, counts[axis], 0] = a
                        images[axis, counts[axis], 1] = b
                        images[axis, counts[axis], 2] = c
                        for c_axis in range(3):
                            vectors[axis, counts[axis], c_axis] = vector[c_axis]
                        counts[axis] += 1
    return images, vectors, counts


@compiled
def _dot(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]
