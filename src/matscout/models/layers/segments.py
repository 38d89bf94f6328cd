"""Sums, means and softmax over groups of rows: neighbours of an atom, atoms of a crystal.

All are built on `index_select` and `index_add`, which are the fastest forward and backward on a CPU for
the few hundred rows of a batch, and deterministic there.
"""

import torch
from torch import Tensor

from matscout.graphs.crystal_graph import CrystalGraph


def gather(x: Tensor, rows: Tensor) -> Tensor:
    """(n, d), (m,) int64 -> (m, d): x[rows], with a fast backward."""
    return x.index_select(0, rows)


def segment_sum(x: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """(m, ...) -> (n_segments, ...): sum of the rows of each segment."""
    return x.new_zeros(n_segments, *x.shape[1:]).index_add(0, segment, x)


def segment_softmax(logits: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """(m, ...) -> (m, ...): softmax among the rows of each segment; a row at -inf gets zero."""
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
