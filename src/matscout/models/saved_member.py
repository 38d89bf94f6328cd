"""A trained member on disk: `weights.safetensors` and `member.json`, which says how to use them.

The card holds everything that prediction needs and that could differ from training: architecture,
graph settings, targets, the element table's hash. Loading rejects a member whose card and weights disagree.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from matscout.errors import StoreError
from matscout.files import sha256_of, write_bytes, write_json
from matscout.models import WEIGHTS_FILE
from matscout.models.architectures import ENCODERS, build_encoder
from matscout.models.layers.element_embedding import element_table_sha256
from matscout.models.model import CrystalModel, PropertyHead

FORMAT_VERSION = 1
SHOWN = 3  # differences in an error message
CARD_FILE = "member.json"
ELEMENT_TABLE = "encoder.elements.element_table"  # where `ElementEmbedding` keeps it in the weights
RETRAIN = "train the member again with this version (dvc repro train)"


@dataclass(frozen=True)
class MemberCard:
    """The content of `member.json`.

    Attributes:
        name: of the member, as in `params.yaml`.
        architecture: key of `models.architectures.ENCODERS`.
        encoder: hyperparameters, as in `params.yaml`.
        graph: n_neighbors and cutoff (Å), as in `params.yaml`.
        graphs: settings of the store that trained it: n_neighbors, asymmetric_unit, symprec (Å).
        targets: by name, as in `params.yaml`: label, noise, head, weight.
        elements: symbols of the training rows' elements, by atomic number.
        hashes: of what trained it, by name.
        element_table_sha256: of the table that the encoder was trained with.
        weights_sha256: of `weights.safetensors`; set by `save_member`.
        format_version: of these two files.
    """

    name: str
    architecture: str
    encoder: Mapping[str, Any]
    graph: Mapping[str, Any]
    graphs: Mapping[str, Any]
    targets: Mapping[str, Mapping[str, Any]]
    elements: tuple[str, ...]
    hashes: Mapping[str, str]
    element_table_sha256: str = ""
    weights_sha256: str = ""
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class LoadedMember:
    """A member that is ready to predict: in evaluation mode, on the CPU."""

    name: str
    model: CrystalModel
    card: MemberCard


def save_member(directory: Path, model: CrystalModel, card: MemberCard) -> None:
    """Write weights and card of a member.

    The card is written last, so that a folder with a card has complete weights.

    Args:
        directory: of the member, made where absent.
        model: whose state is written.
        card: describes the model; its two hashes are filled in from the weights.
    """
    directory = Path(directory)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    weights = directory / WEIGHTS_FILE
    write_bytes(weights, safetensors.torch.save(state))
    content = asdict(card) | {
        "element_table_sha256": element_table_sha256(state[ELEMENT_TABLE]),
        "weights_sha256": sha256_of(weights),
    }
    write_json(directory / CARD_FILE, content)


def load_member(directory: Path) -> LoadedMember:
    """Read back what `save_member` wrote.

    Args:
        directory: of the member.

    Returns:
        The model in evaluation mode on the CPU, its name and its card.

    Raises:
        StoreError: a file is missing, cut off or changed; the format version, the element table or the
            architecture is not this installation's; the weights do not fit the card.
    """
    directory = Path(directory)
    card = _read_card(directory / CARD_FILE)
    _check_card(card, directory / CARD_FILE)
    state = _read_weights(directory / WEIGHTS_FILE, card)
    try:
        model = build_from_card(card)
    except (KeyError, TypeError) as error:
        message = (
            f"{directory / CARD_FILE} does not describe a {card.architecture!r} of this matscout: {error}; {RETRAIN}"
        )
        raise StoreError(message) from error
    if differences := _shape_differences(model.state_dict(), state):
        message = f"{directory / WEIGHTS_FILE} does not fit its {CARD_FILE}: {'; '.join(differences)}; {RETRAIN}"
        raise StoreError(message)
    model.load_state_dict(state)
    table_sha256 = element_table_sha256(state[ELEMENT_TABLE])
    if table_sha256 != card.element_table_sha256:
        message = (
            f"{directory / WEIGHTS_FILE} holds the element table {table_sha256[:12]}, its {CARD_FILE} says "
            f"{card.element_table_sha256[:12]}; {RETRAIN}"
        )
        raise StoreError(message)
    return LoadedMember(card.name, model.eval(), card)


def build_from_card(card: MemberCard) -> CrystalModel:
    """An untrained model of the card's shape; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        encoder = build_encoder(card.architecture, cutoff=card.graph["cutoff"], **card.encoder)
        head = PropertyHead(card.encoder["hidden_dim"], {name: target["head"] for name, target in card.targets.items()})
    return CrystalModel(encoder, head)


def _read_card(path: Path) -> MemberCard:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        message = f"{path} not found; {RETRAIN}, or fetch it (dvc pull)"
        raise StoreError(message) from error
    except ValueError as error:
        message = f"{path} is not whole JSON ({error}); {RETRAIN}"
        raise StoreError(message) from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        message = f"{path} has format version {version!r}, this matscout reads {FORMAT_VERSION}; {RETRAIN}"
        raise StoreError(message)
    names = {field.name for field in fields(MemberCard)}
    if set(content) != names:
        lacking, unknown = sorted(names - set(content)), sorted(set(content) - names)
        message = f"{path} lacks the keys {lacking} and has the unknown {unknown}; {RETRAIN}"
        raise StoreError(message)
    content["elements"] = tuple(content["elements"])
    return MemberCard(**content)


def _check_card(card: MemberCard, path: Path) -> None:
    if card.architecture not in ENCODERS:
        message = f"{path} names the architecture {card.architecture!r}; this matscout knows {sorted(ENCODERS)}"
        raise StoreError(message)
    ours = element_table_sha256()
    if card.element_table_sha256 != ours:
        message = (
            f"{path} was trained with the element table {card.element_table_sha256[:12]}, this installation has "
            f"{ours[:12]}: another pymatgen or matscout; install the versions of requirements.txt, or {RETRAIN}"
        )
        raise StoreError(message)


def _read_weights(path: Path, card: MemberCard) -> dict[str, torch.Tensor]:
    try:
        content = path.read_bytes()
        state = safetensors.torch.load(content)
    except FileNotFoundError as error:
        message = f"{path} not found; {RETRAIN}, or fetch it (dvc pull)"
        raise StoreError(message) from error
    except SafetensorError as error:
        message = f"{path} ({len(content)} bytes) is cut off or no safetensors file: {error}; {RETRAIN}"
        raise StoreError(message) from error
    if (found := sha256_of(path)) != card.weights_sha256:
        message = f"{path} has SHA-256 {found[:12]}, its {CARD_FILE} says {card.weights_sha256[:12]}; {RETRAIN}"
        raise StoreError(message)
    return state


def _shape_differences(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> list[str]:
    """The first few tensors that the card and the weights disagree on, in words."""
    wanted, given = ({name: tuple(tensor.shape) for name, tensor in state.items()} for state in (expected, found))
    differing = [name for name in sorted(wanted | given) if wanted.get(name) != given.get(name)]
    shown = [f"{name} should have shape {wanted.get(name)}, has {given.get(name)}" for name in differing[:SHOWN]]
    return shown + [f"and {len(differing) - SHOWN} more"] * (len(differing) > SHOWN)
