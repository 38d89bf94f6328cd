"""What the members say about the rows of a store: distributions, and the embeddings behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.distributions.mixture import TargetOutputs
from matscout.graphs.store.graph_store import GraphStore
from matscout.models.families.distribution import Distribution
from matscout.models.inference import Embeddings, distributions, embed, place_graphs, plan_inference
from matscout.models.saved_member import LoadedMember


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

    def is_finite(self) -> NDArray[np.bool_]:
        """(n,) whether everything that is said of a crystal is a finite number."""
        parameters = [found.parameters() for members in self.distributions.values() for found in members.values()]
        return np.logical_and.reduce([np.isfinite(values).all(axis=1) for values in (self.embeddings, *parameters)])

    def take(self, rows: NDArray[np.bool_]) -> Self:
        """Of some of the crystals."""
        distributions = {
            target: {name: found.take(rows) for name, found in members.items()}
            for target, members in self.distributions.items()
        }
        return type(self)(distributions, self.embeddings[rows])


def run_members(
    members: Sequence[LoadedMember],
    store: GraphStore,
    rows: NDArray[np.int64],
    *,
    device: str,
    description: str,
    compiled: bool = False,
) -> MemberOutputs:
    """Every member's distributions and embeddings for `rows`, in their order; see `plan_inference`."""
    plan = plan_inference(device, compiled=compiled)
    graphs = place_graphs(store, plan)
    embeddings = [
        embed(
            member.model,
            graphs,
            rows,
            n_neighbors=member.card.graph["n_neighbors"],
            cutoff=member.card.graph["cutoff"],
            plan=plan,
            description=f"{description} {member.name}",
        )
        for member in members
    ]
    by_member = {
        member.name: distributions(member.model, embedding)
        for member, embedding in zip(members, embeddings, strict=True)
    }
    targets = members[0].model.head.kinds
    return MemberOutputs(
        {target: {name: outputs[target] for name, outputs in by_member.items()} for target in targets},
        np.concatenate(embeddings, axis=1),
    )
