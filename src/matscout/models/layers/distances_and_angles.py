"""Distances and cosines as smooth vectors, and the line graph that has the angles.

The line graph's edges are pairs of edges that share their centre, with the angle between them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from matscout.graphs.crystal_graph import CrystalGraph
from matscout.graphs.neighbor_search import TIE_TOLERANCE
from matscout.models.kernels.edges import Edges, angle_pairs, runs_here
from matscout.models.kernels.gaussian_band import Band, band_of

# exp(-16) = 1.1e-7 is lost in float32 when added to the largest of a row, which is above 0.7
LARGEST_SQUARE = 16.0


class GaussianExpansion(nn.Module):
    """Gaussians on a regular grid: b_k(x) = exp(-((x - mu_k) / delta)^2), delta the grid's step.

    Xie and Grossman, "Crystal graph convolutional neural networks", Phys. Rev. Lett. 120 (2018). More than four steps
    from its centre a Gaussian is exactly zero. Its tail would change no sum, but would be subnormal, which slows every
    operation down; the squares of its weights' gradients would be subnormal much earlier.

    Args:
        low: first centre.
        high: last centre.
        n: number of centres.
    """

    centers: Tensor

    def __init__(self, low: float, high: float, n: int) -> None:
        super().__init__()
        self.inverse_width = max(n - 1, 1) / (high - low)
        self.register_buffer("centers", torch.linspace(low, high, n), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """(m,) -> (m, n)."""
        square = ((values[:, None] - self.centers) * self.inverse_width).square()
        return torch.exp(-square.masked_fill(square > LARGEST_SQUARE, torch.inf))

    def rows(self, values: Tensor, *, differentiable: bool = False) -> Tensor | Band:
        """`forward`, without its zeros where a kernel reads them; see `runs_here`."""
        runs = runs_here(values, differentiable=differentiable and not values.requires_grad)
        return band_of(values, self.centers, self.inverse_width) if runs else self(values)


@dataclass(frozen=True)
class AngleGraph:
    """Ordered pairs of different edges of one centre: the nodes are edges, the links are angles.

    The published line graphs link an edge i -> j to the edges j -> k that start where it ends. In the
    asymmetric unit j stands for a symmetry image of itself, whose own edges are turned against the
    frame of i, so that only edges of one centre can be paired: (i -> j, i -> k) for the angle at i. In the full
    cell, where every bond has an edge in either direction, these are the same angles.

    Attributes:
        first: (n_pairs,) int64, ascending: the edge that receives.
        second: (n_pairs,) int64: the edge that sends.
        cosines: (n_pairs,) float32, of the angle between the two.
    """

    first: Tensor
    second: Tensor
    cosines: Tensor


def build_angle_graph(graph: CrystalGraph, distances: Tensor, n_angle_neighbors: int) -> AngleGraph:
    """Pair each centre's nearest edges: at least `n_angle_neighbors` of them, in whole shells.

    Shells are those of `graphs.neighbor_search`, so that the pairs, like the edges, do not depend on the order of atoms
    or on the cell chosen.

    Args:
        graph: edges grouped by centre and sorted by distance.
        distances: (n_edges,) lengths of the edges, Å.
        n_angle_neighbors: shells are taken in turn until they hold that many edges.

    Returns:
        Both edges of each pair and the cosine of the angle between them.
    """
    if runs_here(distances):
        starts = Edges.of(graph.centers, graph.neighbors, graph.n_atoms).starts
        vectors = graph.edge_vectors.numpy()
        pairs = angle_pairs(starts, vectors, distances.numpy(), n_angle_neighbors, TIE_TOLERANCE)
        return AngleGraph(*(torch.from_numpy(array) for array in pairs))
    counts = torch.bincount(graph.centers, minlength=graph.n_atoms)
    first_of_center = (counts.cumsum(0) - counts).index_select(0, graph.centers)
    nearest = _nearest_shells(first_of_center, distances, n_angle_neighbors)
    n_near = torch.zeros_like(counts).index_add(0, graph.centers[nearest], torch.ones_like(nearest))
    partners = n_near.index_select(0, graph.centers[nearest])
    first = nearest.repeat_interleave(partners)
    position = torch.arange(len(first), device=first.device) - (partners.cumsum(0) - partners).repeat_interleave(
        partners
    )
    second = first_of_center.index_select(0, first) + position
    is_pair = first != second
    first, second = first[is_pair], second[is_pair]
    directions = graph.edge_vectors / distances[:, None]
    cosines = (directions.index_select(0, first) * directions.index_select(0, second)).sum(dim=-1)
    return AngleGraph(first, second, cosines)


def _nearest_shells(first_of_center: Tensor, distances: Tensor, n_wanted: int) -> Tensor:
    """Edges whose shell begins before their centre has `n_wanted` of them, (n_near,) int64."""
    edges = torch.arange(len(distances), device=distances.device)
    begins_shell = edges == first_of_center
    begins_shell[1:] |= distances.diff() > TIE_TOLERANCE
    first_of_shell = torch.where(begins_shell, edges, 0).cummax(0).values
    return torch.nonzero(first_of_shell - first_of_center < n_wanted).squeeze(1)
