"""MEGNet: Chen, Ye, Zuo, Zheng and Ong, Chem. Mater. 31, 3564 (2019), arXiv:1812.05055.

Its readout is Set2Set: Vinyals, Bengio and Kudlur, "Order matters: sequence to sequence for sets", ICLR 2016.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from matscout.graphs.crystal_graph import CrystalGraph
from matscout.models.kernels.edges import runs_here
from matscout.models.kernels.gaussian_band import embedded
from matscout.models.kernels.perceptron import updated_edges
from matscout.models.layers.distances_and_angles import GaussianExpansion
from matscout.models.layers.element_embedding import ElementEmbedding
from matscout.models.layers.message_passing import (
    MLP,
    PairLinear,
    gather,
    mean_over_atoms,
    mean_over_edges,
    segment_softmax,
    segment_sum,
)

PAPER: Final = "MEGNet: Chen, Ye, Zuo, Zheng and Ong, Chem. Mater. 31, 3564 (2019), arXiv:1812.05055."


class MEGNetLayer(nn.Module):
    """Bonds, then atoms, then the global state, each from the newest of the others.

    e_ij' = phi_e(v_i ⊕ v_j ⊕ e_ij ⊕ u); v_i' = phi_v(mean_j e_ij' ⊕ v_i ⊕ u);
    u' = phi_u(mean_i mean_j e_ij' ⊕ mean_i v_i' ⊕ u). Means over atoms weigh with multiplicities; the mean over
    bonds is taken per atom first, so that atoms weigh alike however many ties they have.

    Args:
        dim: length of v, e and u.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pair = PairLinear(2 * dim, dim, dim)
        self.phi_e = MLP(dim, dim, dim, activate_last=True)
        self.phi_v = MLP(3 * dim, dim, dim, dim, activate_last=True)
        self.phi_u = MLP(3 * dim, dim, dim, dim, activate_last=True)

    def forward(self, v: Tensor, e: Tensor, u: Tensor, graph: CrystalGraph) -> tuple[Tensor, Tensor, Tensor]:
        """Update bonds, then atoms, then the global state.

        Args:
            v: (n_atoms, dim), atoms.
            e: (n_edges, dim), bonds.
            u: (n_crystals, dim), global state.
            graph: whose edges join the atoms.

        Returns:
            v', e' and u', of the shapes of v, e and u.
        """
        v_and_u = torch.cat([v, gather(u, graph.crystal_of_atom)], dim=1)
        e = self.phi_e(silu(self.pair(v_and_u, e, graph.centers, graph.neighbors)))
        v, u = self.atoms_and_state(mean_over_edges(e, graph), v_and_u, u, graph)
        return v, e, u

    def atoms_and_state(self, mean_e: Tensor, v_and_u: Tensor, u: Tensor, graph: CrystalGraph) -> tuple[Tensor, Tensor]:
        """Update atoms and global state from the bonds that are updated already.

        Args:
            mean_e: (n_atoms, dim), mean of the updated bonds of each atom.
            v_and_u: (n_atoms, 2 dim), v ⊕ u of each atom's crystal.
            u: (n_crystals, dim), global state.
            graph: which atoms belong to which crystal.

        Returns:
            v' of shape (n_atoms, dim) and u' of shape (n_crystals, dim).
        """
        v = self.phi_v(torch.cat([mean_e, v_and_u], dim=1))
        u = self.phi_u(torch.cat([mean_over_atoms(mean_e, graph), mean_over_atoms(v, graph), u], dim=1))
        return v, u


class MEGNetBlock(nn.Module):
    """Two dense layers on each of v, e and u, a `MEGNetLayer`, and skips around both (the paper's Fig. 2).

    Args:
        dim: length of v, e and u.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.ModuleList(MLP(dim, dim, dim, activate_last=True) for _ in range(3))
        self.layer = MEGNetLayer(dim)

    def forward(self, v: Tensor, e: Tensor, u: Tensor, graph: CrystalGraph) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the dense layers, the `MEGNetLayer` and the skips.

        Args:
            v: (n_atoms, dim), atoms.
            e: (n_edges, dim), bonds.
            u: (n_crystals, dim), global state.
            graph: whose edges join the atoms.

        Returns:
            v, e and u, updated.
        """
        dense_v, dense_e, dense_u = self.dense
        if not runs_here(e, differentiable=True):
            v_new, e_new, u_new = self.layer(dense_v(v), dense_e(e), dense_u(u), graph)
            return v + v_new, e + e_new, u + u_new
        pair, state = self.layer.pair, dense_u(u)
        v_and_u = torch.cat([dense_v(v), gather(state, graph.crystal_of_atom)], dim=1)
        ends = graph.centers, graph.neighbors
        e, mean_e = updated_edges(
            e, pair.center(v_and_u), pair.neighbor(v_and_u), *ends, dense_e, pair.edge, self.layer.phi_e
        )
        v_new, u_new = self.layer.atoms_and_state(mean_e, v_and_u, state, graph)
        return v + v_new, e, u + u_new


class MEGNet(nn.Module):
    """MatErials graph network: bonds, atoms and a global state, read out by Set2Set.

    Swish replaces the paper's softplus (same shape, a fifth of the time on a CPU). The global state has
    no input here, and so starts as one learned vector. Set2Set weighs atoms with their multiplicities and gives an
    atom's bonds that weight together.

    Args:
        hidden_dim: length of every vector.
        n_layers: blocks (published: 3).
        n_radial: Gaussians per distance.
        cutoff: centre of the last Gaussian, Å.
    """

    def __init__(self, *, hidden_dim: int, n_layers: int, n_radial: int, cutoff: float) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.elements = ElementEmbedding(hidden_dim)
        self.radial = GaussianExpansion(0.0, cutoff, n_radial)
        self.edge_embedding = nn.Linear(n_radial, hidden_dim)
        self.state = nn.Parameter(torch.randn(hidden_dim))
        self.blocks = nn.ModuleList(MEGNetBlock(hidden_dim) for _ in range(n_layers))
        self.atoms_to_crystal = WeightedSet2Set(hidden_dim)
        self.edges_to_crystal = WeightedSet2Set(hidden_dim)
        self.readout = MLP(5 * hidden_dim, hidden_dim, activate_last=True)

    def forward(self, graph: CrystalGraph) -> Tensor:
        """Graph -> (n_crystals, hidden_dim)."""
        v = self.elements(graph.atomic_numbers)
        e = embedded(self.radial.rows(graph.distances), self.edge_embedding)
        u = self.state.expand(graph.n_crystals, -1)
        for block in self.blocks:
            v, e, u = block(v, e, u, graph)
        n_edges = torch.bincount(graph.centers, minlength=graph.n_atoms)
        edge_weights = gather(graph.multiplicity / n_edges, graph.centers)
        crystal_of_edge = gather(graph.crystal_of_atom, graph.centers)
        atoms = self.atoms_to_crystal(v, graph.multiplicity, graph.crystal_of_atom, graph.n_crystals)
        edges = self.edges_to_crystal(e, edge_weights, crystal_of_edge, graph.n_crystals)
        return self.readout(torch.cat([atoms, edges, u], dim=1))


class WeightedSet2Set(nn.Module):
    """Set2Set over rows that stand for several equal ones each.

    q = LSTM(q*), a_i = w_i exp(x_i·q) / sum_j w_j exp(x_j·q), r = sum_i a_i x_i, q* = q ⊕ r; with the weights
    w the attention over a row of multiplicity w is the attention over w copies of it.

    Args:
        dim: length of the rows; the result has twice this length.
        n_steps: of the LSTM.
    """

    def __init__(self, dim: int, n_steps: int = 3) -> None:
        super().__init__()
        self.dim = dim
        self.n_steps = n_steps
        self.lstm = nn.LSTMCell(2 * dim, dim)

    def forward(self, x: Tensor, weights: Tensor, segment: Tensor, n_segments: int) -> Tensor:
        """Sum up each segment's rows, whatever their order.

        Args:
            x: (m, dim), rows.
            weights: (m,) positive, multiplicity of each row.
            segment: (m,) int64, the segment of each row.
            n_segments: number of segments.

        Returns:
            (n_segments, 2 dim).
        """
        log_weights = torch.log(weights)
        q_star = x.new_zeros(n_segments, 2 * self.dim)
        q = memory = x.new_zeros(n_segments, self.dim)
        for _ in range(self.n_steps):
            q, memory = self.lstm(q_star, (q, memory))
            logits = (x * gather(q, segment)).sum(dim=-1) + log_weights
            attention = segment_softmax(logits, segment, n_segments)
            q_star = torch.cat([q, segment_sum(attention[:, None] * x, segment, n_segments)], dim=1)
        return q_star
