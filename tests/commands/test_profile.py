"""Profiles go into params.yaml and out of it, and every model in them can be built and trained."""

import pytest
import torch
import yaml
from imports import ROOT
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner

from matscout.cli import app
from matscout.commands.profile import put_in, with_values
from matscout.errors import ParameterError
from matscout.graphs.graph_store import create_crystal_graph
from matscout.models.architectures import ENCODERS
from matscout.models.model import build_model
from matscout.params import load_params

PROFILES = ROOT / "profiles"
NAMES = ("cluster", "gpu", "laptop", "notebook", "workstation")


@pytest.fixture
def params_file(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "params.yaml").read_text())
    return file


def test_laptop_is_what_the_repository_comes_with(params_file):
    assert put_in("laptop", params_file, PROFILES) == {}
    assert params_file.read_text() == (ROOT / "params.yaml").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_gives_the_same_bytes(name, params_file):
    put_in(name, params_file, PROFILES)
    written = params_file.read_text()
    assert (written == (ROOT / "params.yaml").read_text()) is (name == "laptop")
    assert [line.split("#")[1:] for line in written.splitlines()] == [
        line.split("#")[1:] for line in (ROOT / "params.yaml").read_text().splitlines()
    ]
    put_in("laptop", params_file, PROFILES)
    assert params_file.read_text() == (ROOT / "params.yaml").read_text()


def test_a_second_member_of_an_architecture_gets_its_network_and_keeps_its_seed(params_file):
    block = (
        "  mine:\n    architecture: cgcnn\n    graph: {n_neighbors: 6, cutoff: 7.5}\n"
        "    encoder: {hidden_dim: 8, n_layers: 1, n_radial: 6}\n    training: {epochs: 1, lr_scale: 0.5, seed: 77}\n"
    )
    params_file.write_text(params_file.read_text().replace("\npretrained:", f"{block}\npretrained:"))
    put_in("gpu", params_file, PROFILES)
    members = load_params(params_file).members
    assert members["mine"].encoder == members["cgcnn"].encoder
    assert (members["mine"].training.seed, members["mine"].training.lr_scale) == (77, 1.0)


def paths_of(tree, path=()):
    if not isinstance(tree, dict):
        return {path}
    return set().union(*(paths_of(value, (*path, key)) for key, value in tree.items()))


def test_all_profiles_set_the_same_values_for_every_architecture():
    """Otherwise a change of profile would leave some of the former one's values."""
    assert tuple(sorted(file.stem for file in PROFILES.glob("*.yaml"))) == NAMES
    trees = [yaml.safe_load((PROFILES / f"{name}.yaml").read_text()) for name in NAMES]
    for tree in trees:
        assert set(tree["architectures"]) == set(ENCODERS)
        assert paths_of(tree) == paths_of(trees[0])


def test_notebook_asks_the_three_services_for_230_000_rows(params_file):
    changes = put_in("notebook", params_file, PROFILES)
    assert changes["databases.oqmd.origin"] == ("sample", "api")
    databases = load_params(params_file).databases.values()
    assert [database.origin for database in databases] == ["api"] * 3
    assert sum(database.query.limit for database in databases) == 230_000
    assert load_params(params_file).candidates.n == 1_000_000


def test_a_file_of_the_users_own_stays_and_an_absent_database_is_no_error(params_file):
    text = params_file.read_text()
    text = text.replace("origin: sample\n    path: data/sample/aflow", "origin: file\n    path: lab.csv", 1)
    params_file.write_text(text[: text.index("  oqmd:\n")] + text[text.index("\ncuration:") :])
    put_in("notebook", params_file, PROFILES)
    databases = load_params(params_file).databases
    assert {name: database.origin for name, database in databases.items()} == {
        "materials_project": "api",
        "aflow": "file",
    }
    assert databases["aflow"].path == "lab.csv"


def test_an_unknown_profile_lists_the_known_ones_and_writes_nothing(params_file):
    with pytest.raises(ParameterError, match=r"'huge' is unknown; choose one of \['cluster', 'gpu', 'laptop'"):
        put_in("huge", params_file, PROFILES)
    assert params_file.read_text() == (ROOT / "params.yaml").read_text()


def test_the_former_command_and_its_names_still_work(params_file, monkeypatch):
    monkeypatch.chdir(params_file.parent)
    (params_file.parent / "profiles").symlink_to(PROFILES)
    assert "members.alignn.encoder.hidden_dim: 48 -> 256" in CliRunner().invoke(app, ["size", "large"]).output
    CliRunner().invoke(app, ["size", "small"])
    assert params_file.read_text() == (ROOT / "params.yaml").read_text()


def test_a_profile_that_breaks_a_rule_is_not_written(params_file, tmp_path):
    (tmp_path / "bad.yaml").write_text("graphs: {n_neighbors: 2}\ndatabases: {}\narchitectures: {}\n")
    with pytest.raises(ParameterError, match=r"exceeds graphs\.n_neighbors = 2"):
        put_in("bad", params_file, tmp_path)
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
    put_in("gpu", params_file, PROFILES)
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
