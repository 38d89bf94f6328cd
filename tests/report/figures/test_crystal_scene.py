"""Scenes and pictures of crystals, against counts known from crystallography."""

import itertools

import numpy as np
import pytest

from matscout.crystal import Crystal
from matscout.report.figures.crystal_scene import EDGES, crystal_colors, element_colors, picture, scene

ROCK_SALT = Crystal(5.64 * np.eye(3), ("Mg",) * 4 + ("O",) * 4, np.array(
    [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5]]
))  # fmt: skip
PEROVSKITE = Crystal(3.9 * np.eye(3), ("Sr", "Ti", "O", "O", "O"), np.array(
    [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
))  # fmt: skip


def test_boundary_atoms_are_repeated():
    """A conventional rock salt cell shows 14 atoms at corners and face centres, 13 at edges and the centre."""
    symbols = scene(ROCK_SALT).symbols
    assert (symbols.count("Mg"), symbols.count("O")) == (14, 13)


def test_octahedron_has_six_bonds_and_large_ions_none():
    shown = scene(PEROVSKITE)
    ends = [{shown.symbols[i], shown.symbols[j]} for i, j in shown.bonds]
    assert ends == [{"Ti", "O"}] * 6
    lengths = [np.linalg.norm(shown.positions[i] - shown.positions[j]) for i, j in shown.bonds]
    assert lengths == pytest.approx([1.95] * 6)


def test_metals_are_not_bonded():
    alloy = Crystal(2.9 * np.eye(3), ("Cu", "Zn"), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    assert scene(alloy).bonds == ()


def test_images_outside_the_cell_and_rounding_do_not_matter():
    moved = Crystal(PEROVSKITE.lattice, PEROVSKITE.species, PEROVSKITE.frac_coords + np.array([1.0, -2.0, 1 - 1e-12]))
    assert sorted(scene(moved).symbols) == sorted(scene(PEROVSKITE).symbols)


def test_cell_has_twelve_edges_and_is_centred():
    shown = scene(PEROVSKITE)
    assert len(EDGES) == 12
    assert shown.corners.mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert {round(float(np.linalg.norm(shown.corners[i] - shown.corners[j])), 6) for i, j in EDGES} == {3.9}


def test_input_is_not_changed():
    before = PEROVSKITE.frac_coords.copy()
    scene(PEROVSKITE)
    assert (PEROVSKITE.frac_coords == before).all()


def test_picture_holds_every_atom_within_its_frame():
    drawn = picture(PEROVSKITE, size=100)
    assert drawn.count("<circle") == len(scene(PEROVSKITE).symbols)
    assert 'aria-label="unit cell of SrTiO3"' in drawn


def test_every_element_up_to_plutonium_has_a_color():
    from pymatgen.core import Element

    assert {Element.from_Z(z).symbol for z in range(1, 95)} <= element_colors().keys()


@pytest.mark.parametrize("elements", [("Si", "Cu", "Se"), ("Sr", "Zr", "O"), ("N", "F"), ("Fe", "Te", "As", "La", "O")])
def test_elements_of_one_crystal_have_colors_that_can_be_told_apart(elements):
    """Each of these holds two elements that the scheme draws (nearly) alike."""

    def parts(color):
        return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])

    shown = [parts(color) for color in crystal_colors(elements).values()]
    scheme = [parts(element_colors()[symbol]) for symbol in elements]

    def nearest(colors):
        return min(np.abs(a - b).sum() for a, b in itertools.combinations(colors, 2))

    assert nearest(scheme) < 60
    assert nearest(shown) > 90


def test_a_crystal_of_unlike_elements_keeps_the_usual_colors():
    usual = element_colors()
    assert crystal_colors(("O", "Sr", "Ti")) == {symbol: usual[symbol] for symbol in ("O", "Ti", "Sr")}
    assert f'fill="{usual["Ti"]}"' in picture(PEROVSKITE)
