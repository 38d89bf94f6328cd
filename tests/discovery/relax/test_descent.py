"""Relaxations by a pair potential, whose minima are known by a scan."""

from pathlib import Path

import numpy as np
import pytest

from matscout.crystal import Crystal
from matscout.discovery.propose.crystal_templates import make_template
from matscout.discovery.relax.descent import CELL_EXPLODED, NOT_CONVERGED, UNKNOWN_ELEMENT, descend
from matscout.params import Relaxation
from matscout.potentials.load_potential import load_potential

PAIRS = str(Path(__file__).parent / "pair_potential.py")
POTENTIAL = load_potential(PAIRS, trust_file=True)
BLOCK = {
    "potential": PAIRS,
    "judge": None,
    "trust_file": True,
    "n": 5,
    "cell": True,
    "symmetry": True,
    "force": 0.01,
    "steps": 300,
    "volume": (0.3, 3.0),
    "bonds": 0.6,
    "n_known": 20,
    "properties": (),
    "mobile_ions": ("Li", "Na", "Ca"),
    "slab_atoms": 80,
    "batches": "never",
    "seed": 17,
}


def settings(**changes):
    return Relaxation(**(BLOCK | changes))


def caesium_chloride(length, symbols=("Na", "Cl")):
    return Crystal(np.eye(3) * length, symbols, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))


def lowest_by_scan(make, lengths):
    return min(POTENTIAL.energies([make(length)])[0] for length in lengths)


def test_a_swollen_cell_shrinks_to_the_minimum_of_a_scan():
    found = descend("a", caesium_chloride(3.6), POTENTIAL, settings())
    assert not found.reason
    lowest = lowest_by_scan(caesium_chloride, np.linspace(2.9, 3.4, 400)) / 2
    assert found.energy_after == pytest.approx(lowest, abs=2e-4)
    assert found.energy_before > found.energy_after
    assert found.force <= 0.01
    assert make_template("a", found.crystal).space_group == 221
    assert found.moved == pytest.approx(0, abs=1e-6)


def test_symmetry_is_kept_unless_it_is_broken_on_request():
    simple = Crystal(np.eye(3) * 2.9, ("Na",), np.zeros((1, 3)))
    double = Crystal(np.diag([2.9, 2.9, 5.8]), ("Na", "Na"), np.array([[0, 0, 0], [0, 0, 0.5]]))
    kept = descend("a", simple, POTENTIAL, settings(force=0.001))
    assert make_template("a", kept.crystal).space_group == 221
    broken = descend("a", double, POTENTIAL, settings(symmetry=False, force=0.001))
    assert broken.energy_after < kept.energy_after - 0.008  # a simple cubic crystal of pairs is a saddle
    again = descend("a", double, POTENTIAL, settings(symmetry=False, force=0.001))
    np.testing.assert_array_equal(broken.crystal.lattice, again.crystal.lattice)


def test_the_cell_stays_where_only_atoms_are_free():
    start = Crystal(np.eye(3) * 3.2, ("Na", "Cl"), np.array([[0, 0, 0], [0.5, 0.5, 0.42]]))
    found = descend("a", start, POTENTIAL, settings(cell=False))
    np.testing.assert_allclose(found.crystal.lattice, start.lattice)
    assert found.moved > 0.05
    assert found.energy_after < found.energy_before


def test_the_result_does_not_depend_on_how_the_crystal_is_written():
    start = caesium_chloride(3.5)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    written = [
        Crystal(start.lattice @ turn, start.species, start.frac_coords),
        Crystal(start.lattice, start.species[::-1], start.frac_coords[::-1]),
        Crystal(start.lattice, start.species, start.frac_coords + 0.37),
        Crystal(
            np.diag([3.5, 3.5, 7.0]),
            ("Na", "Cl", "Na", "Cl"),
            np.array([[0, 0, 0], [0.5, 0.5, 0.25], [0, 0, 0.5], [0.5, 0.5, 0.75]]),
        ),
    ]
    wanted = descend("a", start, POTENTIAL, settings())
    for other in written:
        found = descend("b", other, POTENTIAL, settings())
        assert found.energy_after == pytest.approx(wanted.energy_after, abs=3e-4)
        volumes = [crystal.volume / crystal.n_atoms for crystal in (found.crystal, wanted.crystal)]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.01)


def test_failures_are_told_and_never_raised():
    unknown = descend("a", caesium_chloride(3.2, ("U", "Cl")), POTENTIAL, settings())
    assert (unknown.reason, "does not support U" in unknown.detail) == (UNKNOWN_ELEMENT, True)
    slow = descend("a", caesium_chloride(3.6), POTENTIAL, settings(steps=1))
    assert slow.reason == NOT_CONVERGED
    assert "after 1 steps" in slow.detail
    flying = descend("a", caesium_chloride(1.6), POTENTIAL, settings())
    assert flying.reason == CELL_EXPLODED
    assert "times the original" in flying.detail
