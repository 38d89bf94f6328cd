"""Crystals cut out of a batch are the crystals that went in."""

from dataclasses import fields

import pytest
import torch

from matscout.graphs.crystal_graph import crystals_between
from matscout.graphs.store.graph_store import GraphStore


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
