"""coGN: Ruff, Reiser, Stühmer and Friederich, Digital Discovery 3, 594 (2024), arXiv:2302.14102.

The connectivity-optimised graph network without nested line graphs: its gain comes from the graph
(asymmetric unit, k nearest neighbours) and from deep edge perceptrons without any normalisation.
"""

from typing import Final

from torch import Tensor, nn
from torch.nn.functional import silu

from matscout.graphs.crystal_graph import CrystalGraph
from matscout.models.kernels.gaussian_band import Band
from matscout.models.kernels.perceptron import mean_of_perceptron
from matscout.models.layers.distances_and_angles import GaussianExpansion
from matscout.models.layers.element_embedding import ElementEmbedding
from matscout.models.layers.message_passing import MLP, PairLinear, mean_over_atoms, mean_over_edges

PAPER: Final = (
    "coGN: Ruff, Reiser, Stühmer and Friederich, Digital Discovery 3, 594 (2024), arXiv:2302.14102. The "
    "connectivity-optimised graph network without nested line graphs: what it gains comes from the graph "
    "(asymmetric unit, k nearest neighbours) and from deep edge perceptrons without any normalisation."
)


class CoGNBlock(nn.Module):
    """m_ij = phi_e(e_ij ⊕ v_i ⊕ v_j); v_i' = v_i + phi_v(mean_j m_ij), phi_v of one layer.

    Edges are not passed on: every block starts from the embedded distances. The published block sums; with a
    fixed number of neighbours the mean is the same up to a factor, which without normalisation would
    multiply from block to block.

    Args:
        hidden_dim: length of v and e.
        n_edge_layers: layers of phi_e (published: 5), swish after each.
    """

    def __init__(self, hidden_dim: int, n_edge_layers: int) -> None:
        super().__init__()
        self.pair = PairLinear(hidden_dim, hidden_dim, hidden_dim)
        self.edge_mlp = MLP(*[hidden_dim] * n_edge_layers, activate_last=True)
        self.node_mlp = MLP(hidden_dim, hidden_dim, activate_last=True)

    def forward(self, v: Tensor, e: Tensor, graph: CrystalGraph) -> Tensor:
        """Update the atoms.

        Args:
            v: (n_atoms, hidden_dim), atoms.
            e: (n_edges, hidden_dim), bonds.
            graph: whose edges join the atoms.

        Returns:
            (n_atoms, hidden_dim).
        """
        messages = self.edge_mlp(silu(self.pair(v, e, graph.centers, graph.neighbors)))
        return v + self.node_mlp(mean_over_edges(messages, graph))

    def of_distances(self, v: Tensor, band: Band, embedding: nn.Linear, graph: CrystalGraph) -> Tensor:
        """Compute `forward` for e = embedding(band) in one pass: two linear layers in a row are one.

        Args:
            v: (n_atoms, hidden_dim), atoms.
            band: Gaussians of the distances of the n_edges bonds.
            embedding: from the Gaussians to hidden_dim.
            graph: whose edges join the atoms.

        Returns:
            (n_atoms, hidden_dim), as `forward` but for rounding.
        """
        weight = self.pair.edge.weight
        center = self.pair.center(v) + weight @ embedding.bias
        merged = weight @ embedding.weight
        mean = mean_of_perceptron(
            center, self.pair.neighbor(v), merged, band, graph.centers, graph.neighbors, self.edge_mlp
        )
        return v + self.node_mlp(mean)


class CoGN(nn.Module):
    """Connectivity-optimised graph network: edge perceptrons, means over neighbours, then over atoms.

    Args:
        hidden_dim: length of every vector.
        n_layers: message passing blocks (published: 5).
        n_edge_layers: layers of the edge perceptron in each (published: 5).
        n_atom_layers: layers of a perceptron on each atom's vector before their mean (published: 0), so that what is a
            mean over atoms, as an energy is, can be one of functions of each atom.
        n_radial: Gaussians per distance (published: 32).
        cutoff: centre of the last Gaussian, Å.
    """

    def __init__(
        self, *, hidden_dim: int, n_layers: int, n_edge_layers: int, n_atom_layers: int, n_radial: int, cutoff: float
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.elements = ElementEmbedding(hidden_dim)
        self.radial = GaussianExpansion(0.0, cutoff, n_radial)
        self.edge_embedding = nn.Linear(n_radial, hidden_dim)
        self.blocks = nn.ModuleList(CoGNBlock(hidden_dim, n_edge_layers) for _ in range(n_layers))
        self.atom_mlp = MLP(*[hidden_dim] * (n_atom_layers + 1), activate_last=True)

    def forward(self, graph: CrystalGraph) -> Tensor:
        """Graph -> (n_crystals, hidden_dim)."""
        v = self.elements(graph.atomic_numbers)
        b = self.radial.rows(graph.distances, differentiable=True)
        if isinstance(b, Band):
            for block in self.blocks:
                v = block.of_distances(v, b, self.edge_embedding, graph)  # pyright: ignore[reportCallIssue]  # to torch's stubs a Module
        else:
            e = self.edge_embedding(b)
            for block in self.blocks:
                v = block(v, e, graph)
        return mean_over_atoms(self.atom_mlp(v), graph)
