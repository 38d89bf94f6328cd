"""Weights to begin with: those of a trained member of the same encoder.

The encoder's weights always come along. A head may come with its target's statistics, so that predictions begin
exactly as the start's and few rows suffice to correct them; a fresh one begins at the statistics of the labels.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from matscout.errors import ParameterError
from matscout.models.model import CrystalModel
from matscout.models.saved_member import LoadedMember, MemberCard, load_member
from matscout.params import Member, Target
from matscout.training.runs.training_hashes import flatten

logger = logging.getLogger(__name__)

CONTINUED, FRESH = "continued", "fresh"


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Attributes:
        encoder: the encoder's tensors by name.
        heads: by target, the tensors of the head that goes on; a target that is not here gets a fresh one.
        weights_sha256: of the file they came from.
        split_sha256: of the split that the start was trained on; null = not known.
        knows_no_row: whether it was trained on hypothetical crystals alone, so that no split matters.
    """

    encoder: Mapping[str, Tensor]
    heads: Mapping[str, Mapping[str, Tensor]]
    weights_sha256: str
    split_sha256: str | None
    knows_no_row: bool = False

    def put_into(self, model: CrystalModel) -> None:
        """Replace the weights of `model`, whose fresh heads keep what they have."""
        model.encoder.load_state_dict(self.encoder)
        for target, state in self.heads.items():
            model.head.heads[target].load_state_dict(state)

    def warn_of_other_split(self, split_sha256: str) -> None:
        """Say that errors on the test fold may flatter: the start may have seen its rows."""
        if not self.knows_no_row and self.split_sha256 != split_sha256:
            logger.warning(
                "the weights to begin with were trained on another split (%s, here %s): whether they saw rows of this "
                "test fold is not known",
                (self.split_sha256 or "unknown")[:12],
                split_sha256[:12],
            )


def load_start(folder: Path, member: Member, targets: Mapping[str, Target], *, heads: str, database: str) -> Start:
    """Read the weights that `member` begins with.

    Args:
        folder: of a saved member.
        member: what is to be trained; its encoder must be the start's.
        targets: what it is to learn.
        heads: `continued`: a target goes on from the start's head of its name, or else from the head that
            pretraining made for the target and `database`, if the kind is the same; `fresh`: none does.
        database: whose scale the labels are on.

    Raises:
        StoreError: no trained member of this installation is there.
        ParameterError: its encoder is another.
    """
    loaded = load_member(folder)
    if differences := _differences(loaded.card, member):
        raise ParameterError(
            f"{folder} cannot be the start of this member: {'; '.join(differences)}. "
            "Give the member the start's architecture, graph and encoder, or begin with another"
        )
    going_on = _continued(loaded, targets, database) if heads == CONTINUED else {}
    return Start(
        encoder=loaded.model.encoder.state_dict(),
        heads={target: loaded.model.head.heads[name].state_dict() for target, name in going_on.items()},
        weights_sha256=loaded.card.weights_sha256,
        split_sha256=loaded.card.hashes.get("split"),
        knows_no_row="hypothetical" in loaded.card.hashes and "materials" not in loaded.card.hashes,
    )


def _continued(loaded: LoadedMember, targets: Mapping[str, Target], database: str) -> dict[str, str]:
    """By target, the start's head that it goes on from."""
    kinds = loaded.model.head.kinds
    names = {target: next((n for n in (target, f"{target}@{database}") if n in kinds), "") for target in targets}
    return {target: name for target, name in names.items() if kinds.get(name) == targets[target].head}


def _differences(card: MemberCard, member: Member) -> list[str]:
    """What the start has that the member has not, in words."""
    theirs = _description(card.architecture, card.graph, card.encoder)
    ours = _description(member.architecture, member.graph.model_dump(), member.encoder.model_dump())
    keys = ["architecture"] if card.architecture != member.architecture else sorted(theirs | ours)
    return [
        f"{key} = {theirs.get(key)!r} there, {ours.get(key)!r} here" for key in keys if theirs.get(key) != ours.get(key)
    ]


def _description(architecture: str, graph: Mapping[str, Any], encoder: Mapping[str, Any]) -> dict[str, Any]:
    return flatten({"architecture": architecture, "graph": graph, "encoder": encoder})
