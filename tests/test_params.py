"""params.yaml is complete, and every mistake in it is named with its path before any work."""

import copy

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from imports import ROOT
from pydantic import ValidationError

from matscout.errors import ParameterError
from matscout.params import check_params, load_params
from matscout.params.learning import encoders

TREE = yaml.safe_load((ROOT / "params.yaml").read_text())


def leaves(tree, path=()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        yield (*path, key)


def parent_of(tree, path):
    for key in path[:-1]:
        tree = tree[key]
    return tree


def test_the_repository_s_params_are_valid():
    assert load_params(ROOT / "params.yaml").screening.goal in TREE["screening"]["goals"]


@settings(deadline=None)  # a busy machine is no mistake
@given(st.sampled_from(sorted(leaves(TREE))))
def test_a_misspelt_key_anywhere_is_named_with_its_full_path(path):
    tree = copy.deepcopy(TREE)
    parent = parent_of(tree, path)
    free_names = (
        ("members",),
        ("pretrained",),
        ("finetuned",),
        ("distilled",),
        ("databases",),
        ("targets",),
        ("screening", "goals"),
    )  # the user names these
    if path[:-1] in free_names:
        return
    parent[f"{path[-1]}_x"] = parent.pop(path[-1])
    with pytest.raises(ParameterError) as error:
        check_params(tree)
    assert ".".join((*path[:-1], f"{path[-1]}_x")) in str(error.value) or path[-1] == "architecture"


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("model", "lr"), -1, "model.lr = -1"),
        (("model", "lr"), "fast", "model.lr = 'fast'"),
        (("databases", "aflow", "origin"), "ftp", "'sample', 'api', 'file', 'bulk' or 'optimade'"),
        (("databases", "aflow", "endpoint"), "s3://bucket/prefix", "must begin with https://"),
        (
            ("members", "cogn", "architecture"),
            "cognn",
            "'cgcnn', 'megnet', 'alignn', 'cogn', 'comformer', 'composition'",
        ),
        (("members", "cgcnn", "graph", "n_neighbors"), 999, "exceeds graphs.n_neighbors"),
        (
            ("members", "cogn", "training", "target_weights"),
            {"bandgap": 0.1},
            "members.cogn.training.target_weights.bandgap is not a target; choose from ['band_gap', 'formation",
        ),
        (("members", "cogn", "training", "target_weights"), {"band_gap": 0}, "target_weights.band_gap = 0"),
        (("screening", "goal"), "superconductor", "choose one of"),
        (
            ("screening", "cascade"),
            {"member": "fast", "keep": 0.5},
            "screening.cascade.member = 'fast' is not a member",
        ),
        (("screening", "cascade"), {"member": "cgcnn", "keep": 0}, "screening.cascade.keep = 0"),
        (("split", "test"), 0.95, "leaves nothing to train on"),
        (("relaxation", "properties"), ["voltage"], "relaxation.properties.0 = 'voltage'"),
        (("relaxation", "mobile_ions"), ["Fe"], "relaxation.mobile_ions.0 = 'Fe'"),
        (("relaxation", "mobile_ions"), [], "relaxation.mobile_ions = []"),
        (("relaxation", "slab_atoms"), 0, "relaxation.slab_atoms = 0"),
        (("curation", "offsets", "reference"), "icsd", "is not a database"),
    ],
)
def test_a_bad_value_is_told_with_value_and_rule(path, value, told):
    tree = copy.deepcopy(TREE)
    parent_of(tree, path)[path[-1]] = value
    with pytest.raises(ParameterError) as error:
        check_params(tree)
    assert told in str(error.value)
    assert len(str(error.value)) < 300  # a rule on a whole section does not print that section


def test_a_goal_on_relaxed_crystals_needs_a_potential():
    tree = copy.deepcopy(TREE)
    aims = tree["screening"]["goals"][tree["screening"]["goal"]]["objectives"]
    aims.append({"column": "surface_energy", "window": None, "direction": "minimize"})
    check_params(tree)
    tree["relaxation"]["potential"] = None
    with pytest.raises(ParameterError, match="asks for surface_energy, which only a potential computes"):
        check_params(tree)


@pytest.mark.parametrize(
    ("goal", "named"), [("battery", ["average_voltage", "volume_change"]), ("catalyst", ["surface_energy"])]
)
def test_goals_on_voltages_and_surfaces_name_them_and_the_default_goal_does_not(goal, named):
    tree = copy.deepcopy(TREE)
    tree["screening"]["goal"] = goal
    screening = check_params(tree).screening
    assert [aim.column for aim in screening.goals[goal].relaxed] == named
    assert not screening.goals[TREE["screening"]["goal"]].relaxed
    tree["relaxation"]["potential"] = None
    with pytest.raises(ParameterError, match=f"goals.{goal} asks for {named[0]}, .*name one in relaxation.potential"):
        check_params(tree)


def test_all_mistakes_are_told_at_once():
    tree = copy.deepcopy(TREE)
    tree["model"]["lrr"] = tree["model"].pop("lr")
    tree["compute"]["threads"] = 0
    with pytest.raises(ParameterError) as error:
        check_params(tree)
    assert all(told in str(error.value) for told in ("model.lrr", "model.lr: missing", "compute.threads = 0"))


