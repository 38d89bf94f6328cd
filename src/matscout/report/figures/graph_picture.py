"""An interactive picture of a crystal graph: atoms of one cell, their neighbours, and the edges between them."""

from typing import Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from pymatgen.core import Structure

from matscout.crystal import SYMBOLS, Crystal
from matscout.graphs.crystal_graph import CrystalGraph
from matscout.graphs.graph_store import create_crystal_graph
from matscout.report.figures.chart import FAINT, MUTED
from matscout.report.figures.crystal_scene import covalent_radius, element_colors

PIXELS: Final = 14.0  # diameter of an atom, px per Å of covalent radius
CAMERA: Final = {"eye": {"x": 1.5, "y": 0.8, "z": 0.45}}  # off every axis of a cubic cell


def draw_crystal_graph(structure: Structure | Crystal, *, n_neighbors: int = 12, cutoff: float = 8.0) -> go.Figure:
    """Draw the graph that a network sees: every atom of the primitive cell, with its edges.

    A neighbour in another cell is drawn small, where the edge ends; to the network it is the large atom of
    the same kind.

    Args:
        structure: an ordered periodic structure.
        n_neighbors: nearest neighbours per atom; ties at the last shell are kept.
        cutoff: Å.

    Returns:
        The figure.

    Raises:
        InputError: as `create_crystal_graph`.
    """
    graph = create_crystal_graph(structure, n_neighbors=n_neighbors, cutoff=cutoff, asymmetric_unit=False)
    positions = atom_positions(graph)
    vectors = graph.edge_vectors.numpy()
    starts = positions[graph.centers.numpy()]
    numbers = graph.atomic_numbers.numpy()
    ends = _atoms(starts + vectors, numbers[graph.neighbors.numpy()], "neighbour", 0.5)
    figure = go.Figure([_edges(starts, starts + vectors), ends, _atoms(positions, numbers, "atom of the cell", 1.0)])
    axis = {"visible": False}
    return figure.update_layout(
        template="none",
        height=480,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        scene={"xaxis": axis, "yaxis": axis, "zaxis": axis, "aspectmode": "data", "camera": CAMERA},
    )


def atom_positions(graph: CrystalGraph) -> NDArray[np.float64]:
    """Positions of the atoms of a graph without symmetry, (n_atoms, 3) Å, with the first at the origin.

    A graph holds no positions, only edges; they are followed outwards from the first atom. An atom that
    no edge path reaches starts at the origin again.
    """
    centers, neighbors = graph.centers.numpy(), graph.neighbors.numpy()
    vectors = graph.edge_vectors.numpy().astype(np.float64)
    positions = np.full((graph.n_atoms, 3), np.nan)
    for first in range(graph.n_atoms):
        if not np.isnan(positions[first]).any():
            continue
        positions[first] = 0.0
        waiting = [first]
        while waiting:
            atom = waiting.pop(0)
            for edge in np.flatnonzero(centers == atom):
                neighbor = neighbors[edge]
                if np.isnan(positions[neighbor]).any():
                    positions[neighbor] = positions[atom] + vectors[edge]
                    waiting.append(neighbor)
    return positions


def _atoms(positions: NDArray[np.float64], numbers: NDArray[np.int64], name: str, scale: float) -> go.Scatter3d:
    symbols = [SYMBOLS[number] for number in numbers]
    x, y, z = positions.T
    marker = {
        "size": [scale * PIXELS * covalent_radius(symbol) for symbol in symbols],
        "color": [element_colors().get(symbol, MUTED) for symbol in symbols],
        "line": {"color": MUTED, "width": 1},
        "opacity": 1.0,
    }
    return go.Scatter3d(x=x, y=y, z=z, mode="markers", marker=marker, text=symbols, hoverinfo="text", name=name)


def _edges(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> go.Scatter3d:
    """One line per edge; NaN separates the lines."""
    lengths = np.linalg.norm(ends - starts, axis=1)
    path = np.stack([starts, ends, np.full_like(starts, np.nan)], axis=1).reshape(-1, 3)
    words = np.repeat([f"{length:.2f} Å" for length in lengths], 3)
    x, y, z = path.T
    line = {"color": FAINT, "width": 3}
    return go.Scatter3d(x=x, y=y, z=z, mode="lines", line=line, text=words, hoverinfo="text", name="edge")
