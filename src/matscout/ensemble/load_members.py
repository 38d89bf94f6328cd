"""Members that may stand side by side: same targets, same graphs, same weights as were calibrated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matscout.errors import StoreError
from matscout.graphs.store.graph_store import GraphStore
from matscout.models.saved_member import LoadedMember, MemberCard, load_member

# what every member of one ensemble shares: the graphs that it was trained on and what it predicts
SHARED_GRAPHS = ("asymmetric_unit", "symprec")
SHARED_TARGET = ("label", "head")


def load_members(directory: Path, names: Sequence[str]) -> list[LoadedMember]:
    """Load the named members.

    Raises:
        StoreError: a member is missing or broken, or disagrees with the first; the message names it and
            the difference.
    """
    members = [load_member(Path(directory) / name) for name in names]
    for name, member in zip(names, members, strict=True):
        if member.name != name:
            raise StoreError(
                f"{Path(directory) / name} holds the member {member.name!r}, not {name!r}: a renamed or copied folder; "
                f"train {name!r} (dvc repro train) or move the folder back"
            )
    check_agreement([member.card for member in members])
    return members


def check_agreement(cards: Sequence[MemberCard]) -> None:
    """Refuse members of different targets, graphs or element tables."""
    first = cards[0]
    for card in cards[1:]:
        differences = _differences(_shared(first), _shared(card))
        if differences:
            raise StoreError(
                f"member {card.name!r} does not fit member {first.name!r}: {'; '.join(differences)}; "
                "train both with the same `targets` and `graphs` (dvc repro train)"
            )


def check_store(members: Sequence[LoadedMember], store: GraphStore) -> None:
    """Refuse graphs that were built otherwise than those that trained the members."""
    settings = store.settings.model_dump()
    for member in members:
        card = member.card
        differences = [
            f"{key} is {card.graphs[key]!r} in the member and {settings[key]!r} in the graphs"
            for key in SHARED_GRAPHS
            if card.graphs[key] != settings[key]
        ]
        if card.graph["n_neighbors"] > settings["n_neighbors"]:
            differences.append(
                f"it needs {card.graph['n_neighbors']} neighbours and the graphs hold {settings['n_neighbors']}"
            )
        if differences:
            raise StoreError(
                f"member {card.name!r} cannot read these graphs: {'; '.join(differences)}; "
                "build them with the member's settings"
            )


def check_weights(members: Sequence[LoadedMember], calibrated: Mapping[str, str]) -> None:
    """Refuse weights that are not those the calibration was fitted on.

    Args:
        members: to be used.
        calibrated: SHA-256 of the weights by member, from calibration.json.
    """
    for member in members:
        if member.card.weights_sha256 != calibrated[member.name]:
            raise StoreError(
                f"member {member.name!r} has the weights {member.card.weights_sha256[:12]}, the calibration was fitted "
                f"on {calibrated[member.name][:12]}; run `dvc repro evaluate`"
            )


def _shared(card: MemberCard) -> dict[str, Any]:
    shared: dict[str, Any] = {f"graphs.{key}": card.graphs[key] for key in SHARED_GRAPHS}
    shared["element_table_sha256"] = card.element_table_sha256[:12]
    shared["targets"] = sorted(card.targets)
    for name, target in sorted(card.targets.items()):
        shared |= {f"targets.{name}.{key}": target[key] for key in SHARED_TARGET}
    return shared


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} is {theirs.get(key)!r} instead of {ours.get(key)!r}"
        for key in sorted({*ours, *theirs})
        if ours.get(key) != theirs.get(key)
    ]
