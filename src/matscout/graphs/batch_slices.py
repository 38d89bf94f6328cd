"""Some of a batch's crystals as a batch of their own."""

from dataclasses import replace

import torch

from matscout.graphs.crystal_graph import CrystalGraph


def crystals_between(graph: CrystalGraph, start: int, stop: int) -> CrystalGraph:
    """The crystals `start` to `stop` - 1 of a batch, which shares the batch's memory.

    Atoms are grouped by crystal and edges by centre, so that crystals in a row are rows of every array.
    """
    bounds = torch.tensor([start, stop], device=graph.crystal_of_atom.device)
    first, last = torch.searchsorted(graph.crystal_of_atom, bounds).tolist()
    atoms = torch.tensor([first, last], device=graph.centers.device)
    edge, end = torch.searchsorted(graph.centers, atoms).tolist()
    return replace(
        graph,
        atomic_numbers=graph.atomic_numbers[first:last],
        multiplicity=graph.multiplicity[first:last],
        crystal_of_atom=graph.crystal_of_atom[first:last] - start,
        centers=graph.centers[edge:end] - first,
        neighbors=graph.neighbors[edge:end] - first,
        edge_vectors=graph.edge_vectors[edge:end],
        n_crystals=stop - start,
    )
