"""Dense layers on atoms and edges, and sums, means and softmax over groups of rows.

A group is the neighbours of an atom or the atoms of a crystal. All are built on `index_select` and `index_add`, which
are the fastest forward and backward on a CPU for the few hundred rows of a batch, and deterministic there.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from matscout.graphs.crystal_graph import CrystalGraph


def gather(x: Tensor, rows: Tensor) -> Tensor:
    """(n, d), (m,) int64 -> (m, d): x[rows], with a fast backward."""
    return x.index_select(0, rows)


def segment_sum(x: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Sum the rows of each segment.

    Args:
        x: (m, ...), rows.
        segment: (m,) int64, the segment of each row.
        n_segments: number of segments; one without rows gets zero.

    Returns:
        (n_segments, ...).
    """
    return x.new_zeros(n_segments, *x.shape[1:]).index_add(0, segment, x)


def segment_softmax(logits: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Softmax among the rows of each segment.

    Args:
        logits: (m, ...); a row at -inf gets zero.
        segment: (m,) int64, the segment of each row.
        n_segments: number of segments.

    Returns:
        (m, ...), which sums to one over each segment.
    """
    peak_index = segment.view(-1, *[1] * (logits.dim() - 1)).expand_as(logits)
    lowest = torch.full((n_segments, *logits.shape[1:]), -torch.inf, dtype=logits.dtype, device=logits.device)
    peak = lowest.scatter_reduce(0, peak_index, logits.detach(), "amax").index_select(0, segment)
    weights = torch.exp(logits - peak)
    return weights / segment_sum(weights, segment, n_segments).index_select(0, segment)


def mean_over_atoms(x: Tensor, graph: CrystalGraph) -> Tensor:
    """(n_atoms, d) -> (n_crystals, d): the mean over the whole cell, each atom with its multiplicity."""
    n_atoms = segment_sum(graph.multiplicity, graph.crystal_of_atom, graph.n_crystals)
    weights = graph.multiplicity / n_atoms.index_select(0, graph.crystal_of_atom)
    return segment_sum(weights[:, None] * x, graph.crystal_of_atom, graph.n_crystals)


def mean_over_edges(x: Tensor, graph: CrystalGraph) -> Tensor:
    """(n_edges, d) -> (n_atoms, d): the mean over each atom's edges; an atom without edges gets zero."""
    counts = torch.bincount(graph.centers, minlength=graph.n_atoms).clamp(min=1)
    return segment_sum(x, graph.centers, graph.n_atoms) / counts[:, None]


class MLP(nn.Sequential):
    """Linear layers with swish between them, and after the last if `activate_last`.

    Layers before a swish start with He's variance, so that signals keep their size through many layers
    without normalisation (He et al., "Delving deep into rectifiers", ICCV 2015).

    Args:
        dims: widths, input first.
        activate_last: swish after the last layer too.
    """

    def __init__(self, *dims: int, activate_last: bool = False) -> None:
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(dims):
            layers += [nn.Linear(fan_in, fan_out), nn.SiLU()]
        super().__init__(*(layers if activate_last else layers[:-1]))
        for layer, follower in pairwise(self):
            if isinstance(layer, nn.Linear) and isinstance(follower, nn.SiLU):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)


def side_by_side(x: Tensor, *layers: nn.Linear) -> Tensor:
    """Several linear layers of the same rows as one product, (n, d) -> (n, all outputs): no bias is zero."""
    biases = [layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers]
    return linear(x, torch.cat([layer.weight for layer in layers]), torch.cat(biases))


class PairLinear(nn.Module):
    """A linear layer on x_i ⊕ x_j ⊕ e_ij, factorised: W_1 x_i + W_2 x_j + W_3 e_ij + b.

    The same function as one matrix on the concatenation, but the products with x are taken once an
    atom instead of once an edge.

    Args:
        node_dim: length of x.
        edge_dim: length of e.
        out_dim: length of the result.
    """

    def __init__(self, node_dim: int, edge_dim: int, out_dim: int) -> None:
        super().__init__()
        self.center = nn.Linear(node_dim, out_dim)
        self.neighbor = nn.Linear(node_dim, out_dim, bias=False)
        self.edge = nn.Linear(edge_dim, out_dim, bias=False)

    def forward(self, x: Tensor, e: Tensor, centers: Tensor, neighbors: Tensor) -> Tensor:
        """Apply the layer to every edge.

        Args:
            x: (n, node_dim), nodes.
            e: (m, edge_dim), edges.
            centers: (m,) int64, the node i that receives edge ij.
            neighbors: (m,) int64, the node j at its other end.

        Returns:
            (m, out_dim).
        """
        pairs = gather(self.center(x), centers)
        pairs += gather(self.neighbor(x), neighbors)  # in place in the gathered rows: the sums touch half the memory
        pairs += self.edge(e)
        return pairs
