"""What the members say about the rows of a store: distributions, and the embeddings behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from matscout.ensemble.outputs import TargetOutputs
from matscout.graphs.batching import inference_batches, prefetch
from matscout.graphs.store import GraphStore
from matscout.models.distributions import DISTRIBUTIONS, Distribution
from matscout.models.inference import MAX_EDGES
from matscout.models.member import LoadedMember
from matscout.progress import progress

Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class MemberOutputs:
    """Outputs of all members for n crystals.

    Attributes:
        distributions: by target, then by member.
        embeddings: (n, sum of the members' hidden dimensions) float32, members side by side.
    """

    distributions: Mapping[str, Mapping[str, Distribution]]
    embeddings: Embeddings

    def at(self, distance: NDArray[np.float64]) -> dict[str, TargetOutputs]:
        """By target, with the crystals' (n,) distance from the training set."""
        return {target: TargetOutputs(members, distance) for target, members in self.distributions.items()}


def run_members(
    members: Sequence[LoadedMember], store: GraphStore, rows: NDArray[np.int64], *, device: str, description: str
) -> MemberOutputs:
    """Every member's distributions and embeddings for `rows`, in their order."""
    embeddings = [
        embed(member, store, rows, device=device, description=f"{description} {member.name}") for member in members
    ]
    by_member = {
        member.name: _distributions(member, embedding) for member, embedding in zip(members, embeddings, strict=True)
    }
    targets = members[0].model.head.kinds
    return MemberOutputs(
        {target: {name: outputs[target] for name, outputs in by_member.items()} for target in targets},
        np.concatenate(embeddings, axis=1),
    )


def embed(
    member: LoadedMember, store: GraphStore, rows: NDArray[np.int64], *, device: str, description: str
) -> Embeddings:
    """(n, hidden_dim): the member's encoder outputs for `rows`, in their order."""
    settings = {"n_neighbors": member.card.graph["n_neighbors"], "cutoff": member.card.graph["cutoff"]}
    model = member.model.to(device).eval()
    embeddings = np.empty((len(rows), member.card.encoder["hidden_dim"]), np.float32)
    batches = inference_batches(store.edge_counts(**settings)[rows], max_edges=MAX_EDGES)
    graphs = prefetch(lambda batch: store.batch(rows[batch], **settings), batches)
    with torch.inference_mode(), progress(description=description, total=len(rows), unit="crystal") as bar:
        for batch, graph in zip(batches, graphs, strict=True):
            embeddings[batch] = model.encoder(graph.to(device)).float().cpu().numpy()
            bar.update(len(batch))
    return embeddings


def _distributions(member: LoadedMember, embedding: Embeddings) -> dict[str, Distribution]:
    model = member.model.cpu()
    with torch.inference_mode():
        outputs = model.head(torch.from_numpy(embedding))
    return {target: DISTRIBUTIONS[kind].from_head(outputs[target].numpy()) for target, kind in model.head.kinds.items()}
