"""Kernels give what the plain layers give, and what float64 gives to within rounding."""

from dataclasses import replace

import numba
import numpy as np
import pytest
import torch
from torch import nn

from matscout.graphs.compiled import kernel
from matscout.models.architectures import ENCODERS, build_encoder
from matscout.models.encoders import alignn, cgcnn, cogn, comformer, megnet
from matscout.models.kernels import dense
from matscout.models.kernels.edges import runs_here
from matscout.models.kernels.gaussian_band import BAND, Band, embedded
from matscout.models.layers.distances_and_angles import GaussianExpansion, build_angle_graph
from matscout.models.model import build_model

ODD_SIZES = {  # widths that no vector divides, and fewer Gaussians than a band is wide
    "cgcnn": {"hidden_dim": 7, "n_layers": 2, "n_radial": 5},
    "megnet": {"hidden_dim": 6, "n_layers": 1, "n_radial": 7},
    "alignn": {
        "hidden_dim": 9,
        "n_alignn_layers": 2,
        "n_gcn_layers": 1,
        "n_radial": 12,
        "n_angular": 4,
        "n_angle_neighbors": 5,
    },
    "cogn": {"hidden_dim": 5, "n_layers": 2, "n_edge_layers": 2, "n_atom_layers": 1, "n_radial": 3},
    "comformer": {"hidden_dim": 11, "n_layers": 1, "n_radial": 10, "n_angular": 5, "n_angle_neighbors": 3},
}


@pytest.fixture
def batch_of(graph_of, structures, collate):
    def build(architecture, names=("caesium", "rutile", "perovskite", "distorted", "triclinic")):
        graph = collate([graph_of(architecture, structures[name]) for name in names])
        return replace(graph, multiplicity=graph.multiplicity.float(), edge_vectors=graph.edge_vectors.float())

    return build


@pytest.fixture
def plainly(monkeypatch):
    """Call a function without kernels."""

    def call(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(numba.config, "DISABLE_JIT", 1)
            return function(*arguments)

    return call


def assert_close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("exp", np.exp),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("swish", lambda x: x / (1 + np.exp(-x))),
        ("softplus", lambda x: np.logaddexp(0, x)),
    ],
)
def test_elementary_functions_are_within_three_roundings_of_float64(name, exact):
    function = getattr(dense, name)

    @kernel
    def each(x, out):
        for n in range(len(x)):
            out[n] = function(x[n])

    x = np.concatenate([np.linspace(-86, 86, 400_001), np.linspace(-1, 1, 100_001)]).astype(np.float32)
    found = np.empty_like(x)
    each(x, found)
    expected = exact(x.astype(np.float64))
    known = expected != 0
    assert np.max(np.abs(found[known] / expected[known] - 1)) < 3e-7
    special, result = np.array([np.nan, np.inf, -np.inf, 200.0, -200.0], np.float32), np.empty(5, np.float32)
    each(special, result)
    assert np.isnan(result[0])
    tiny = np.finfo(np.float32).smallest_normal
    assert not np.any((result[3:] != 0) & (np.abs(result[3:]) < tiny))


def test_a_band_holds_all_of_a_row_but_zeros():
    for n in (3, BAND, 40):
        expansion = GaussianExpansion(0.5, 8.0, n)
        values = torch.linspace(0.0, 12.0, 1001)
        with torch.no_grad():
            band = expansion.rows(values)
        assert isinstance(band, Band)
        rows = torch.zeros(len(values), max(n, BAND))
        for row, (first, kept) in enumerate(zip(band.first, band.values, strict=True)):
            rows[row, first : first + BAND] = torch.from_numpy(kept)
        torch.testing.assert_close(rows[:, :n], expansion(values), rtol=0, atol=2e-6)
        assert (rows[:, n:] == 0).all()


