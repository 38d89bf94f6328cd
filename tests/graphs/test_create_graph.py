"""One graph: what it must not depend on, and what it refuses."""

import numpy as np
import pytest
from awkward_cells import random_cell
from pymatgen.core import Lattice, Structure
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation
from searches import nearest_neighbors

from matscout.crystal import Crystal
from matscout.errors import InputError
from matscout.graphs.create_graph import create_crystal_graph


def atoms_of(graph):
    """What every invariant model sees: (species, weight, species of edges' ends) -> sorted lengths of each atom."""
    numbers, weights = graph.atomic_numbers.tolist(), graph.multiplicity.tolist()
    lengths = np.linalg.norm(graph.edge_vectors.numpy().astype(float), axis=1)
    centers, ends = graph.centers.numpy(), graph.atomic_numbers.numpy()[graph.neighbors.numpy()]
    atoms = {}
    for atom in range(graph.n_atoms):
        mine = centers == atom
        kind = (numbers[atom], weights[atom], tuple(sorted(ends[mine].tolist())))
        atoms.setdefault(kind, []).append(np.sort(lengths[mine]))
    return atoms


def assert_same(one, other, tolerance=5e-3):
    """Atoms of a kind are paired so that their lengths agree best; merged atoms differ by a few symprec."""
    first, second = atoms_of(one), atoms_of(other)
    assert {kind: len(atoms) for kind, atoms in first.items()} == {kind: len(atoms) for kind, atoms in second.items()}
    for kind, atoms in first.items():
        difference = np.abs(np.array(atoms)[:, None] - np.array(second[kind])[None]).max(axis=-1)
        assert difference[linear_sum_assignment(difference)].max() < tolerance


@pytest.fixture(scope="module")
def some(sample):
    return [crystal for _, crystal in sample[::60] if crystal.n_atoms <= 30]


@pytest.mark.parametrize("asymmetric_unit", [True, False])
def test_rotation_translation_and_permutation(some, asymmetric_unit):
    rng = np.random.default_rng(2)
    for crystal in some:
        order = rng.permutation(crystal.n_atoms)
        turned = Crystal(
            crystal.lattice @ Rotation.random(rng=rng).as_matrix(),
            tuple(np.array(crystal.species)[order]),
            crystal.frac_coords[order] + rng.uniform(-2, 2, 3),
        )
        graphs = [create_crystal_graph(c, asymmetric_unit=asymmetric_unit) for c in (crystal, turned)]
        assert_same(*graphs)


def test_choice_of_cell(some):
    """Another basis of the same lattice, of any handedness."""
    rng = np.random.default_rng(3)
    for crystal in some:
        change = np.eye(3, dtype=int)
        for _ in range(3):
            one, other = rng.choice(3, 2, replace=False)
            change[one] += rng.integers(-2, 3) * change[other]
        change[0] *= rng.choice([-1, 1])
        other = Crystal(change @ crystal.lattice, crystal.species, crystal.frac_coords @ np.linalg.inv(change))
        assert_same(create_crystal_graph(crystal), create_crystal_graph(other))


@pytest.mark.parametrize("scaling", [[2, 1, 1], [1, 2, 2], [[1, 1, 0], [0, 1, 2], [1, 0, 1]]])
def test_a_supercell_has_the_graph_of_its_primitive_cell(some, scaling):
    for crystal in [c for c in some if c.n_atoms <= 14]:
        supercell = crystal.to_structure().make_supercell(scaling, in_place=False)
        assert_same(create_crystal_graph(crystal), create_crystal_graph(supercell))


def test_asymmetric_unit_holds_every_edge_of_the_full_cell(some):
    """Weighted by multiplicity, edges by species and length are those of all atoms."""
    for crystal in some:
        small, full = create_crystal_graph(crystal), create_crystal_graph(crystal, asymmetric_unit=False)
        assert small.n_atoms <= full.n_atoms
        weight = crystal.n_atoms / small.multiplicity.sum()
        totals = [
            np.bincount(g.atomic_numbers[g.centers] * 100 + g.atomic_numbers[g.neighbors], w[g.centers], 12_000)
            for g, w in ((small, small.multiplicity * weight), (full, full.multiplicity))
        ]
        assert np.allclose(*totals)
        means = [np.average(g.distances, weights=g.multiplicity[g.centers]) for g in (small, full)]
        assert np.isclose(*means, atol=1e-3)


def test_full_cell_is_the_search_itself():
    rng = np.random.default_rng(8)
    for _ in range(10):
        lattice, coords = random_cell(rng)
        try:
            found = nearest_neighbors(lattice, coords, 12)
        except InputError:
            continue
        graph = create_crystal_graph(Crystal(lattice, ("Fe",) * len(coords), coords), cutoff=1e3, asymmetric_unit=False)
        assert (graph.edge_vectors.numpy() == found.vectors).all()
        assert (graph.neighbors.numpy() == found.neighbors).all()
        assert (graph.centers.numpy() == np.repeat(found.centers, found.counts)).all()


def test_cutoff_drops_whole_shells_but_never_the_nearest():
    crystal = Crystal(np.eye(3) * 3.0, ("Po",), np.zeros((1, 3)))
    for cutoff, wanted in ((0.1, 6), (3.0, 6), (4.3, 18), (5.3, 26)):
        assert create_crystal_graph(crystal, n_neighbors=20, cutoff=cutoff).n_edges == wanted


def test_input_is_not_changed():
    structure = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [2.5, 0.5, -0.5]])
    before = structure.as_dict()
    create_crystal_graph(structure)
    assert structure.as_dict() == before


def test_types_and_shapes():
    graph = create_crystal_graph(Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    assert [str(t.dtype) for t in (graph.atomic_numbers, graph.multiplicity, graph.centers, graph.edge_vectors)] == [
        "torch.int64",
        "torch.float32",
        "torch.int64",
        "torch.float32",
    ]
    assert graph.n_crystals == 1
    assert graph.crystal_of_atom.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0, 0, 0.001]]), "NaNa|Na: two atoms are 0.004"),
        (Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]]), "partially occupied"),
        (Crystal(np.diag([4.0, 4.0, 1e-9]), ("Na",), np.zeros((1, 3))), "Å³ per atom"),
        (Crystal(np.eye(3) * 4.0, ("Na", "Na"), np.array([[0, 0, 0], [0, np.nan, 0]])), "NaN"),
    ],
)
def test_broken_structures_are_refused(structure, message):
    with pytest.raises(InputError, match=message):
        create_crystal_graph(structure)
