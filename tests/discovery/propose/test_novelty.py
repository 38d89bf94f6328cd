"""What is new: the quick look at two lattices, held against the search that pymatgen's matcher makes."""

import numpy as np
import pytest
from pymatgen.core import Lattice

from matscout.discovery.propose.novelty import ANGLE_TOLERANCE, LENGTH_TOLERANCE, lattices_may_match

SHEARS = np.array([[1, 1, 0], [0, 1, -1], [0, 0, 1]])  # another basis of the same lattice


def pairs():
    """Lattices beside strained, rotated and rebased copies of themselves, and beside strangers."""
    rng = np.random.default_rng(3)
    for _ in range(40):
        first = np.array(Lattice.from_parameters(*rng.uniform(3, 7, 3), *rng.uniform(65, 115, 3)).matrix)
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        strained = first @ (np.eye(3) + rng.normal(0, 0.06, (3, 3))) @ rotation
        yield first, SHEARS @ strained * rng.uniform(0.7, 1.4)
        yield first, np.array(Lattice.from_parameters(*rng.uniform(3, 7, 3), *rng.uniform(65, 115, 3)).matrix)


def maps(first, second):
    """As `StructureMatcher` asks: a basis of the first lattice like the second's, at equal volume."""
    scaled = Lattice(first * np.cbrt(abs(np.linalg.det(second) / np.linalg.det(first))))
    found = scaled.find_all_mappings(Lattice(second), LENGTH_TOLERANCE, ANGLE_TOLERANCE, skip_rotation_matrix=True)
    return any(abs(abs(np.linalg.det(steps)) - 1) < 0.5 for _, _, steps in found)


def test_lattices_that_the_matcher_can_map_are_kept_and_no_others():
    found = [(lattices_may_match(*pair), maps(*pair)) for pair in pairs()]
    assert all(quick == slow for quick, slow in found)
    assert {slow for _, slow in found} == {True, False}


@pytest.mark.parametrize("scale", [0.2, 5.0])
def test_volumes_do_not_count(scale):
    cubic = 4.0 * np.eye(3)
    assert lattices_may_match(cubic, scale * SHEARS @ cubic) == maps(cubic, scale * SHEARS @ cubic)
    assert lattices_may_match(cubic, scale * cubic)
    assert not lattices_may_match(cubic, scale * np.diag([1.0, 1.0, 6.0]))
