"""The published CGCNN layer written plainly, as a yardstick: what any machine makes of the equations without care.

Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), with the published sizes: 64 features an atom, 41 Gaussians up to
8 Å, 12 neighbours in a dense (n_atoms, 12) table, three convolutions, 128 features after pooling; every edge
concatenates centre, neighbour and distance before one linear layer, and batch normalisation follows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from matscout.crystal import Crystal
from matscout.graphs.graph_store import GraphStore
from matscout.params import Graphs

N_NEIGHBORS = 12
N_GAUSSIANS = 41
CUTOFF = 8.0


@dataclass(frozen=True)
class DenseBatch:
    """Crystals as dense tables of neighbours.

    Attributes:
        atomic_numbers: (n_atoms,) int64.
        neighbors: (n_atoms, 12) int64.
        gaussians: (n_atoms, 12, 41).
        crystal_of_atom: (n_atoms,) int64.
        n_crystals: number of crystals.
    """

    atomic_numbers: Tensor
    neighbors: Tensor
    gaussians: Tensor
    crystal_of_atom: Tensor
    n_crystals: int


def dense_batches(crystals: list[Crystal], batch_size: int) -> list[DenseBatch]:
    """Whole cells, batched in their order."""
    settings = Graphs(n_neighbors=N_NEIGHBORS, asymmetric_unit=False, symprec=1e-3)
    store = GraphStore.from_crystals([str(i) for i in range(len(crystals))], crystals, settings)
    starts = range(0, len(crystals), batch_size)
    return [_dense(store, list(range(start, min(start + batch_size, len(crystals))))) for start in starts]


def _dense(store: GraphStore, rows: list[int]) -> DenseBatch:
    """The first 12 edges of each atom; ties at the last shell are cut off, as the published code does."""
    graph = store.batch(rows, n_neighbors=N_NEIGHBORS, cutoff=1e3)
    counts = torch.bincount(graph.centers, minlength=graph.n_atoms)
    first = torch.cumsum(counts, 0) - counts
    edges = first[:, None] + torch.arange(N_NEIGHBORS)
    centers = torch.linspace(0.0, CUTOFF, N_GAUSSIANS)
    gaussians = torch.exp(-(((graph.distances[edges][..., None] - centers) / (CUTOFF / (N_GAUSSIANS - 1))) ** 2))
    return DenseBatch(graph.atomic_numbers, graph.neighbors[edges], gaussians, graph.crystal_of_atom, graph.n_crystals)


class PublishedConvolution(nn.Module):
    """Eq. 5 with the published normalisations."""

    def __init__(self, atom_dim: int = 64) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * atom_dim + N_GAUSSIANS, 2 * atom_dim)
        self.edge_norm = nn.BatchNorm1d(2 * atom_dim)
        self.atom_norm = nn.BatchNorm1d(atom_dim)

    def forward(self, v: Tensor, batch: DenseBatch) -> Tensor:
        """(n_atoms, atom_dim) -> (n_atoms, atom_dim)."""
        center = v[:, None, :].expand(-1, N_NEIGHBORS, -1)
        z = self.linear(torch.cat([center, v[batch.neighbors], batch.gaussians], dim=-1))
        gate, core = self.edge_norm(z.flatten(0, 1)).view_as(z).chunk(2, dim=-1)
        return softplus(v + self.atom_norm((torch.sigmoid(gate) * softplus(core)).sum(dim=1)))


class PublishedCGCNN(nn.Module):
    """Three convolutions, the mean over atoms, one hidden layer, one output."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(119, 64)
        self.convolutions = nn.ModuleList(PublishedConvolution() for _ in range(3))
        self.hidden, self.output = nn.Linear(64, 128), nn.Linear(128, 1)

    def forward(self, batch: DenseBatch) -> Tensor:
        """Batch -> (n_crystals, 1)."""
        v = self.embedding(batch.atomic_numbers)
        for convolution in self.convolutions:
            v = convolution(v, batch)
        sums = v.new_zeros(batch.n_crystals, v.shape[1]).index_add(0, batch.crystal_of_atom, v)
        counts = torch.bincount(batch.crystal_of_atom, minlength=batch.n_crystals)
        return self.output(softplus(self.hidden(softplus(sums / counts[:, None]))))
