"""ALIGNN: Choudhary and DeCost, npj Comput. Mater. 7, 185 (2021), arXiv:2106.01829."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from matscout.graphs.crystal_graph import CrystalGraph
from matscout.models.kernels.edges import runs_here
from matscout.models.kernels.gated_messages import edge_gated
from matscout.models.kernels.gaussian_band import embedded
from matscout.models.layers.distances_and_angles import AngleGraph, GaussianExpansion, build_angle_graph
from matscout.models.layers.element_embedding import ElementEmbedding
from matscout.models.layers.message_passing import PairLinear, gather, mean_over_atoms, segment_sum, side_by_side

PAPER: Final = "ALIGNN: Choudhary and DeCost, npj Comput. Mater. 7, 185 (2021), arXiv:2106.01829."

EPSILON = 1e-6


class EdgeGatedGraphConv(nn.Module):
    """Edge-gated graph convolution, Eqs. 1-3 of the paper.

    g_ij = A x_i + B x_j + C y_ij, sigma_ij = sigmoid(g_ij);
    x_i' = x_i + SiLU(LN(D x_i + sum_j sigma_ij ⊙ E x_j / (sum_j sigma_ij + epsilon)));
    y_ij' = y_ij + SiLU(LN(g_ij)).

    Layer normalisation replaces the paper's batch normalisation, so that a crystal's prediction does not depend on its
    batch.

    Args:
        hidden_dim: length of x and y.
        updates_edges: whether y' is wanted; if not, `forward` returns y as it is.
    """

    def __init__(self, hidden_dim: int, *, updates_edges: bool = True) -> None:
        super().__init__()
        self.gate = PairLinear(hidden_dim, hidden_dim, hidden_dim)
        self.node = nn.Linear(hidden_dim, hidden_dim)
        self.message = nn.Linear(hidden_dim, hidden_dim)
        self.node_norm = nn.LayerNorm(hidden_dim)
        self.edge_norm = nn.LayerNorm(hidden_dim) if updates_edges else None

    def forward(self, x: Tensor, y: Tensor, centers: Tensor, neighbors: Tensor) -> tuple[Tensor, Tensor]:
        """Update nodes and edges of a graph: atoms and bonds, or bonds and angles.

        Args:
            x: (n, hidden_dim), nodes.
            y: (m, hidden_dim), edges.
            centers: (m,) int64, the node i that receives edge ij.
            neighbors: (m,) int64, the node j at its other end.

        Returns:
            x' and y', of the shapes of x and y.
        """
        if runs_here(y):
            nodes = side_by_side(x, self.gate.center, self.gate.neighbor, self.message)
            total, weights, y_new = edge_gated(nodes, y, centers, neighbors, self.gate.edge.weight, self.edge_norm)
        else:
            gate = self.gate(x, y, centers, neighbors)
            sigma = torch.sigmoid(gate)
            total = segment_sum(sigma * gather(self.message(x), neighbors), centers, len(x))
            weights = segment_sum(sigma, centers, len(x))
            y_new = y if self.edge_norm is None else y + silu(self.edge_norm(gate))
        x_new = x + silu(self.node_norm(self.node(x) + total / (weights + EPSILON)))
        return x_new, y_new


class ALIGNNLayer(nn.Module):
    """Message passing between bonds over angles (the line graph), then between atoms over bonds (Fig. 1).

    Args:
        hidden_dim: length of atom, bond and angle vectors.
        updates_angles: whether a later layer needs the angles.
    """

    def __init__(self, hidden_dim: int, *, updates_angles: bool) -> None:
        super().__init__()
        self.line_graph = EdgeGatedGraphConv(hidden_dim, updates_edges=updates_angles)
        self.crystal_graph = EdgeGatedGraphConv(hidden_dim)

    def forward(
        self, x: Tensor, y: Tensor, z: Tensor, graph: CrystalGraph, angles: AngleGraph
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Update bonds and angles on the line graph, then atoms and bonds on the crystal graph.

        Args:
            x: (n_atoms, hidden_dim), atoms.
            y: (n_edges, hidden_dim), bonds.
            z: (n_angles, hidden_dim), angles.
            graph: whose edges join the atoms.
            angles: pairs of bonds at one atom, the edges of the line graph.

        Returns:
            x, y and z, updated.
        """
        y, z = self.line_graph(y, z, angles.first, angles.second)
        x, y = self.crystal_graph(x, y, graph.centers, graph.neighbors)
        return x, y, z


class Embedding(nn.Sequential):
    """Linear, layer normalisation, SiLU: the paper's embedding of raw features."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(nn.Linear(in_dim, out_dim), nn.LayerNorm(out_dim), nn.SiLU())


class ALIGNN(nn.Module):
    """Atomistic line graph neural network; `AngleGraph` says which angles it sees and why.

    Args:
        hidden_dim: length of every vector.
        n_alignn_layers: layers with angles (published: 4).
        n_gcn_layers: layers without (published: 4); at least one.
        n_radial: Gaussians per distance.
        n_angular: Gaussians per cosine.
        n_angle_neighbors: nearest edges of an atom that form angles, whole shells.
        cutoff: centre of the last Gaussian, Å.
    """

    def __init__(
        self,
        *,
        hidden_dim: int,
        n_alignn_layers: int,
        n_gcn_layers: int,
        n_radial: int,
        n_angular: int,
        n_angle_neighbors: int,
        cutoff: float,
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.n_angle_neighbors = n_angle_neighbors
        self.elements = ElementEmbedding(hidden_dim)
        self.bonds = nn.Sequential(GaussianExpansion(0.0, cutoff, n_radial), Embedding(n_radial, hidden_dim))
        self.angles = nn.Sequential(GaussianExpansion(-1.0, 1.0, n_angular), Embedding(n_angular, hidden_dim))
        self.alignn_layers = nn.ModuleList(
            ALIGNNLayer(hidden_dim, updates_angles=layer + 1 < n_alignn_layers) for layer in range(n_alignn_layers)
        )
        self.gcn_layers = nn.ModuleList(
            EdgeGatedGraphConv(hidden_dim, updates_edges=layer + 1 < n_gcn_layers) for layer in range(n_gcn_layers)
        )

    def forward(self, graph: CrystalGraph) -> Tensor:
        """Graph -> (n_crystals, hidden_dim)."""
        distances = graph.distances
        angles = build_angle_graph(graph, distances, self.n_angle_neighbors)
        x = self.elements(graph.atomic_numbers)
        # torch's stubs take every layer of a Sequential for a plain Module
        y = embedded(self.bonds[0].rows(distances), *self.bonds[1])  # pyright: ignore[reportCallIssue, reportGeneralTypeIssues]
        z = embedded(self.angles[0].rows(angles.cosines), *self.angles[1])  # pyright: ignore[reportCallIssue, reportGeneralTypeIssues]
        for layer in self.alignn_layers:
            x, y, z = layer(x, y, z, graph, angles)
        for layer in self.gcn_layers:
            x, y = layer(x, y, graph.centers, graph.neighbors)
        return mean_over_atoms(x, graph)