@pytest.mark.parametrize("content", ["", "- a list", "model: {lr: [", "42"])
def test_a_file_that_is_no_mapping_is_rejected(tmp_path, content):
    file = tmp_path / "params.yaml"
    file.write_text(content)
    with pytest.raises(ParameterError, match=r"params\.yaml"):
        load_params(file)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(ParameterError, match="repository root"):
        load_params(tmp_path / "params.yaml")


def test_params_are_frozen():
    with pytest.raises(ValidationError):
        load_params(ROOT / "params.yaml").model.lr = 1.0


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("screening", "goals", "battery", "deny_elements"), ["pb"], "'pb' is not an element; did you mean Pb?"),
        (("screening", "goals", "battery", "deny_elements"), ["lead"], "did you mean Pb?"),
        (("candidates", "exclude_elements"), ["tc"], "did you mean Tc?"),
        (("databases", "oqmd", "query", "elements"), ["Sodium"], "did you mean Na?"),
        (("curation", "validity", "band_gap"), [5.0, 1.0], "band_gap = [5.0, 1.0] is empty"),
        (("curation", "validity", "volume_per_atom"), [float("nan"), 1.0], "finite number"),
        (("databases", "aflow", "query", "n_atoms"), [9, 1], "n_atoms = [9, 1] is empty"),
        (("split", "seed"), -1, "greater than or equal to 0"),
        (("targets", "band_gap", "label"), "bandgap", "targets.band_gap.label = 'bandgap' is no column with numbers"),
        (("targets", "band_gap", "noise"), "formula", "targets.band_gap.noise = 'formula' is no column with numbers"),
        (("databases", "oqmd", "file", "labels"), {"band_gap": "Eg"}, "'band_gap' is no name for a label"),
        (("databases", "oqmd", "file", "labels"), {"rank": "Eg"}, "'rank' is no name for a label"),
        (
            ("screening", "goals", "solar_absorber", "objectives", 0, "column"),
            "bulk_modulus",
            "screening.goals.solar_absorber asks for 'bulk_modulus', which is not predicted; choose from ['average_voltage', 'band_gap'",
        ),
        (("screening", "goals", "battery", "elements"), {"all_of": ["li"]}, "did you mean Li?"),
        (("databases", "aflow", "endpoint"), "http://aflow.org/API/", "must begin with https://"),
        (("databases", "aflow", "endpoint"), "http://127.0.0.1.aflow.org/", "must begin with https://"),
        (("databases", "aflow", "endpoint"), "https://aflow.org/API/?key=secret", "leave it out"),
        (("databases", "oqmd", "optimade_endpoint"), "http://oqmd.org/optimade/v1/", "must begin with https://"),
        (("databases", "x; touch PWNED #"), TREE["databases"]["aflow"], "is not a valid name: write letters, digits"),
        (("members", "a'b"), TREE["members"]["cgcnn"], "is not a valid name: write letters, digits"),
        (("members", "../a"), TREE["members"]["cgcnn"], "is not a valid name: write letters, digits"),
    ],
)
def test_what_could_mislead_is_refused_with_the_nearest_right_word(path, value, told):
    tree = copy.deepcopy(TREE)
    parent_of(tree, path)[path[-1]] = value
    with pytest.raises(ParameterError) as error:
        check_params(tree)
    assert told in str(error.value)


def test_a_label_of_a_lab_s_own_file_can_be_a_target_and_a_target_a_goal():
    tree = copy.deepcopy(TREE)
    tree["databases"]["oqmd"]["file"]["labels"] = {"band_gap_exp": "Eg (opt)"}
    tree["targets"]["band_gap_exp"] = {"label": "band_gap_exp", "noise": None, "head": "hurdle", "weight": 0.3}
    tree["targets"]["bulk_modulus"] = {"label": "bulk_modulus", "noise": None, "head": "log_laplace", "weight": 0.3}
    aims = tree["screening"]["goals"]["solar_absorber"]["objectives"]
    aims.append({"column": "bulk_modulus", "window": [100.0, None], "direction": None})
    assert set(check_params(tree).targets) >= {"band_gap_exp", "bulk_modulus"}
    tree["databases"]["oqmd"]["file"]["labels"] = {}
    with pytest.raises(
        ParameterError, match=r"targets\.band_gap_exp\.label = 'band_gap_exp' is no column with numbers"
    ):
        check_params(tree)


def test_a_secret_in_an_endpoint_is_refused_and_never_shown():
    tree = copy.deepcopy(TREE)
    tree["databases"]["aflow"]["endpoint"] = "https://me:hunter2@aflow.org/"
    with pytest.raises(ParameterError, match="a name or a password") as error:
        check_params(tree)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8765/", "http://localhost:1/", "https://aflow.org/"])
def test_addresses_of_this_machine_need_no_encryption(address):
    tree = copy.deepcopy(TREE)
    tree["databases"]["aflow"]["endpoint"] = address
    check_params(tree)


def test_every_architecture_has_parameters_and_an_encoder_of_one_name():
    from matscout.models.architectures import ENCODERS

    assert list(encoders()) == list(ENCODERS)
    members = load_params(ROOT / "params.yaml").members.values()
    assert {type(member.encoder) for member in members} == set(encoders().values())


def test_a_block_of_another_architecture_is_refused_key_by_key():
    tree = copy.deepcopy(TREE)
    tree["members"]["cogn"]["architecture"] = "composition"
    with pytest.raises(ParameterError) as error:
        check_params(tree)
    assert "members.cogn.encoder.n_heads: missing" in str(error.value)
    assert "members.cogn.encoder.n_edge_layers: unknown key" in str(error.value)
