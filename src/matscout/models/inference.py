"""Predictions of one model for rows of a graph store."""

import numpy as np
import torch
from numpy.typing import NDArray

from matscout.graphs.batching import inference_batches, prefetch
from matscout.graphs.store import GraphStore
from matscout.models.distributions import DISTRIBUTIONS, Distribution
from matscout.models.heads import N_PARAMETERS
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
    outputs = {
        target: np.empty((len(rows), N_PARAMETERS[kind]), np.float32) for target, kind in model.head.kinds.items()
    }
    was_training = model.training
    model.to(device).eval()
    edge_counts = store.edge_counts(n_neighbors=n_neighbors, cutoff=cutoff)[rows]
    batches = inference_batches(edge_counts, max_edges=max_edges)
    graphs = prefetch(lambda batch: store.batch(rows[batch], n_neighbors=n_neighbors, cutoff=cutoff), batches)
    with torch.inference_mode(), progress(description=description, total=len(rows), unit="crystal") as bar:
        for batch, graph in zip(batches, graphs, strict=True):
            for target, parameters in model(graph.to(device)).items():
                outputs[target][batch] = parameters.float().cpu().numpy()
            bar.update(len(batch))
    model.train(was_training)
    return {target: DISTRIBUTIONS[kind].from_head(outputs[target]) for target, kind in model.head.kinds.items()}
