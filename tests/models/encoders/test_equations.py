"""The published layers, written out with loops, against the layers in use."""

import math

import pytest
import torch
from torch.nn.functional import silu, softplus

from matscout.models.encoders.alignn import EdgeGatedGraphConv
from matscout.models.encoders.cgcnn import CGCNNConvolution
from matscout.models.encoders.cogn import CoGN, CoGNBlock
from matscout.models.encoders.comformer import ComFormerConvolution
from matscout.models.encoders.composition import FormulaAttention, Formulas, formulas_of
from matscout.models.encoders.megnet import MEGNetLayer, WeightedSet2Set
from matscout.models.layers.distances_and_angles import build_angle_graph
from matscout.models.layers.message_passing import PairLinear, mean_over_atoms

DIM = 6


@pytest.fixture
def graph(graph_of, structures, collate):
    return collate([graph_of("cgcnn", structures["rutile"]), graph_of("cgcnn", structures["triclinic"])])


@pytest.fixture
def x(graph):
    return torch.randn(graph.n_atoms, DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def e(graph):
    return torch.randn(graph.n_edges, DIM, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def on_concatenation(pair: PairLinear, x_i, x_j, e_ij):
    """The unfactorised layer: one matrix on x_i ⊕ x_j ⊕ e_ij."""
    weight = torch.cat([pair.center.weight, pair.neighbor.weight, pair.edge.weight], dim=1)
    return weight @ torch.cat([x_i, x_j, e_ij]) + pair.center.bias


def edges_of(graph, atom):
    return [(k, int(graph.neighbors[k])) for k in range(graph.n_edges) if graph.centers[k] == atom]


def test_cgcnn_equation_5(graph, x, e):
    layer = CGCNNConvolution(DIM, DIM).double()
    messages = torch.zeros_like(x)
    for i in range(graph.n_atoms):
        for k, j in edges_of(graph, i):
            gate, core = on_concatenation(layer.gate_and_core, x[i], x[j], e[k]).chunk(2)
            messages[i] = messages[i] + torch.sigmoid(gate) * softplus(core)
    torch.testing.assert_close(layer(x, e, graph), x + layer.norm(messages))


def test_alignn_edge_gated_convolution(graph, x, e):
    layer = EdgeGatedGraphConv(DIM).double()
    x_new, e_new = x.clone(), e.clone()
    for i in range(graph.n_atoms):
        numerator = denominator = torch.zeros(DIM, dtype=torch.float64)
        for k, j in edges_of(graph, i):
            gate = on_concatenation(layer.gate, x[i], x[j], e[k])
            sigma = torch.sigmoid(gate)
            numerator = numerator + sigma * layer.message(x[j])
            denominator = denominator + sigma
            e_new[k] = e[k] + silu(layer.edge_norm(gate))
        x_new[i] = x[i] + silu(layer.node_norm(layer.node(x[i]) + numerator / (denominator + 1e-6)))
    result = layer(x, e, graph.centers, graph.neighbors)
    torch.testing.assert_close(result[0], x_new)
    torch.testing.assert_close(result[1], e_new)


def test_cogn_block(graph, x, e):
    layer = CoGNBlock(DIM, n_edge_layers=3).double()
    expected = x.clone()
    for i in range(graph.n_atoms):
        messages = [layer.edge_mlp(silu(on_concatenation(layer.pair, x[i], x[j], e[k]))) for k, j in edges_of(graph, i)]
        expected[i] = x[i] + layer.node_mlp(torch.stack(messages).mean(dim=0))
    torch.testing.assert_close(layer(x, e, graph), expected)


def test_cogn_reads_a_mean_of_functions_of_each_atom(graph):
    sizes = {"hidden_dim": DIM, "n_layers": 1, "n_edge_layers": 1, "n_radial": 4, "cutoff": 6.0}
    published, ours = CoGN(n_atom_layers=0, **sizes).double(), CoGN(n_atom_layers=2, **sizes).double()
    assert len(published.atom_mlp) == 0
    ours.load_state_dict(published.state_dict(), strict=False)
    seen = []
    ours.atom_mlp.register_forward_pre_hook(lambda _module, vectors: seen.append(vectors[0]))
    crystals = ours(graph)
    torch.testing.assert_close(mean_over_atoms(seen[0], graph), published(graph))
    torch.testing.assert_close(mean_over_atoms(ours.atom_mlp(seen[0]), graph), crystals)


def test_comformer_convolution(graph, x, e):
    layer = ComFormerConvolution(DIM).double()
    expected = x.clone()
    for i in range(graph.n_atoms):
        total = torch.zeros(DIM, dtype=torch.float64)
        for k, j in edges_of(graph, i):
            for_key, for_value = silu(on_concatenation(layer.pair, x[i], x[j], e[k])).chunk(2)
            alpha = layer.query(x[i]) * layer.key(for_key) / math.sqrt(DIM)
            total = total + torch.sigmoid(layer.gate_norm(alpha)) * layer.value(for_value)
        expected[i] = x[i] + layer.out_norm(layer.out(total))
    torch.testing.assert_close(layer(x, e, graph.centers, graph.neighbors), expected)


def test_megnet_layer(graph, x, e):
    layer = MEGNetLayer(DIM).double()
    u = torch.randn(graph.n_crystals, DIM, dtype=torch.float64)
    e_new, v_new, u_new = e.clone(), x.clone(), u.clone()
    mean_e = torch.zeros_like(x)
    for i in range(graph.n_atoms):
        state = u[graph.crystal_of_atom[i]]
        for k, j in edges_of(graph, i):
            e_new[k] = layer.phi_e(
                silu(on_concatenation(layer.pair, torch.cat([x[i], state]), torch.cat([x[j], state]), e[k]))
            )
        mean_e[i] = torch.stack([e_new[k] for k, _ in edges_of(graph, i)]).mean(dim=0)
        v_new[i] = layer.phi_v(torch.cat([mean_e[i], x[i], state]))
    for crystal in range(graph.n_crystals):
        atoms = graph.crystal_of_atom == crystal
        u_new[crystal] = layer.phi_u(torch.cat([mean_e[atoms].mean(dim=0), v_new[atoms].mean(dim=0), u[crystal]]))
    for result, expected in zip(layer(x, e, u, graph), (v_new, e_new, u_new), strict=True):
        torch.testing.assert_close(result, expected)


def test_set2set_counts_a_row_as_often_as_its_weight():
    layer = WeightedSet2Set(DIM).double()
    rows = torch.randn(3, DIM, dtype=torch.float64)
    weights = torch.tensor([1, 3, 2])
    copies = rows.repeat_interleave(weights, dim=0)
    zeros = torch.zeros(6, dtype=torch.int64)
    weighted = layer(rows, weights.double(), zeros[:3], 1)
    torch.testing.assert_close(weighted, layer(copies, torch.ones(6, dtype=torch.float64), zeros, 1))


def test_set2set_follows_its_recurrence():
    layer = WeightedSet2Set(DIM, n_steps=2).double()
    rows = torch.randn(4, DIM, dtype=torch.float64)
    q_star, q, memory = (torch.zeros(1, width, dtype=torch.float64) for width in (2 * DIM, DIM, DIM))
    for _ in range(2):
        q, memory = layer.lstm(q_star, (q, memory))
        attention = torch.softmax(rows @ q[0], dim=0)
        q_star = torch.cat([q, (attention @ rows)[None]], dim=1)
    torch.testing.assert_close(layer(rows, torch.ones(4).double(), torch.zeros(4, dtype=torch.int64), 1), q_star)


def test_formula_attention_counts_an_element_as_often_as_it_has_atoms():
    """With gamma = 1, attention over Fe2O3's two tokens is attention over its five atoms."""
    layer = FormulaAttention(8, n_heads=2).double()
    iron, oxygen = torch.randn(2, 8, dtype=torch.float64)
    tokens = torch.stack([oxygen, iron, torch.zeros(8).double()])[None]
    formulas = Formulas(torch.tensor([[8, 26, 0]]), torch.tensor([[0.6, 0.4, 0.0]]).double())
    atoms = torch.stack([oxygen, oxygen, oxygen, iron, iron])
    q, k, v = layer.qkv(atoms).view(5, 3, 2, 4).permute(1, 2, 0, 3)
    mixed = torch.softmax(q @ k.transpose(1, 2) / 2.0, dim=-1) @ v
    expected = layer.out(mixed.transpose(0, 1).reshape(5, 8))
    torch.testing.assert_close(layer(tokens, formulas)[0, :2], expected[[0, 3]])


def test_formulas_are_reduced(graph_of, structures, collate):
    names = ["rock_salt", "triclinic", "rutile"]
    formulas = formulas_of(collate([graph_of("composition", structures[name]) for name in names]))
    assert formulas.atomic_numbers.tolist() == [[11, 17, 0, 0, 0], [3, 8, 11, 15, 26], [8, 22, 0, 0, 0]]
    expected = [[1 / 2, 1 / 2, 0, 0, 0], [1 / 6, 1 / 3, 1 / 6, 1 / 6, 1 / 6], [2 / 3, 1 / 3, 0, 0, 0]]
    torch.testing.assert_close(formulas.fractions, torch.tensor(expected).double())


@pytest.mark.parametrize("n_angle_neighbors", [1, 4, 6, 100])
def test_angles_are_all_pairs_of_each_atoms_nearest_whole_shells(graph, n_angle_neighbors):
    expected = {}
    for atom in range(graph.n_atoms):
        edges = [k for k, _ in edges_of(graph, atom)]
        near = []
        for k in edges:
            starts_shell = not near or graph.distances[k] - graph.distances[near[-1]] > 1e-3
            if starts_shell and len(near) >= n_angle_neighbors:
                break
            near.append(k)
        for a in near:
            for b in near:
                if a != b:
                    v, w = graph.edge_vectors[a], graph.edge_vectors[b]
                    expected[a, b] = float(v @ w / (v.norm() * w.norm()))
    angles = build_angle_graph(graph, graph.distances, n_angle_neighbors)
    pairs = list(zip(angles.first.tolist(), angles.second.tolist(), strict=True))
    assert pairs == list(expected)
    torch.testing.assert_close(angles.cosines, torch.tensor(list(expected.values())).double())
