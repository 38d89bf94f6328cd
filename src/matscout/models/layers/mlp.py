"""Dense layers on nodes and on edges."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from matscout.models.layers.segments import gather


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
        """(n, node_dim), (m, edge_dim), two (m,) int64 -> (m, out_dim)."""
        pairs = gather(self.center(x), centers)
        pairs += gather(self.neighbor(x), neighbors)  # into the gathered rows: half the memory that the sums touch
        pairs += self.edge(e)
        return pairs
