"""Weights to begin with: those of a trained member of the same encoder.

The encoder's weights always come along. A head may come with its target's statistics, so that predictions begin
exactly as the start's and few rows suffice to correct them; a fresh one begins at the statistics of the labels.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from matscout.errors import ParameterError
from matscout.models.model import CrystalModel
from matscout.models.saved_member import LoadedMember, MemberCard, load_member
from matscout.params import Member, Target
from matscout.training.runs.training import CONTINUED, Training
from matscout.training.runs.training_hashes import flatten

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Where a training begins.

    Attributes:
        encoder: the encoder's tensors by name.
        heads: by target, the tensors of the head that is continued; a target that is absent here gets a fresh one.
        weights_sha256: of the file they came from.
        split_sha256: of the split that the start was trained on; None = not known.
        knows_no_row: whether it was trained on hypothetical crystals alone, so that no split matters.
    """

    encoder: Mapping[str, Tensor]
    heads: Mapping[str, Mapping[str, Tensor]]
    weights_sha256: str
    split_sha256: str | None
    knows_no_row: bool = False

    @property
    def taken(self) -> dict[str, Any]:
        """What a training takes over, for its fingerprint."""
        return {"weights_sha256": self.weights_sha256, "continued": sorted(self.heads)}

    def put_into(self, model: CrystalModel) -> None:
        """Replace the weights of `model`, whose fresh heads keep what they have."""
        model.encoder.load_state_dict(self.encoder)
        for target, state in self.heads.items():
            model.head.heads[target].load_state_dict(state)

    def warn_of_other_split(self, split_sha256: str) -> None:
        """Warn that errors on the test fold may be too small, since the start may have seen its rows."""
        if not self.knows_no_row and self.split_sha256 != split_sha256:
            logger.warning(
                "the weights to begin with were trained on another split (%s, here %s): whether they saw rows of this "
                "test fold is not known",
                (self.split_sha256 or "unknown")[:12],
                split_sha256[:12],
            )


def load_start(training: Training) -> Start | None:
    """Read the weights that a training begins with, if any, and check that they are of its member's encoder.

    With the heads `continued`, a target continues the start's head of its name, or else the head that
    pretraining made for the target and the reference database, if the kind is the same; with `fresh`, none does.

    Args:
        training: says with which member's weights it begins.

    Returns:
        The weights; None = random ones.

    Raises:
        StoreError: no trained member of this installation is there.
        ParameterError: its encoder is another.
    """
    folder = training.begins_with
    if folder is None:
        return None
    loaded = load_member(folder)
    if differences := _differences(loaded.card, training.member):
        raise ParameterError(
            f"{folder} cannot be the start of this member: {'; '.join(differences)}. "
            "Give the member the start's architecture, graph and encoder, or begin with another"
        )
    continued = _continued(loaded, training.targets, training.reference) if training.heads == CONTINUED else {}
    return Start(
        encoder=loaded.model.encoder.state_dict(),
        heads={target: loaded.model.head.heads[name].state_dict() for target, name in continued.items()},
        weights_sha256=loaded.card.weights_sha256,
        split_sha256=loaded.card.hashes.get("split"),
        knows_no_row="hypothetical" in loaded.card.hashes and "materials" not in loaded.card.hashes,
    )


def _continued(loaded: LoadedMember, targets: Mapping[str, Target], database: str) -> dict[str, str]:
    """By target, the start's head that it continues."""
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
