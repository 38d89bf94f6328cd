"""How encoders are called in training: in bfloat16 and compiled, every architecture still gives its values and gradients."""

from functools import partial

import pytest
import torch
from pymatgen.core import Lattice, Structure
from tiny_training import ROOT

from matscout.crystal import Crystal
from matscout.graphs.graph_store import GraphStore
from matscout.models.architectures import ENCODERS
from matscout.models.model import build_model
from matscout.params import Graphs, load_params
from matscout.training.fitting import training_forward

PARAMS = load_params(ROOT / "params.yaml")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store():
    structures = [
        Structure(Lattice.cubic(6.14), ["Cs"], [[0, 0, 0]]),
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        Structure.from_spacegroup(
            "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0] * 3, [0.305, 0.305, 0]]
        ),
        Structure(
            Lattice.from_parameters(4, 5, 6, 80, 95, 105),
            ["Li", "Fe", "O"],
            [[0] * 3, [0.5, 0.4, 0.5], [0.2, 0.8, 0.3]],
        ),
    ]
    crystals = [Crystal.from_structure(structure) for structure in structures]
    return GraphStore.from_crystals(list("abcd"), crystals, Graphs(n_neighbors=12, asymmetric_unit=True, symprec=1e-3))


@pytest.fixture(params=sorted(ENCODERS))
def model_and_graph(request, store):
    member = next(m for m in PARAMS.members.values() if m.architecture == request.param)
    torch.manual_seed(0)
    n_neighbors = min(12, member.graph.n_neighbors)
    return build_model(member, PARAMS.targets), store.batch([0, 1, 2, 3], n_neighbors=n_neighbors, cutoff=8.0)


def outputs_and_gradients(model, graph, **changes):
    forward = training_forward(model, PARAMS.compute.model_copy(update=changes), CPU)
    outputs = forward(graph)
    model.zero_grad()
    sum(values.square().mean() for values in outputs.values()).backward()
    flat = torch.cat([values.flatten() for values in outputs.values()]).detach()
    return flat, torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_by_default_it_is_the_model_itself(model_and_graph):
    model, graph = model_and_graph
    values, _ = outputs_and_gradients(model, graph)
    assert torch.equal(values, torch.cat([v.flatten() for v in model(graph).values()]))


def test_bfloat16_is_near_and_leaves_weights_and_outputs_in_float32(model_and_graph):
    model, graph = model_and_graph
    exact, exact_gradients = outputs_and_gradients(model, graph)
    values, gradients = outputs_and_gradients(model, graph, precision="bfloat16")
    assert values.dtype == gradients.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert not torch.equal(values, exact)  # it did run in another precision
    assert (values - exact).norm() < 0.1 * exact.norm()  # eight bits of mantissa, through a few layers
    cosine = torch.nn.functional.cosine_similarity(gradients, exact_gradients, dim=0)
    assert cosine > 0.98


# torch looks at every tensor that it traces; its own, nothing that a user can do
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_gives_the_same(model_and_graph, monkeypatch):
    """Traced, and run as traced: torch's own code generator would take a minute an architecture."""
    model, graph = model_and_graph
    exact, exact_gradients = outputs_and_gradients(model, graph)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    values, gradients = outputs_and_gradients(model, graph, compile=True)
    torch.testing.assert_close(values, exact)
    torch.testing.assert_close(gradients, exact_gradients)
    torch._dynamo.reset()
