"""Load the members, check that they fit each other and the calibration, and run them on rows of a graph store.

Members fit if they have the same targets, the same graphs, and the calibrated weights. Their outputs are distributions
and embeddings. Surrogates stand beside the members: networks that learned a potential's energies of hypothetical
crystals and nothing else, such as those that members start from. They count for hypothetical crystals only, and no
stage trains them.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.mixture import TargetOutputs
from matscout.errors import StoreError
from matscout.graphs.graph_store import GraphStore
from matscout.models import WEIGHTS_FILE
from matscout.models.families.distribution import Distribution
from matscout.models.inference import Embeddings, InferencePlan, distributions, embed, place_graphs
from matscout.models.saved_member import CARD_FILE, LoadedMember, MemberCard, load_member

# settings that all members of an ensemble share: those of their graphs and their targets
SHARED_GRAPHS = ("asymmetric_unit", "symprec")
SHARED_TARGET = ("label", "head")
SURROGATES: Final = "surrogates"  # their folder beside the calibration
PREFIX: Final = "pretrained_"  # of a surrogate's name: members may be named as the networks that they start from


def load_members(directory: Path, names: Sequence[str]) -> list[LoadedMember]:
    """Load the named members.

    Args:
        directory: holds a folder for each member.
        names: names of the members.

    Returns:
        The members, in the order of `names`.

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


def load_surrogates(directory: Path, names: Sequence[str] | None = None) -> list[LoadedMember]:
    """Load the surrogates of a folder.

    Args:
        directory: holds a folder for each surrogate, or none.
        names: names of the surrogates, that is their folders' with `PREFIX`; None = all of the folder.

    Returns:
        The surrogates, by name.

    Raises:
        StoreError: a surrogate is missing or broken, or two disagree.
    """
    if names is None:
        names = [PREFIX + card.parent.name for card in sorted(Path(directory).glob(f"*/{CARD_FILE}"))]
    if not names:
        return []
    loaded = load_members(directory, [name.removeprefix(PREFIX) for name in names])
    return [replace(surrogate, name=PREFIX + surrogate.name) for surrogate in loaded]


def check_surrogates(surrogates: Sequence[LoadedMember], member: LoadedMember) -> None:
    """Reject surrogates that do not fit the members.

    Args:
        surrogates: networks with some of the members' targets.
        member: one of the members.

    Raises:
        StoreError: graphs, element table or a target's label or head differ; the message names the differences.
    """
    ours = _shared(member.card)
    for surrogate in surrogates:
        theirs = _shared(surrogate.card)
        common = {key: value for key, value in ours.items() if key in theirs}
        common["targets"] = sorted(set(member.card.targets) & set(surrogate.card.targets))
        if differences := _differences(common, theirs):
            raise StoreError(
                f"the surrogate {surrogate.name!r} does not fit member {member.name!r}: {'; '.join(differences)}; "
                "name another folder as ensemble.surrogates, or an empty one"
            )


def copy_members(source: Path, destination: Path, names: Sequence[str]) -> None:
    """Copy weights and cards of members or surrogates, all that prediction needs of them.

    Args:
        source: holds a folder for each member.
        destination: gets a folder for each member; made if there is any.
        names: names of the members or surrogates.
    """
    for name in (name.removeprefix(PREFIX) for name in names):
        (destination / name).mkdir(parents=True)
        for file in (WEIGHTS_FILE, CARD_FILE):
            shutil.copyfile(source / name / file, destination / name / file)


def check_agreement(cards: Sequence[MemberCard]) -> None:
    """Reject members of different targets, graphs or element tables.

    Args:
        cards: cards of the members; each is compared with the first.

    Raises:
        StoreError: two disagree; the message names the differences.
    """
    first = cards[0]
    for card in cards[1:]:
        differences = _differences(_shared(first), _shared(card))
        if differences:
            raise StoreError(
                f"member {card.name!r} does not fit member {first.name!r}: {'; '.join(differences)}; "
                "train both with the same `targets` and `graphs` (dvc repro train)"
            )


def check_store(members: Sequence[LoadedMember], store: GraphStore) -> None:
    """Reject graphs that were built with other settings than those that trained the members.

    Args:
        members: members that are to read the graphs.
        store: the graphs.

    Raises:
        StoreError: a setting differs, or the graphs hold fewer neighbours than a member needs.
    """
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
                f"it needs {card.graph['n_neighbors']} neighbours, but the graphs hold {settings['n_neighbors']}"
            )
        if differences:
            raise StoreError(
                f"member {card.name!r} cannot read these graphs: {'; '.join(differences)}; "
                "build them with the member's settings"
            )


def check_weights(members: Sequence[LoadedMember], calibrated: Mapping[str, str]) -> None:
    """Reject weights other than those that the calibration was fitted on.

    Args:
        members: the members.
        calibrated: SHA-256 of the weights by member, from calibration.json.

    Raises:
        StoreError: a member's weights differ.
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


@dataclass(frozen=True)
class MemberOutputs:
    """Outputs of all members for n crystals.

    Attributes:
        distributions: distributions by target, then by member, then by surrogate.
        embeddings: (n, sum of the members' hidden dimensions) float32, members side by side, without the surrogates.
    """

    distributions: Mapping[str, Mapping[str, Distribution]]
    embeddings: Embeddings

    def at(self, distance: NDArray[np.float64]) -> dict[str, TargetOutputs]:
        """By target, with the crystals' (n,) distance from the training set."""
        return {target: TargetOutputs(members, distance) for target, members in self.distributions.items()}

    def is_finite(self) -> NDArray[np.bool_]:
        """(n,) whether all outputs for a crystal are finite."""
        parameters = [found.parameters() for members in self.distributions.values() for found in members.values()]
        return np.logical_and.reduce([np.isfinite(values).all(axis=1) for values in (self.embeddings, *parameters)])

    def take(self, rows: NDArray[np.bool_]) -> Self:
        """The outputs for some of the crystals."""
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
    plan: InferencePlan,
    description: str,
    surrogates: Sequence[LoadedMember] = (),
) -> MemberOutputs:
    """Run every member on some crystals of a store.

    Args:
        members: members that agree on targets and graphs.
        store: graphs of the crystals.
        rows: (n,) rows of the store.
        plan: where the encoders run, and how.
        description: description of the progress bars; the member's name is added.
        surrogates: networks with some of the members' targets.

    Returns:
        Distributions and embeddings, in the order of `rows`.
    """
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
        for member in (*members, *surrogates)
    ]
    by_member = {
        member.name: distributions(member.model, embedding)
        for member, embedding in zip((*members, *surrogates), embeddings, strict=True)
    }
    targets = members[0].model.head.kinds
    return MemberOutputs(
        {
            target: {name: outputs[target] for name, outputs in by_member.items() if target in outputs}
            for target in targets
        },
        np.concatenate(embeddings[: len(members)], axis=1),
    )
