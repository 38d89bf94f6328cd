"""Predictions of one model for rows of a graph store."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from matscout.graphs.store import GraphStore
from matscout.models.distributions import DISTRIBUTIONS, Distribution
from matscout.models.model import CrystalModel
from matscout.progress import progress

MAX_EDGES = 40_000  # about 300 crystals at 12 neighbours: activations stay in the cache of a CPU core


def predict(
    model: CrystalModel,
    store: GraphStore,
    rows: NDArray[np.int64],
    *,
    n_neighbors: int,
    cutoff: float,
    max_edges: int = MAX_EDGES,
    device: str = "cpu",
    description: str = "predict",
) -> dict[str, Distribution]:
    """Distributions of every target for `rows` of `store`, in the order of `rows`.

    Args:
        model: put into evaluation mode for the call and back afterwards.
        store: graphs.
        rows: (n,) rows of the store.
        n_neighbors: of the model's graphs.
        cutoff: of the model's graphs, Å.
        max_edges: edges per batch, which bounds the memory; a larger crystal is a batch of its own.
        device: where to compute.
        description: of the progress bar.
    """
    rows = np.asarray(rows, dtype=np.int64)
    outputs: dict[str, list[NDArray[np.float32]]] = {target: [] for target in model.head.kinds}
    was_training = model.training
    model.to(device).eval()
    edges = store.edge_counts(n_neighbors=n_neighbors, cutoff=cutoff)[rows]
    with torch.inference_mode(), progress(description=description, total=len(rows), unit="crystal") as bar:
        for start, stop in slices_within(edges, max_edges):
            graph = store.batch(rows[start:stop], n_neighbors=n_neighbors, cutoff=cutoff)
            for target, values in model(graph.to(device)).items():
                outputs[target].append(values.float().cpu().numpy())
            bar.update(stop - start)
    model.train(was_training)
    return {target: _distribution(kind, outputs[target]) for target, kind in model.head.kinds.items()}


def slices_within(counts: NDArray[np.int64], limit: int) -> Iterator[tuple[int, int]]:
    """Consecutive (start, stop) whose counts sum to at most `limit`; one that exceeds it stands alone."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + limit, side="right")))
        yield start, stop
        start = stop


def _distribution(kind: str, chunks: list[NDArray[np.float32]]) -> Distribution:
    n_columns = 3 if kind == "hurdle" else 2
    outputs = np.concatenate(chunks) if chunks else np.empty((0, n_columns))
    return DISTRIBUTIONS[kind].from_head(outputs)
