"""What one model says about rows of a graph store: embeddings, then distributions. The only loop that predicts."""

import numpy as np
import torch
from numpy.typing import NDArray

from matscout.graphs.batching import inference_batches, prefetch
from matscout.graphs.store import GraphStore
from matscout.models.distributions import DISTRIBUTIONS, Distribution
from matscout.models.model import CrystalModel
from matscout.progress import progress

MAX_EDGES = 40_000  # about 300 crystals at 12 neighbours: activations stay in the cache of a CPU core

Embeddings = NDArray[np.float32]


def embed(
    model: CrystalModel,
    store: GraphStore,
    rows: NDArray[np.int64],
    *,
    n_neighbors: int,
    cutoff: float,
    max_edges: int = MAX_EDGES,
    device: str = "cpu",
    description: str = "predict",
) -> Embeddings:
    """(n, hidden_dim): the encoder's outputs for `rows` of `store`, in the order of `rows`.

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
    settings = {"n_neighbors": n_neighbors, "cutoff": cutoff}
    embeddings = np.empty((len(rows), model.hidden_dim), np.float32)
    was_training = model.training
    model.to(device).eval()
    batches = inference_batches(store.edge_counts(**settings)[rows], max_edges=max_edges)
    graphs = prefetch(lambda batch: store.batch(rows[batch], **settings), batches)
    with torch.inference_mode(), progress(description=description, total=len(rows), unit="crystal") as bar:
        for batch, graph in zip(batches, graphs, strict=True):
            embeddings[batch] = model.encoder(graph.to(device)).float().cpu().numpy()
            bar.update(len(batch))
    model.train(was_training)
    return embeddings


def distributions(model: CrystalModel, embeddings: Embeddings) -> dict[str, Distribution]:
    """Every target's distribution for the (n, hidden_dim) outputs of the model's encoder."""
    head = model.cpu().head
    with torch.inference_mode():
        outputs = head(torch.from_numpy(embeddings))
    return {target: DISTRIBUTIONS[kind].from_head(outputs[target].numpy()) for target, kind in head.kinds.items()}
