"""The neighbour search against brute force, against pymatgen, and on lattices whose shells are known."""

import numpy as np
import pytest
from awkward_cells import random_cell
from searches import nearest_neighbors

from matscout.errors import InputError
from matscout.graphs.neighbor_search import TIE_TOLERANCE, reduce_lattice


def brute_force(lattice, frac_coords, center, n_neighbors):
    """(neighbour, vector) of whole shells by definition: all images in a box that surely holds the ball."""
    volume = abs(np.linalg.det(lattice))
    radius = 2.0
    while True:
        heights = volume / np.linalg.norm(np.cross(lattice[[1, 2, 0]], lattice[[2, 0, 1]]), axis=1)
        reach = np.ceil(radius / heights).astype(int) + 1 + int(np.ceil(np.ptp(frac_coords, axis=0).max()))
        images = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 3)
        vectors = (images[:, None] + frac_coords[None] - frac_coords[center]) @ lattice
        atoms = np.broadcast_to(np.arange(len(frac_coords)), vectors.shape[:2]).reshape(-1)
        vectors = vectors.reshape(-1, 3)
        lengths = np.linalg.norm(vectors, axis=1)
        inside = np.flatnonzero((lengths < radius) & (lengths > 1e-9))
        order = inside[np.argsort(lengths[inside], kind="stable")]
        ends = np.flatnonzero(np.diff(lengths[order]) > TIE_TOLERANCE) + 1
        if (ends >= n_neighbors).any():
            kept = order[: ends[ends >= n_neighbors][0]]
            return atoms[kept], vectors[kept]
        radius *= 1.2


def as_set(atoms, vectors):
    return sorted((int(atom), *np.round(vector, 3) + 0.0) for atom, vector in zip(atoms, vectors, strict=True))


@pytest.mark.parametrize("seed", range(40))
def test_equals_brute_force_in_random_skewed_cells(seed):
    rng = np.random.default_rng(seed)
    lattice, frac_coords = random_cell(rng)
    spread = np.linalg.norm(brute_force(lattice, frac_coords, 0, 1)[1][0])
    if spread < 0.6:
        pytest.skip("two random atoms overlap")
    try:
        found = nearest_neighbors(lattice, frac_coords, 14)
    except InputError:
        pytest.skip("two random atoms overlap")
    for center in range(len(frac_coords)):
        edges = slice(found.offsets[center], found.offsets[center + 1])
        atoms, vectors = brute_force(lattice, frac_coords, center, 14)
        assert len(found.neighbors[edges]) == len(atoms)
        ours, theirs = found.vectors[edges].astype(float), vectors
        nearest = np.linalg.norm(ours[:, None] - theirs[None], axis=-1)
        match = nearest.argmin(axis=1)
        assert nearest.min(axis=1).max() < 1e-4
        assert sorted(match) == list(range(len(atoms)))
        assert (found.neighbors[edges] == atoms[match]).all()


def test_equals_pymatgen_on_thousands_of_real_cells(real_cells):
    """Within the radius of each atom's farthest kept neighbour, pymatgen finds exactly as many."""
    checked = 0
    for name, crystal in real_cells[::2]:
        if crystal.n_atoms > 60:
            continue
        found = nearest_neighbors(crystal.lattice, crystal.frac_coords, 12)
        lengths = np.linalg.norm(found.vectors.astype(float), axis=1)
        farthest = np.maximum.reduceat(lengths, found.offsets[:-1]) + TIE_TOLERANCE / 2
        structure = crystal.to_structure()
        centers, neighbors, _, distances = structure.get_neighbor_list(float(farthest.max()))
        kept = distances <= farthest[centers]
        assert (np.bincount(centers[kept], minlength=crystal.n_atoms) == found.counts).all(), name
        ours = np.stack([np.repeat(found.centers, found.counts), found.neighbors])
        theirs = np.stack([centers[kept], neighbors[kept]])
        assert sorted(ours.T.tolist()) == sorted(theirs.T.tolist()), name
        by_center = np.lexsort((lengths, ours[0]))
        assert np.abs(lengths[by_center] - distances[kept][np.lexsort((distances[kept], theirs[0]))]).max() < 1e-5, name
        checked += 1
    assert checked > 500


FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]) * 4.0
BCC = np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]) * 3.0


@pytest.mark.parametrize(
    ("lattice", "wanted", "whole_shells"),
    [
        (np.eye(3) * 3, 1, 6),
        (np.eye(3) * 3, 7, 18),
        (np.eye(3) * 3, 19, 26),
        (FCC, 12, 12),
        (FCC, 13, 18),
        (BCC, 1, 8),
        (BCC, 12, 14),
        (BCC, 24, 26),
    ],
)
def test_ties_at_the_last_shell_are_kept(lattice, wanted, whole_shells):
    assert nearest_neighbors(lattice, np.zeros((1, 3)), wanted).counts.tolist() == [whole_shells]


