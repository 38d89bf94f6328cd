"""What a relaxation is taken to gain: nothing without freedom, more with more of it and far above the hull."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.screen.candidate_scores import as_relaxed
from matscout.discovery.screen.predict_usable import Predicted
from matscout.discovery.stability.energy_above_hull import References
from matscout.discovery.stability.relaxation_gain import MOST_PER_ENERGY, SOFTENING, n_free, relaxation_gain
from matscout.ensemble.mixture import Mixture
from matscout.models.families.laplace import Laplace

ENERGY = columns.FORMATION_ENERGY
SALT = Crystal.from_structure(
    Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])
)
RUTILE = Crystal.from_structure(
    Structure.from_spacegroup("P4_2/mnm", Lattice.tetragonal(4.6, 3.0), ["Ti", "O"], [[0, 0, 0], [0.3, 0.3, 0]])
)
LOOSE = Crystal(
    np.diag([5.0, 6.0, 7.0]) + 0.3 * np.eye(3, k=1) + 0.4 * np.eye(3, k=2),
    ("Na", "Cl", "K", "Br", "O", "Ti"),
    np.random.default_rng(0).random((6, 3)),
)


def test_what_symmetry_fixes_gains_nothing_however_far_it_is_above_the_hull():
    assert relaxation_gain([SALT] * 4, np.array([-0.5, 0.0, 0.2, 3.0])) == pytest.approx(0.0)


def test_the_gain_grows_with_energy_and_with_freedom_and_leaves_a_crystal_above_the_hull():
    above = np.linspace(-0.2, 2.0, 23)
    little, much = relaxation_gain([RUTILE] * 23, above), relaxation_gain([LOOSE] * 23, above)
    assert (n_free(RUTILE), n_free(LOOSE)) == (2, 20)
    assert (np.diff(little) >= 0).all()
    assert (much > little).all()
    assert (little > 0).all()
    assert little[above <= 0] == pytest.approx(little[0])  # below the hull its distance tells nothing
    assert ((much - much[0])[above > 0] <= MOST_PER_ENERGY * above[above > 0] + 1e-12).all()


def test_estimate_interval_and_distribution_move_together_and_the_rest_stays():
    mixture = Mixture.of([Laplace(np.array([-1.0, -1.0]), np.array([0.1, 0.1])) for _ in range(2)])
    table = pd.DataFrame({columns.MATERIAL_ID: ["a", "b"], ENERGY: -1.0, ENERGY + columns.LO90: -1.2})
    table = table.assign(**{ENERGY + columns.HI90: -0.9, ENERGY + columns.STD: 0.14, columns.BAND_GAP: 1.0})
    gap = SimpleNamespace()
    before = Predicted(np.array([0, 2]), table, {ENERGY: mixture, columns.BAND_GAP: gap}, [])  # 1 had no graph
    references = References.from_rows([("mp-1", ("Na", "Cl"), -2.0, 0.0), ("mp-2", ("Ti", "O", "O"), -1.5, 0.0)])
    after = as_relaxed(before, [SALT, LOOSE, RUTILE], references)
    by = SOFTENING - relaxation_gain([SALT, RUTILE], np.array([1.0, 0.5]))
    for name, value in ((ENERGY, -1.0), (ENERGY + columns.LO90, -1.2), (ENERGY + columns.HI90, -0.9)):
        np.testing.assert_allclose(after.table[name], value + by)
    np.testing.assert_allclose(after.mixtures[ENERGY].median(), -1.0 + by)
    np.testing.assert_allclose(after.table[columns.ENERGY_ABOVE_KNOWN_HULL], [1.0 + by[0], 0.5 + by[1]])
    same = [columns.MATERIAL_ID, ENERGY + columns.STD, columns.BAND_GAP]
    pd.testing.assert_frame_equal(after.table[same], table[same])
    assert after.mixtures[columns.BAND_GAP] is gap
    assert table[ENERGY].eq(-1.0).all()
