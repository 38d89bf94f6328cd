import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from matscout.errors import ParameterError, StoreError
from matscout.files import sha256_of
from matscout.models.architectures import ENCODERS, build_encoder
from matscout.models.layers.element_embedding import element_table_sha256
from matscout.models.model import build_model
from matscout.models.saved_member import CARD_FILE, WEIGHTS_FILE, MemberCard, load_member, save_member


def card_for(member, repository_params) -> MemberCard:
    return MemberCard(
        name="first",
        architecture=member.architecture,
        encoder=member.encoder.model_dump(),
        graph=member.graph.model_dump(),
        graphs=repository_params.graphs.model_dump(),
        targets={name: target.model_dump() for name, target in repository_params.targets.items()},
        elements=("O", "Ti"),
        hashes={"graphs": "0" * 64},
    )


@pytest.fixture
def saved(tmp_path, member_of, repository_params):
    member = member_of("cgcnn")
    torch.manual_seed(0)
    model = build_model(member, repository_params.targets)
    save_member(tmp_path / "member", model, card_for(member, repository_params))
    return tmp_path / "member"


def edit_card(directory, **changes):
    content = json.loads((directory / CARD_FILE).read_text()) | changes
    (directory / CARD_FILE).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize("architecture", sorted(ENCODERS))
def test_round_trip_is_exact_and_byte_stable(
    tmp_path, architecture, member_of, repository_params, graph_of, structures
):
    torch.manual_seed(1)
    member = member_of(architecture)
    model = build_model(member, repository_params.targets).eval()
    model.head.fit_statistics({target: torch.arange(9.0) for target in repository_params.targets})
    card = card_for(member, repository_params)
    for folder in ("a", "b"):
        save_member(tmp_path / folder, model, card)
    assert sha256_of(tmp_path / "a") == sha256_of(tmp_path / "b")

    before = torch.get_rng_state()
    loaded = load_member(tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.card == dataclasses.replace(
        card, element_table_sha256=element_table_sha256(), weights_sha256=sha256_of(tmp_path / "a" / WEIGHTS_FILE)
    )
    assert not loaded.model.training
    graph = graph_of(architecture, structures["rutile"])
    original, copy = model.double()(graph), loaded.model.double()(graph)
    assert all(torch.equal(original[target], copy[target]) for target in original)


def test_refuses_missing_files(saved):
    (saved / WEIGHTS_FILE).unlink()
    with pytest.raises(StoreError, match=r"weights\.safetensors not found"):
        load_member(saved)
    (saved / CARD_FILE).unlink()
    with pytest.raises(StoreError, match=r"member\.json not found"):
        load_member(saved)


@pytest.mark.parametrize("kept", [0, 4, 1000, -1])
def test_refuses_weights_that_are_cut_off(saved, kept):
    content = (saved / WEIGHTS_FILE).read_bytes()
    (saved / WEIGHTS_FILE).write_bytes(content[:kept])
    with pytest.raises(StoreError, match="cut off or no safetensors"):
        load_member(saved)


def test_refuses_weights_with_a_flipped_bit(saved):
    content = bytearray((saved / WEIGHTS_FILE).read_bytes())
    content[-3] ^= 1
    (saved / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(StoreError, match=r"has SHA-256 \w{12}, its member\.json says"):
        load_member(saved)


def test_refuses_a_card_that_is_cut_off(saved):
    (saved / CARD_FILE).write_text((saved / CARD_FILE).read_text()[:100])
    with pytest.raises(StoreError, match="not whole JSON"):
        load_member(saved)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format_version": 99}, "format version 99, this matscout reads 1"),
        ({"format_version": 0}, "format version 0, this matscout reads 1; train the member again"),
        ({"format_version": None}, "format version None"),
        ({"element_table_sha256": "f" * 64}, "trained with the element table ffffffffffff, this installation has"),
        ({"architecture": "schnet"}, r"'schnet'; this matscout knows \['alignn'"),
        ({"hashes": None, "extra": 1}, r"lacks the keys \['hashes'\] and has the unknown \['extra'\]"),
    ],
)
def test_refuses_a_card_that_does_not_fit_this_installation(saved, changes, complaint):
    edit_card(saved, **changes)
    with pytest.raises(StoreError, match=complaint):
        load_member(saved)


def test_refuses_a_card_of_other_sizes_than_the_weights(saved):
    encoder = json.loads((saved / CARD_FILE).read_text())["encoder"]
    edit_card(saved, encoder=encoder | {"hidden_dim": 32})
    with pytest.raises(StoreError, match=r"does not fit its member\.json: .* should have shape \(.*\), has \("):
        load_member(saved)


def test_refuses_a_card_with_unknown_hyperparameters(saved):
    encoder = json.loads((saved / CARD_FILE).read_text())["encoder"]
    edit_card(saved, encoder=encoder | {"n_heads": 3})
    with pytest.raises(StoreError, match=r"does not describe a 'cgcnn' of this matscout: .*n_heads"):
        load_member(saved)


def test_refuses_weights_whose_element_table_is_not_the_cards(saved):
    state = load_file(saved / WEIGHTS_FILE)
    state["encoder.elements.element_table"][26, 0] += 0.5
    save_file(state, saved / WEIGHTS_FILE)
    edit_card(saved, weights_sha256=sha256_of(saved / WEIGHTS_FILE))
    with pytest.raises(StoreError, match="holds the element table"):
        load_member(saved)


def test_an_unknown_architecture_lists_the_known_ones():
    with pytest.raises(ParameterError, match=r"'schnet' is unknown; choose one of \['alignn', 'cgcnn'"):
        build_encoder("schnet", cutoff=8.0)


def test_the_card_holds_plain_json(saved):
    content = json.loads((saved / CARD_FILE).read_text())
    assert content["elements"] == ["O", "Ti"]
    assert content["graph"]["cutoff"] == 8.0
    assert np.isfinite(content["graphs"]["symprec"])