@pytest.mark.parametrize("then", [(), (nn.Softplus(),), (nn.LayerNorm(10), nn.SiLU())])
def test_embedded_gaussians_are_the_modules_in_a_row(then):
    torch.manual_seed(0)
    expansion, linear = GaussianExpansion(-1.0, 1.0, 20), nn.Linear(20, 10)
    values = torch.linspace(-1.0, 1.0, 301)
    with torch.no_grad():
        found = embedded(expansion.rows(values), linear, *then)
        assert_close(found, nn.Sequential(linear, *then)(expansion(values)))


@pytest.mark.parametrize("architecture", sorted(ENCODERS))
def test_an_encoder_predicts_with_kernels_what_it_predicts_without(
    architecture, member_of, repository_params, batch_of, plainly
):
    torch.manual_seed(3)
    model, graph = build_model(member_of(architecture), repository_params.targets).eval(), batch_of(architecture)
    with torch.inference_mode():
        assert_close(model.encoder(graph), plainly(model.encoder, graph))


@pytest.mark.parametrize("architecture", sorted(ODD_SIZES))
def test_odd_sizes_give_the_same(architecture, batch_of, plainly):
    torch.manual_seed(3)
    encoder, graph = build_encoder(architecture, cutoff=6.0, **ODD_SIZES[architecture]), batch_of(architecture)
    with torch.inference_mode():
        assert_close(encoder(graph), plainly(encoder, graph))


@pytest.mark.parametrize("architecture", sorted(ENCODERS))
def test_an_encoder_has_the_same_gradients_with_kernels_as_without(architecture, member_of, batch_of, plainly):
    torch.manual_seed(3)
    member, graph = member_of(architecture), batch_of(architecture)
    encoder = build_encoder(member.architecture, cutoff=member.graph.cutoff, **member.encoder.model_dump())

    def gradients(graph):
        encoder.zero_grad()
        encoder(graph).square().sum().backward()
        return {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}

    found, expected = gradients(graph), plainly(gradients, graph)
    for name, gradient in expected.items():
        assert_close(found[name], gradient, tolerance=1e-4)


@pytest.mark.parametrize(
    ("module", "function", "architecture"),
    [
        (cgcnn.GatedSum, "apply", "cgcnn"),
        (megnet, "updated_edges", "megnet"),
        (alignn, "edge_gated", "alignn"),
        (cogn, "mean_of_perceptron", "cogn"),
        (comformer, "gated_values", "comformer"),
    ],
)
def test_prediction_takes_the_kernel(
    module, function, architecture, member_of, repository_params, batch_of, monkeypatch
):
    def fail(*_arguments):
        raise AssertionError("taken")

    monkeypatch.setattr(module, function, fail)
    model, graph = build_model(member_of(architecture), repository_params.targets), batch_of(architecture)
    with torch.no_grad(), pytest.raises(AssertionError, match="taken"):
        model(graph)


def test_a_missing_number_stays_one(member_of, repository_params, batch_of):
    for architecture in sorted(ENCODERS):
        model, graph = build_model(member_of(architecture), repository_params.targets).eval(), batch_of(architecture)
        with torch.no_grad():
            next(model.encoder.elements.parameters()).fill_(torch.nan)
            assert torch.isnan(model.encoder(graph)).all()


def test_the_angle_graph_is_the_same(batch_of, plainly):
    graph = batch_of("alignn")
    with torch.no_grad():
        found = build_angle_graph(graph, graph.distances, 6)
        expected = plainly(build_angle_graph, graph, graph.distances, 6)
    assert torch.equal(found.first, expected.first)
    assert torch.equal(found.second, expected.second)
    torch.testing.assert_close(found.cosines, expected.cosines, rtol=0, atol=1e-6)


def test_kernels_run_on_float32_without_gradients_autocast_or_a_compiler():
    values = torch.ones(3)
    assert not runs_here(values)
    assert runs_here(values, differentiable=True)
    with torch.no_grad():
        assert runs_here(values)
        assert not runs_here(values.double())
        assert not runs_here(values.to("meta"))
        with torch.autocast("cpu", torch.bfloat16):
            assert not runs_here(values)
