"""Disjoint sets of atoms (union-find): which atoms have been shown to be copies."""

import numpy as np
from numpy.typing import NDArray

from matscout.graphs.compiled import compiled


@compiled
def root(parent: NDArray[np.int64], atom: int) -> int:
    """The lowest atom of the set that `atom` belongs to."""
    while parent[atom] != atom:
        atom = parent[atom]
    return atom


@compiled
def join(parent: NDArray[np.int64], one: int, other: int) -> None:
    """Unite the sets of two atoms, under the lower index."""
    one, other = root(parent, one), root(parent, other)
    parent[max(one, other)] = min(one, other)
