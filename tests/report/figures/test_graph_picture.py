"""The picture of a crystal graph: atoms stand where the crystal has them, every edge is drawn once."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matscout import create_crystal_graph, draw_crystal_graph
from matscout.report.figures.graph_picture import atom_positions

PEROVSKITE = Structure.from_spacegroup(
    "Pm-3m", Lattice.cubic(3.905), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
)
TRICLINIC = Structure(
    Lattice.from_parameters(4.1, 5.2, 6.3, 80, 95, 107),
    ["Na", "Cl", "Cl"],
    [[0, 0, 0], [0.4, 0.5, 0.6], [0.8, 0.1, 0.3]],
)


@pytest.mark.parametrize("structure", [PEROVSKITE, TRICLINIC])
def test_atoms_stand_where_the_crystal_has_them(structure):
    graph = create_crystal_graph(structure, asymmetric_unit=False)
    positions = atom_positions(graph)
    frac = structure.lattice.get_fractional_coords(positions - positions[0])
    expected = structure.frac_coords - structure.frac_coords[0]
    assert graph.atomic_numbers.tolist() == list(structure.atomic_numbers)
    assert np.abs((frac - expected + 0.5) % 1.0 - 0.5).max() < 1e-5  # the same site, in any cell


def test_every_edge_is_drawn_with_its_length():
    graph = create_crystal_graph(PEROVSKITE, asymmetric_unit=False)
    edges, neighbours, atoms = draw_crystal_graph(PEROVSKITE).data
    path = np.stack([edges.x, edges.y, edges.z], axis=1).reshape(-1, 3, 3)
    drawn = np.linalg.norm(path[:, 1] - path[:, 0], axis=1)
    assert drawn == pytest.approx(graph.distances.numpy(), abs=1e-5)
    assert (len(neighbours.x), len(atoms.x)) == (graph.n_edges, graph.n_atoms)
    assert set(neighbours.text) == {"Sr", "Ti", "O"}
