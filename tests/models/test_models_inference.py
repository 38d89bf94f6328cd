import numpy as np
import pytest
import torch

from matscout.crystal import Crystal
from matscout.graphs.store import GraphStore
from matscout.models.distributions import HurdleLaplace, Laplace
from matscout.models.inference import InferencePlan, distributions, embed
from matscout.params import Graphs

SETTINGS = {"n_neighbors": 6, "cutoff": 5.0}


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
