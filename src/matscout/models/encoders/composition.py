"""A transformer over the formula.

Attention among elements with fractional amounts: Wang, Kauwe, Murdock and Sparks (CrabNet), npj Comput.
Mater. 7, 77 (2021). Weighing by fractions in attention and readout: Goodall and Lee (Roost), Nat.
Commun. 11, 6280 (2020), arXiv:1910.00617. Reduced formulas are padded tensors, amounts are vectors.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from matscout.crystal import N_ELEMENTS
from matscout.graphs.crystal_graph import CrystalGraph
from matscout.models.layers.element_embedding import ElementEmbedding
from matscout.models.layers.message_passing import MLP

LARGEST_DENOMINATOR = 256.0  # fractions are distinguished down to about 1 / 256


@dataclass(frozen=True)
class Formulas:
    """Reduced formulas, padded to the one with most elements.

    Attributes:
        atomic_numbers: (n_crystals, longest) int64, ascending, zero where padded.
        fractions: (n_crystals, longest) float32, rows sum to one, zero where padded.
    """

    atomic_numbers: Tensor
    fractions: Tensor

    @property
    def is_padding(self) -> Tensor:
        """(n_crystals, longest) bool."""
        return self.atomic_numbers == 0

    @property
    def log_fractions(self) -> Tensor:
        """(n_crystals, longest), zero where padded."""
        return torch.log(self.fractions.masked_fill(self.is_padding, 1.0))


def formulas_of(graph: CrystalGraph) -> Formulas:
    """The elements and fractions of each crystal: the same for any cell and any order of atoms."""
    width = N_ELEMENTS + 1
    slots = graph.crystal_of_atom * width + graph.atomic_numbers
    amounts = graph.multiplicity.new_zeros(graph.n_crystals * width).index_add(0, slots, graph.multiplicity)
    amounts = amounts.view(graph.n_crystals, width)
    crystal, element = torch.nonzero(amounts, as_tuple=True)
    n_elements = torch.bincount(crystal, minlength=graph.n_crystals)
    rank = torch.arange(len(crystal), device=crystal.device) - (n_elements.cumsum(0) - n_elements)[crystal]
    shape = (graph.n_crystals, int(n_elements.max()))
    atomic_numbers, fractions = element.new_zeros(shape), amounts.new_zeros(shape)
    atomic_numbers[crystal, rank] = element
    fractions[crystal, rank] = (amounts / amounts.sum(dim=1, keepdim=True))[crystal, element]
    return Formulas(atomic_numbers, fractions)


class FractionEncoding(nn.Module):
    """CrabNet's encoding of an amount: sines and cosines of the fraction, and of its logarithm for dopants.

    Args:
        dim: length of the result.
    """

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        n_frequencies = max(dim // 4, 1)
        octaves = torch.linspace(0.0, math.log2(LARGEST_DENOMINATOR), n_frequencies)
        self.register_buffer("frequencies", math.pi * 2.0**octaves, persistent=False)
        self.project = nn.Linear(4 * n_frequencies, dim)

    def forward(self, fractions: Tensor) -> Tensor:
        """(...,) in [0, 1] -> (..., dim)."""
        smallest = 1.0 / LARGEST_DENOMINATOR
        logarithms = 1.0 - torch.log2(fractions.clamp(min=smallest)) / math.log2(smallest)
        phases = torch.stack([fractions, logarithms], dim=-1)[..., None] * self.frequencies
        return self.project(torch.cat([phases.sin(), phases.cos()], dim=-1).flatten(-2))


PAPER: Final = (
    "A transformer over the formula. Attention among elements with fractional amounts: Wang, Kauwe, "
    "Murdock and Sparks (CrabNet), npj Comput. Mater. 7, 77 (2021). Weighing by fractions in attention "
    "and readout: Goodall and Lee (Roost), Nat. Commun. 11, 6280 (2020), arXiv:1910.00617."
)


class FormulaAttention(nn.Module):
    """Self-attention among the elements of a formula, each weighed by its fraction as in Roost.

    a_ij = softmax_j(q_i·k_j / sqrt(d) + gamma ln f_j), gamma learned per head from 1: with gamma = 1 an
    element counts as often as it has atoms. Padding has no weight.

    Args:
        dim: length of a token.
        n_heads: must divide `dim`.
    """

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.gamma = nn.Parameter(torch.ones(n_heads))
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, formulas: Formulas) -> Tensor:
        """(n_crystals, longest, dim) -> (n_crystals, longest, dim)."""
        n, longest, dim = x.shape
        q, k, v = self.qkv(x).view(n, longest, 3, self.n_heads, dim // self.n_heads).permute(2, 0, 3, 1, 4)
        bias = self.gamma[:, None, None] * formulas.log_fractions[:, None, None, :]
        bias = bias.masked_fill(formulas.is_padding[:, None, None, :], -torch.inf)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(-1, -1, longest, -1))
        return self.out(mixed.transpose(1, 2).reshape(n, longest, dim))


class FormulaLayer(nn.Module):
    """A transformer layer, normalised before attention and before the perceptron.

    Args:
        dim: length of a token.
        n_heads: of the attention.
    """

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = FormulaAttention(dim, n_heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = MLP(dim, 2 * dim, dim)

    def forward(self, x: Tensor, formulas: Formulas) -> Tensor:
        """(n_crystals, longest, dim) -> (n_crystals, longest, dim)."""
        x = x + self.attention(self.attention_norm(x), formulas)
        return x + self.mlp(self.mlp_norm(x))


class AttentionPooling(nn.Module):
    """Roost's readout: for each head, sum_i a_i W x_i, a = softmax_i(w·x_i + gamma ln f_i).

    Args:
        dim: length of a token and of the result.
        n_heads: must divide `dim`; each head pools its share of the channels.
    """

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(dim)
        self.logits = MLP(dim, dim, n_heads)
        self.values = nn.Linear(dim, dim)
        self.gamma = nn.Parameter(torch.ones(n_heads))

    def forward(self, x: Tensor, formulas: Formulas) -> Tensor:
        """(n_crystals, longest, dim) -> (n_crystals, dim)."""
        n, longest, dim = x.shape
        x = self.norm(x)
        logits = self.logits(x) + self.gamma * formulas.log_fractions[..., None]
        weights = torch.softmax(logits.masked_fill(formulas.is_padding[..., None], -torch.inf), dim=1)
        values = self.values(x).view(n, longest, self.n_heads, dim // self.n_heads)
        return (weights[..., None] * values).sum(dim=1).view(n, dim)


class CompositionTransformer(nn.Module):
    """Sees the reduced formula only: one token per element, attention weighed by amounts.

    Args:
        hidden_dim: length of a token and of the output.
        n_layers: transformer layers.
        n_heads: attention heads; must divide `hidden_dim`.
    """

    def __init__(self, *, hidden_dim: int, n_layers: int, n_heads: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.elements = ElementEmbedding(hidden_dim)
        self.amounts = FractionEncoding(hidden_dim)
        self.layers = nn.ModuleList(FormulaLayer(hidden_dim, n_heads) for _ in range(n_layers))
        self.pooling = AttentionPooling(hidden_dim, n_heads)

    def forward(self, graph: CrystalGraph) -> Tensor:
        """Graph -> (n_crystals, hidden_dim); its edges are not read."""
        formulas = formulas_of(graph)
        x = self.elements(formulas.atomic_numbers.flatten()).view(*formulas.fractions.shape, -1)
        x = x + self.amounts(formulas.fractions)
        for layer in self.layers:
            x = layer(x, formulas)
        return self.pooling(x, formulas)
