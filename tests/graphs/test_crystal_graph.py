"""Batches to train on and batches to predict with.

Crystals cut out of a batch are the crystals that went in.
"""

from dataclasses import fields

import numpy as np
import pytest
import torch

from matscout.errors import ParameterError
from matscout.graphs.crystal_graph import crystals_between, inference_batches, training_batches
from matscout.graphs.graph_store import GraphStore


@pytest.mark.parametrize(("n", "batch_size"), [(1, 8), (8, 8), (9, 8), (100, 7), (3, 1)])
def test_training_batches_hold_each_row_once_in_nearly_equal_parts(n, batch_size):
    rows = np.arange(n) * 3 + 5
    batches = training_batches(rows, batch_size=batch_size, seed=1, epoch=0)
    assert sorted(np.concatenate(batches)) == rows.tolist()
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-n // batch_size)


def test_training_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return np.concatenate(training_batches(np.arange(200), batch_size=16, seed=seed, epoch=epoch)).tolist()

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)
    assert order(1, 2) != order(2, 1)


def test_inference_batches_respect_the_budget():
    counts = np.random.default_rng(0).integers(1, 900, 500)
    batches = inference_batches(counts, max_edges=1000)
    assert sorted(np.concatenate(batches)) == list(range(500))
    assert all(counts[batch].sum() <= 1000 for batch in batches)
    largest = [counts[batch].max() for batch in batches]
    assert largest == sorted(largest, reverse=True)


def test_a_crystal_above_the_budget_is_alone():
    batches = inference_batches(np.array([5, 5000, 7]), max_edges=100)
    assert [batch.tolist() for batch in batches] == [[1], [2, 0]]


def test_nothing_gives_no_batches():
    assert inference_batches(np.zeros(0, int), max_edges=5) == []
    assert training_batches(np.zeros(0, int), batch_size=5, seed=0, epoch=0) == []


def test_sizes_below_one_are_rejected():
    with pytest.raises(ParameterError, match="max_edges = 0"):
        inference_batches(np.array([1]), max_edges=0)
    with pytest.raises(ParameterError, match="batch_size = 0"):
        training_batches(np.array([1]), batch_size=0, seed=0, epoch=0)


@pytest.fixture(scope="module")
def store(sample, settings):
    ids, crystals = zip(*sample[:8], strict=True)
    return GraphStore.from_crystals(list(ids), list(crystals), settings)


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (0, 1), (2, 5), (6, 7), (3, 3)])
def test_a_slice_is_the_batch_of_its_crystals(store, start, stop):
    rows = [5, 0, 3, 3, 1, 4, 2]
    part = crystals_between(store.batch(rows, n_neighbors=6, cutoff=5.0), start, stop)
    expected = store.batch(rows[start:stop], n_neighbors=6, cutoff=5.0)
    for field in fields(part):
        one, other = getattr(part, field.name), getattr(expected, field.name)
        assert torch.equal(one, other) if torch.is_tensor(one) else one == other, field.name
