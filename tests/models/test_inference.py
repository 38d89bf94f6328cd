import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from matscout.crystal import Crystal
from matscout.errors import InputError
from matscout.graphs.graph_store import GraphStore
from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.laplace import Laplace
from matscout.models.inference import (
    InferencePlan,
    distributions,
    embed,
    place_graphs,
    plan_inference,
)
from matscout.models.short_memory import is_out_of_memory
from matscout.params import Graphs

SETTINGS = {"n_neighbors": 6, "cutoff": 5.0}
ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error 12"),
]


@pytest.fixture(scope="module")
def store(structures):
    crystals = [Crystal.from_structure(structure) for structure in structures.values()]
    return GraphStore.from_crystals(
        list(structures), crystals, Graphs(n_neighbors=8, asymmetric_unit=True, symprec=1e-3)
    )


def predict(model, store, rows, **options):
    return distributions(model, embed(model, store, rows, **SETTINGS, **options))


def test_gives_distributions_in_the_order_of_rows(store, tiny_model):
    rows = np.array([4, 0, 5, 4, 2])
    predictions = predict(tiny_model, store, rows, plan=InferencePlan(max_edges=30, workers=2))
    assert isinstance(predictions["formation_energy_per_atom"], Laplace)
    assert isinstance(predictions["band_gap"], HurdleLaplace)
    for position, row in enumerate(rows):
        with torch.inference_mode():
            alone = tiny_model(store.batch([row], **SETTINGS))["formation_energy_per_atom"]
        found = predictions["formation_energy_per_atom"].parameters()[position]
        np.testing.assert_allclose(found, alone[0].numpy(), rtol=1e-5)


@pytest.mark.parametrize("max_edges", [1, 40, 10_000])
def test_the_budget_changes_no_prediction(store, tiny_model, max_edges):
    rows = np.arange(len(store))
    wide = predict(tiny_model, store, rows)
    narrow = predict(tiny_model, store, rows, plan=InferencePlan(max_edges=max_edges, workers=1))
    for target in wide:
        np.testing.assert_allclose(narrow[target].parameters(), wide[target].parameters(), rtol=1e-5)


def test_the_number_of_threads_changes_no_bit(store, tiny_model):
    rows = np.tile(np.arange(len(store)), 20)
    embeddings = [
        embed(tiny_model, store, rows, **SETTINGS, plan=InferencePlan(max_edges=100, workers=workers))
        for workers in (1, 3)
    ]
    assert embeddings[0].tobytes() == embeddings[1].tobytes()


def test_torch_has_its_threads_back_even_after_an_error(store, tiny_model, monkeypatch):
    def fail(_):
        raise RuntimeError("no memory")

    before = torch.get_num_threads()
    monkeypatch.setattr(tiny_model.encoder, "forward", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        embed(tiny_model, store, np.arange(3), **SETTINGS)
    assert torch.get_num_threads() == before


def test_no_rows_give_empty_distributions(store, tiny_model):
    predictions = predict(tiny_model, store, np.array([], dtype=np.int64))
    assert [len(distribution) for distribution in predictions.values()] == [0, 0]


def test_leaves_the_model_in_its_mode_and_without_gradients(store, tiny_model):
    tiny_model.train()
    predict(tiny_model, store, np.arange(2))
    assert tiny_model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in tiny_model.parameters())


def test_the_plan_says_what_runs(caplog, store, tiny_model):
    caplog.set_level(logging.INFO, "matscout")
    embed(tiny_model, store, np.arange(2), **SETTINGS)
    assert f"2 crystals in 1 batches on {plan_inference('cpu')}" in caplog.text
    assert "cpu, float32, not compiled" in caplog.text


def test_graphs_on_the_device_change_no_bit(store, tiny_model):
    rows = np.array([4, 0, 5, 4, 2, 1])
    plan = InferencePlan(max_edges=60, workers=2)
    usual = embed(tiny_model, store, rows, **SETTINGS, plan=plan)
    resident = embed(tiny_model, store, rows, **SETTINGS, plan=replace(plan, resident=True))
    assert resident.tobytes() == usual.tobytes()


@pytest.mark.parametrize("error", ERRORS)
def test_graphs_that_do_not_fit_stay_in_host_memory_and_the_log_says_so(store, monkeypatch, caplog, error):
    def on(self, device):
        raise error

    monkeypatch.setattr(GraphStore, "on", on)
    assert place_graphs(store, InferencePlan(max_edges=60, workers=1, resident=True)) is store
    assert f"memory of cpu is short for {len(store)} crystals: their graphs stay in host memory" in caplog.text


def test_another_error_on_the_way_to_the_device_is_not_swallowed(store, monkeypatch):
    def on(self, device):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(GraphStore, "on", on)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        place_graphs(store, InferencePlan(max_edges=60, workers=1, resident=True))


def test_a_gpu_compiles_where_asked_and_a_cpu_never(monkeypatch):
    assert not plan_inference("cpu", compiled=True).compiled
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not plan_inference("cpu", compiled=True).compiled
    assert plan_inference("auto", compiled=True).compiled
    assert plan_inference("cuda", compiled=True).resident
    assert not plan_inference("cuda").compiled


def test_a_compiled_encoder_gives_the_same(store, tiny_model, monkeypatch):
    asked = []

    def compile_eagerly(module, **options):
        asked.append(options)
        return compiler(module, backend="eager", **options)

    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    plan = InferencePlan(max_edges=60, workers=2)
    usual = embed(tiny_model, store, np.arange(len(store)), **SETTINGS, plan=plan)
    assert not asked
    found = embed(tiny_model, store, np.arange(len(store)), **SETTINGS, plan=replace(plan, compiled=True))
    assert asked == [{"dynamic": True}]
    np.testing.assert_allclose(found, usual, rtol=1e-5, atol=1e-6)


def short_of_memory(encoder, most, error):
    """The encoder, on a device that holds `most` crystals at once."""
    forward = encoder.forward

    def limited(graph):
        if graph.n_crystals > most:
            raise error
        return forward(graph)

    return limited


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("most", [1, 2, 7])
def test_a_batch_too_large_for_the_memory_is_halved_and_the_log_says_so(
    most, error, store, tiny_model, monkeypatch, caplog
):
    rows = np.tile(np.arange(len(store)), 3)
    expected = embed(tiny_model, store, rows, **SETTINGS)
    monkeypatch.setattr(tiny_model.encoder, "forward", short_of_memory(tiny_model.encoder, most, error))
    found = embed(tiny_model, store, rows, **SETTINGS, plan=InferencePlan(max_edges=10_000, workers=2))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert f"on cpu: {len(rows)} crystals at once need more memory than there is" in caplog.text


def test_a_crystal_too_large_for_the_memory_is_named(store, tiny_model, monkeypatch):
    monkeypatch.setattr(tiny_model.encoder, "forward", short_of_memory(tiny_model.encoder, 0, MemoryError()))
    with pytest.raises(InputError, match=r"on cpu: triclinic alone needs more memory than there is.*leave it out"):
        embed(tiny_model, store, store.rows_of(["triclinic"]), **SETTINGS)


def test_what_torch_says_when_the_cpu_has_no_memory_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 46, dtype=torch.float64)  # 512 TiB
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
