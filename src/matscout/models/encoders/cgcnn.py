"""CGCNN: Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), arXiv:1710.10324."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from matscout.graphs.crystal_graph import CrystalGraph
from matscout.models.kernels.edges import Edges
from matscout.models.kernels.gated_messages import GatedSum
from matscout.models.kernels.gaussian_band import Band
from matscout.models.layers.distances_and_angles import GaussianExpansion
from matscout.models.layers.element_embedding import ElementEmbedding
from matscout.models.layers.message_passing import PairLinear, mean_over_atoms, segment_sum

PAPER: Final = "CGCNN: Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), arXiv:1710.10324."


class CGCNNConvolution(nn.Module):
    """Eq. 5: v_i' = v_i + sum_j sigmoid(z_ij W_f + b_f) ⊙ g(z_ij W_s + b_s), z_ij = v_i ⊕ v_j ⊕ u_ij.

    W_f and W_s are one factorised layer; g is softplus. The published code adds to the equation two batch
    normalisations and a softplus of the result. Here a layer normalisation of the summed message takes the
    place of the former, so that a crystal's prediction does not depend on its batch; the latter, which
    is not in the equation, is left out.

    Args:
        hidden_dim: length of v.
        edge_dim: length of u.
    """

    def __init__(self, hidden_dim: int, edge_dim: int) -> None:
        super().__init__()
        self.gate_and_core = PairLinear(hidden_dim, edge_dim, 2 * hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)

    def gated_sum(self, v: Tensor, u: Tensor | Band, graph: CrystalGraph) -> Tensor:
        """Sum the gated messages of Eq. 5; `GatedSum` does the same in one pass.

        Args:
            v: (n_atoms, hidden_dim), atoms.
            u: (n_edges, edge_dim), bonds, or the same as a `Band`.
            graph: whose edges join the atoms.

        Returns:
            (n_atoms, hidden_dim).
        """
        pair = self.gate_and_core
        if isinstance(u, Band):
            edges = Edges.of(graph.centers, graph.neighbors, graph.n_atoms)
            return GatedSum.apply(pair.center(v), pair.neighbor(v), pair.edge.weight, u, edges)  # type: ignore[return-value]
        gate, core = pair(v, u, graph.centers, graph.neighbors).chunk(2, dim=-1)
        return segment_sum(torch.sigmoid(gate) * softplus(core), graph.centers, graph.n_atoms)

    def forward(self, v: Tensor, u: Tensor | Band, graph: CrystalGraph) -> Tensor:
        """Update the atoms by Eq. 5.

        Args:
            v: (n_atoms, hidden_dim), atoms.
            u: (n_edges, edge_dim), bonds, or the same as a `Band`.
            graph: whose edges join the atoms.

        Returns:
            (n_atoms, hidden_dim).
        """
        return v + self.norm(self.gated_sum(v, u, graph))


class CGCNN(nn.Module):
    """Crystal graph convolutional network: gated sums over neighbours, then the mean over atoms.

    Args:
        hidden_dim: length of the atom vectors and of the output.
        n_layers: convolutions.
        n_radial: Gaussians per distance.
        cutoff: centre of the last Gaussian, Å.
    """

    def __init__(self, *, hidden_dim: int, n_layers: int, n_radial: int, cutoff: float) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.elements = ElementEmbedding(hidden_dim)
        self.radial = GaussianExpansion(0.0, cutoff, n_radial)
        self.convolutions = nn.ModuleList(CGCNNConvolution(hidden_dim, n_radial) for _ in range(n_layers))

    def forward(self, graph: CrystalGraph) -> Tensor:
        """Graph -> (n_crystals, hidden_dim)."""
        v = self.elements(graph.atomic_numbers)
        u = self.radial.rows(graph.distances, differentiable=True)
        for convolution in self.convolutions:
            v = convolution(v, u, graph)
        return mean_over_atoms(v, graph)
