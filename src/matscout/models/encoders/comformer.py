"""iComFormer: Yan, Fu, Qian, Qian and Ji, ICLR 2024, arXiv:2403.11857."""

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from matscout.graphs.crystal_graph import CrystalGraph
from matscout.models.kernels.edges import runs_here
from matscout.models.kernels.gated_messages import gated_values
from matscout.models.kernels.gaussian_band import embedded
from matscout.models.layers.distances_and_angles import GaussianExpansion, build_angle_graph
from matscout.models.layers.element_embedding import ElementEmbedding
from matscout.models.layers.message_passing import PairLinear, gather, mean_over_atoms, segment_sum, side_by_side

PAPER: Final = "iComFormer: Yan, Fu, Qian, Qian and Ji, ICLR 2024, arXiv:2403.11857."

SHORTEST = 0.75  # Å: the shortest bond there is, H-H; the published expansion spends half its range below it


class ComFormerConvolution(nn.Module):
    """The transformer layer that serves nodes and edges alike.

    q_i = W_q f_i; k_ij = xi_K(f_i ⊕ f_j ⊕ e_ij); m_ij = xi_V(f_i ⊕ f_j ⊕ e_ij);
    alpha_ij = q_i ⊙ k_ij / sqrt(d); f_i' = f_i + LN(W sum_j sigmoid(LN(alpha_ij)) ⊙ m_ij).

    The gates are one per channel and not normalised over neighbours, so that the layer can tell how many
    there are. The linear maps of keys and values before the perceptrons xi are merged with the
    perceptrons' first layers, and these are factorised. Layer normalisation replaces the published
    batch normalisation, so that a crystal's prediction does not depend on its batch; the published
    softplus around f' is left out, as in `CGCNNConvolution`.

    Args:
        dim: length of f and e.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = 1.0 / math.sqrt(dim)
        self.query = nn.Linear(dim, dim)
        self.pair = PairLinear(dim, dim, 2 * dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.gate_norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim)
        self.out_norm = nn.LayerNorm(dim)

    def forward(self, f: Tensor, e: Tensor, centers: Tensor, neighbors: Tensor) -> Tensor:
        """Update nodes by attention over their edges.

        Args:
            f: (n, dim), nodes.
            e: (m, dim), edges.
            centers: (m,) int64, the node i that receives edge ij.
            neighbors: (m,) int64, the node j at its other end.

        Returns:
            (n, dim).
        """
        if runs_here(e):
            nodes = side_by_side(f, self.query, self.pair.center, self.pair.neighbor)
            layers = self.pair.edge, self.key, self.value, self.gate_norm
            total = gated_values(nodes, e, centers, neighbors, *layers, self.scale)
        else:
            for_key, for_value = silu(self.pair(f, e, centers, neighbors)).chunk(2, dim=1)
            alpha = gather(self.query(f), centers) * self.key(for_key) * self.scale
            total = segment_sum(torch.sigmoid(self.gate_norm(alpha)) * self.value(for_value), centers, len(f))
        return f + self.out_norm(self.out(total))


class ComFormer(nn.Module):
    """Invariant crystal transformer: one edge layer that sees angles, then node layers.

    The published edge layer sees the angles between an edge and three lattice vectors. Here it sees those
    between an edge and the nearest edges of the same atom (`AngleGraph`): the asymmetric unit keeps no
    lattice, and three vectors of equal length would have no order that survives a change of cell. It comes
    before the first node layer, not after it, so that every node layer knows the angles.

    Args:
        hidden_dim: length of every vector.
        n_layers: node layers (published: 4).
        n_radial: Gaussians per -1 / distance.
        n_angular: Gaussians per cosine.
        n_angle_neighbors: nearest edges of an atom that form angles, whole shells.
        cutoff: the last Gaussian is centred at -1 / cutoff, Å.
    """

    def __init__(
        self,
        *,
        hidden_dim: int,
        n_layers: int,
        n_radial: int,
        n_angular: int,
        n_angle_neighbors: int,
        cutoff: float,
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.n_angle_neighbors = n_angle_neighbors
        self.elements = ElementEmbedding(hidden_dim)
        self.radial = GaussianExpansion(-1.0 / SHORTEST, -1.0 / cutoff, n_radial)
        self.edge_embedding = nn.Sequential(nn.Linear(n_radial, hidden_dim), nn.Softplus())
        self.angular = GaussianExpansion(-1.0, 1.0, n_angular)
        self.angle_embedding = nn.Sequential(nn.Linear(n_angular, hidden_dim), nn.Softplus())
        self.edge_layer = ComFormerConvolution(hidden_dim)
        self.node_layers = nn.ModuleList(ComFormerConvolution(hidden_dim) for _ in range(n_layers))

    def forward(self, graph: CrystalGraph) -> Tensor:
        """Graph -> (n_crystals, hidden_dim)."""
        distances = graph.distances
        angles = build_angle_graph(graph, distances, self.n_angle_neighbors)
        v = self.elements(graph.atomic_numbers)
        # torch's stubs take every layer of a Sequential for a plain Module
        e = embedded(self.radial.rows(-1.0 / distances), *self.edge_embedding)  # pyright: ignore[reportArgumentType]
        theta = embedded(self.angular.rows(angles.cosines), *self.angle_embedding)  # pyright: ignore[reportArgumentType]
        e = self.edge_layer(e, theta, angles.first, angles.second)
        for layer in self.node_layers:
            v = layer(v, e, graph.centers, graph.neighbors)
        return mean_over_atoms(v, graph)
