"""Blocks of sizes go into params.yaml and out of it, and every model in them can be built and trained."""

import pytest
import torch
import yaml
from imports import ROOT
from pymatgen.core import Lattice, Structure

from matscout.commands.resize import resize, with_values
from matscout.errors import ParameterError
from matscout.graphs.graph_store import create_crystal_graph
from matscout.models.architectures import ENCODERS
from matscout.models.model import build_model
from matscout.params import load_params

SIZES = ROOT / "sizes"


@pytest.fixture
def params_file(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "params.yaml").read_text())
    return file


def test_small_is_what_the_repository_comes_with(params_file):
    assert resize("small", params_file, SIZES) == {}
    assert params_file.read_text() == (ROOT / "params.yaml").read_text()


def test_there_and_back_gives_the_same_bytes(params_file):
    changes = resize("large", params_file, SIZES)
    assert changes["members.alignn.encoder.hidden_dim"] == (48, 256)
    large = params_file.read_text()
    assert large != (ROOT / "params.yaml").read_text()
    assert [line.split("#")[1:] for line in large.splitlines()] == [
        line.split("#")[1:] for line in (ROOT / "params.yaml").read_text().splitlines()
    ]
    resize("small", params_file, SIZES)
    assert params_file.read_text() == (ROOT / "params.yaml").read_text()


def test_a_second_member_of_an_architecture_gets_its_size_and_keeps_its_seed(params_file):
    block = (
        "  mine:\n    architecture: cgcnn\n    graph: {n_neighbors: 6, cutoff: 7.5}\n"
        "    encoder: {hidden_dim: 8, n_layers: 1, n_radial: 6}\n    training: {epochs: 1, lr_scale: 0.5, seed: 77}\n"
    )
    params_file.write_text(params_file.read_text().replace("\npretrained:", f"{block}\npretrained:"))
    resize("large", params_file, SIZES)
    members = load_params(params_file).members
    assert members["mine"].encoder == members["cgcnn"].encoder
    assert (members["mine"].training.seed, members["mine"].training.lr_scale) == (77, 1.0)


def test_every_architecture_has_a_size():
    for file in SIZES.glob("*.yaml"):
        assert set(yaml.safe_load(file.read_text())["architectures"]) == set(ENCODERS), file


def test_an_unknown_size_lists_the_known_ones_and_writes_nothing(params_file):
    with pytest.raises(ParameterError, match=r"'huge' is unknown; choose one of \['large', 'small'\]"):
        resize("huge", params_file, SIZES)


def test_a_size_that_breaks_a_rule_is_not_written(params_file, tmp_path):
    (tmp_path / "bad.yaml").write_text("graphs: {n_neighbors: 2}\narchitectures: {}\n")
    with pytest.raises(ParameterError, match=r"exceeds graphs\.n_neighbors = 2"):
        resize("bad", params_file, tmp_path)
    assert params_file.read_text() == (ROOT / "params.yaml").read_text()


def test_only_the_asked_characters_change():
    text = "# a\nx: {one: 1,  two: 'b'}   # c\ny:\n  z: null  # d\n"
    written, changes = with_values(text, {("x", "one"): 2.5, ("y", "z"): "auto"})
    assert written == "# a\nx: {one: 2.5,  two: 'b'}   # c\ny:\n  z: auto  # d\n"
    assert changes == {("x", "one"): (1, 2.5), ("y", "z"): (None, "auto")}
    with pytest.raises(ParameterError, match=r"x\.three: params\.yaml has no such key"):
        with_values(text, {("x", "three"): 3})


@pytest.mark.parametrize("architecture", sorted(ENCODERS))
def test_a_large_model_takes_a_step(architecture, params_file):
    resize("large", params_file, SIZES)
    params = load_params(params_file)
    member = next(m for m in params.members.values() if m.architecture == architecture)
    torch.manual_seed(0)
    model = build_model(member, params.targets)
    rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    outputs = model(create_crystal_graph(rock_salt, **member.graph.model_dump()))
    sum(values.sum() for values in outputs.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    small = build_model(load_params(ROOT / "params.yaml").members[architecture], params.targets)
    assert model.n_parameters > small.n_parameters
