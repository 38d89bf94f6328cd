"""One set of limits: what the rooms check in Python and in compiled code is the same."""

import math

import numpy as np
import pytest

from matscout.crystal import Crystal
from matscout.crystal_checks import (
    LARGEST_NUMBER,
    LONGEST_TEXT,
    LONGEST_VECTOR,
    MAX_ATOMS,
    MIN_VOLUME_PER_ATOM,
    Rejection,
    find_rejection,
)
from matscout.graphs.neighbor_search import FINE, cell_problem, rejection_of


def cell(lattice=(4, 4, 4), frac=((0, 0, 0), (0.5, 0.5, 0.5))):
    frac = np.array(frac, dtype=np.float64).reshape(-1, 3)
    return Crystal(np.diag(lattice).astype(np.float64), ("Na",) * len(frac), frac)


@pytest.mark.parametrize(
    ("crystal", "reason"),
    [
        (cell(), None),
        (cell(frac=()), "no_atoms"),
        (cell(frac=np.zeros((MAX_ATOMS, 3)), lattice=(40, 40, 40)), None),
        (cell(frac=np.zeros((MAX_ATOMS + 1, 3))), "too_many_atoms"),
        (cell(lattice=(4, 4, math.nan)), "cell_not_finite"),
        (cell(frac=((0, 0, math.inf),)), "cell_not_finite"),
        (cell(frac=((0, 0, LARGEST_NUMBER),)), None),
        (cell(frac=((0, 0, -1.001 * LARGEST_NUMBER),)), "cell_too_large"),
        (cell(lattice=(4, 4, 1.001 * LARGEST_NUMBER)), "cell_too_large"),
        (cell(lattice=(4, 4, LONGEST_VECTOR)), None),
        (cell(lattice=(4, 4, 1.001 * LONGEST_VECTOR)), "lattice_too_skewed"),
        (cell(lattice=(1, 1, 2.001 * MIN_VOLUME_PER_ATOM)), None),
        (cell(lattice=(1, 1, 1.999 * MIN_VOLUME_PER_ATOM)), "zero_volume"),
        (cell(lattice=(4, 4, 0)), "zero_volume"),
    ],
)
def test_python_and_compiled_checks_agree(crystal, reason):
    found = find_rejection(crystal)
    problem, value = cell_problem(crystal.lattice, crystal.frac_coords)
    compiled = None if problem == FINE else rejection_of(-1, problem, value)
    assert (None if found is None else found.reason) == reason
    assert (None if compiled is None else compiled.reason) == reason
    if reason is not None:
        assert compiled.detail == found.detail


def test_a_rejection_holds_text_that_a_table_can_hold():
    rejection = Rejection(reason="bad_id", detail="x" * 2 * LONGEST_TEXT, material_id="\ud800")
    assert len(rejection.detail) == LONGEST_TEXT
    rejection.material_id.encode()
