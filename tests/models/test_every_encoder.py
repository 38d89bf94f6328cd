"""What every architecture owes: tested over the registry, so that a new one is tested by being there."""

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from pymatgen.core.operations import SymmOp

from matscout.models.architectures import ENCODERS

pytestmark = pytest.mark.parametrize("architecture", sorted(ENCODERS))

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # edges are stored in float32; everything after them is double here
NAMES = ("caesium", "rock_salt", "rutile", "perovskite", "distorted", "triclinic")


def assert_same(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for target, values in a.items():
        torch.testing.assert_close(values, b[target], **CLOSE)


def assert_differ(a: dict, b: dict) -> None:
    assert any(not torch.allclose(values, b[target], rtol=1e-3, atol=1e-4) for target, values in a.items())


@pytest.fixture
def predict(architecture, model_of, graph_of):
    model = model_of(architecture)

    @torch.inference_mode()
    def of(structure: Structure, **settings) -> dict:
        return model(graph_of(architecture, structure, **settings))

    return of


def test_gives_one_vector_and_positive_scales_per_crystal(architecture, model_of, graph_of, structures, collate):
    model = model_of(architecture)
    batch = collate([graph_of(architecture, structures[name]) for name in NAMES])
    assert model.encoder(batch).shape == (len(NAMES), model.encoder.hidden_dim)
    outputs = model(batch)
    assert outputs["formation_energy_per_atom"].shape == (len(NAMES), 2)
    assert outputs["band_gap"].shape == (len(NAMES), 3)
    for values in outputs.values():
        assert torch.isfinite(values).all()
        assert (values[:, -1] > 0).all()


def test_leaves_its_input_as_it_was(architecture, model_of, graph_of, structures):
    graph = graph_of(architecture, structures["rutile"])
    before = [value.clone() for value in vars(graph).values() if torch.is_tensor(value)]
    model_of(architecture)(graph)
    after = [value for value in vars(graph).values() if torch.is_tensor(value)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_batch_gives_what_single_crystals_give(architecture, model_of, graph_of, structures, collate):
    model = model_of(architecture)
    graphs = [graph_of(architecture, structures[name]) for name in NAMES]
    for mode in (True, False):
        model.train(mode)
        batched = model(collate(graphs))
        singles = [model(graph) for graph in graphs]
        assert_same(batched, {target: torch.cat([single[target] for single in singles]) for target in batched})


@pytest.mark.parametrize("name", ["rutile", "triclinic"])
def test_ignores_the_order_of_atoms(predict, structures, name):
    structure = structures[name]
    order = np.random.default_rng(0).permutation(len(structure))
    assert_same(predict(structure), predict(Structure.from_sites([structure[i] for i in order])))


@pytest.mark.parametrize("name", ["perovskite", "distorted", "triclinic"])
def test_ignores_rotation_reflection_and_translation(predict, structures, name):
    structure = structures[name]
    rotated = structure.copy()
    rotated.apply_operation(SymmOp.from_axis_angle_and_translation([1, 2, 3], 37))
    mirrored = structure.copy()
    mirrored.apply_operation(SymmOp.reflection([1, 1, 3]))
    moved = structure.copy()
    moved.translate_sites(range(len(moved)), [0.31, 0.77, 0.12])
    for other in (rotated, mirrored, moved):
        assert_same(predict(structure), predict(other))


@pytest.mark.parametrize("name", ["caesium", "rutile", "perovskite", "triclinic"])
def test_ignores_the_choice_of_cell(predict, structures, name):
    structure = structures[name]
    assert_same(predict(structure), predict(structure * [[1, 1, 0], [-1, 2, 0], [0, 1, 1]]))


@pytest.mark.parametrize("name", NAMES)
def test_the_asymmetric_unit_gives_what_the_full_cell_gives(predict, graph_of, architecture, structures, name):
    reduced = graph_of(architecture, structures[name], asymmetric_unit=True)
    if name in {"rock_salt", "rutile", "perovskite"}:
        assert reduced.n_atoms < len(structures[name])
    assert_same(predict(structures[name]), predict(structures[name], asymmetric_unit=True))


def test_sees_elements_amounts_and_unless_by_formula_alone_geometry(predict, architecture, structures):
    rutile = structures["rutile"]
    other_element = rutile.copy()
    other_element.replace_species({"Ti": "Sn"})
    assert_differ(predict(rutile), predict(other_element))
    strained = rutile.copy()
    strained.apply_strain([0.05, 0.05, -0.08])
    if architecture == "composition":
        assert_same(predict(rutile), predict(strained))
        assert_differ(predict(rutile), predict(Structure.from_sites(rutile.sites[:-1])))
    else:
        assert_differ(predict(rutile), predict(strained))


def test_every_parameter_gets_a_gradient(architecture, model_of, graph_of, structures, collate):
    model = model_of(architecture).train()
    outputs = model(collate([graph_of(architecture, structures[name]) for name in ("rutile", "triclinic")]))
    sum(values.square().sum() for values in outputs.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_is_finite_on_one_atom_two_hundred_atoms_and_far_apart_atoms(predict, structures):
    rng = np.random.default_rng(5)
    grid = np.stack(np.meshgrid(*[np.arange(6)] * 3), axis=-1).reshape(-1, 3)[:200]
    large = Structure(
        Lattice.cubic(16.0), rng.choice(["O", "Si", "Mg", "U"], 200), grid / 6 + rng.normal(0, 0.01, (200, 3))
    )
    isolated = Structure(Lattice.cubic(14.0), ["He", "Xe"], [[0, 0, 0], [0.5, 0.5, 0.45]])
    for structure in (structures["caesium"], large, isolated):
        assert all(torch.isfinite(values).all() for values in predict(structure).values())


def test_the_same_seed_and_input_give_the_same_bits(architecture, model_of, graph_of, structures, collate):
    graph = collate([graph_of(architecture, structures[name]) for name in NAMES])

    def gradients() -> list[torch.Tensor]:
        model = model_of(architecture).train()
        sum(values.sum() for values in model(graph).values()).backward()
        return [p.grad for p in model.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))
