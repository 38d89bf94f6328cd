"""Reduced formulas as padded tensors, and amounts as vectors."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from matscout.crystal import N_ELEMENTS
from matscout.graphs.crystal_graph import CrystalGraph

LARGEST_DENOMINATOR = 256.0  # fractions are told apart down to about 1 / 256


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