def test_the_most_skewed_cell_that_is_searched_has_the_neighbours_of_the_straight_one():
    """A cell of three atoms, its vectors replaced by long sums of them: 9,000 Å where 4 Å would do."""
    straight, coords = np.diag([4.0, 4.5, 5.0]), np.array([[0, 0, 0], [0.5, 0.4, 0.3], [0.2, 0.9, 0.7]])
    transform = np.array([[1, 0, 0], [2200, 1, 0], [-1000, 1500, 1]])
    skewed = nearest_neighbors(transform @ straight, coords @ np.linalg.inv(transform) % 1.0, 12)
    plain = nearest_neighbors(straight, coords, 12)
    lengths = [np.sort(np.linalg.norm(found.vectors.astype(float), axis=1)) for found in (skewed, plain)]
    np.testing.assert_allclose(*lengths, atol=1e-5)


def test_long_thin_cells_reach_along_the_short_axis():
    found = nearest_neighbors(np.diag([2.0, 30.0, 30.0]), np.array([[0.3, -7.2, 5.9]]), 6)
    assert sorted(found.vectors[:, 0].tolist()) == [-6, -4, -2, 2, 4, 6]
    assert not found.vectors[:, 1:].any()


def test_a_shell_on_the_surface_of_the_search_ball_is_not_cut():
    """2 + 2 neighbours along the chain, then one shell of 2 + 2 that is 0.0008 Å thick; some c puts the ball inside."""
    for c in np.linspace(1.02, 1.4, 6000):
        assert nearest_neighbors(np.diag([c, 3.0, 3.0008]), np.zeros((1, 3)), 5).counts.tolist() == [8]


def test_edges_are_sorted_by_length():
    rng = np.random.default_rng(3)
    found = nearest_neighbors(
        np.diag([5.0, 6.0, 7.0]), rng.permutation(np.linspace(0, 0.9, 6))[:, None] * [1, 0.7, 0.4], 20
    )
    lengths = np.linalg.norm(found.vectors.astype(float), axis=1)
    for first, last in zip(found.offsets[:-1], found.offsets[1:], strict=True):
        assert (np.diff(lengths[first:last]) > -1e-6).all()


def test_only_the_asked_centers():
    lattice, coords = np.diag([4.0, 4.0, 4.0]), np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
    both, second = nearest_neighbors(lattice, coords, 8), nearest_neighbors(lattice, coords, 8, np.array([1]))
    assert second.centers.tolist() == [1]
    assert (second.vectors == both.vectors[both.offsets[1] :]).all()


def test_reduction_keeps_the_lattice_and_shortens_it():
    rng = np.random.default_rng(0)
    for _ in range(200):
        lattice, _ = random_cell(rng)
        reduced, transform = reduce_lattice(np.ascontiguousarray(lattice))
        assert abs(round(np.linalg.det(transform))) == 1
        assert np.allclose(transform @ lattice, reduced)
        lengths = np.linalg.norm(reduced, axis=1)
        assert (np.diff(lengths) >= -1e-9).all()
        combos = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), -1).reshape(-1, 3)
        for axis in range(3):  # Minkowski's condition: no sum with shorter vectors is shorter
            shorter = combos[(combos[:, axis] != 0) & ~combos[:, axis + 1 :].any(axis=1)]
            assert np.linalg.norm(shorter @ reduced, axis=1).min() >= lengths[axis] - 1e-6


@pytest.mark.parametrize(
    ("lattice", "coords", "message"),
    [
        (np.diag([4.0, 4.0, 0.0]), [[0, 0, 0]], "Å³ per atom"),
        (np.array([[4.0, 0, 0], [6e4, 4, 0], [0, 0, 4]]), [[0, 0, 0]], "longest lattice vector has 6e\\+04 Å"),
        (np.full((3, 3), np.nan), [[0, 0, 0]], "NaN"),
        (np.eye(3) * 4, [[0, 0, np.inf]], "NaN or infinity"),
        (np.eye(3) * 4, np.zeros((0, 3)), "no atoms"),
        (np.eye(3) * 4, [[0, 0, 0], [1, 0, 0.01]], "0.040 Å apart"),
    ],
)
def test_cells_without_an_answer_are_rejected(lattice, coords, message):
    with pytest.raises(InputError, match=message):
        nearest_neighbors(lattice, np.array(coords, dtype=float), 12)
