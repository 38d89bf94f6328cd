"""What one model says about rows of a graph store: embeddings, then distributions. The only loop that predicts."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from matscout.graphs.batching import inference_batches
from matscout.graphs.store import GraphStore
from matscout.models.distributions import DISTRIBUTIONS, Distribution
from matscout.models.model import CrystalModel
from matscout.progress import progress

Embeddings = NDArray[np.float32]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class InferencePlan:
    """How a device is kept busy.

    Attributes:
        max_edges: edges per batch; a larger crystal is a batch of its own.
        workers: threads that each take whole batches.
    """

    max_edges: int
    workers: int


def plan_inference(device: str) -> InferencePlan:
    """The plan for a device: the one place that decides.

    A CPU core is fastest while a batch's activations stay in its own cache (about 45 crystals at 12
    neighbours; `benchmarks/batch_sizes.py`), and cores share nothing when each takes whole batches. So the
    result does not depend on their number. A GPU wants much work at once; its second thread collates.
    """
    if torch.device(device).type == "cpu":
        return InferencePlan(max_edges=4_000, workers=torch.get_num_threads())
    return InferencePlan(max_edges=500_000, workers=2)


def embed(
    model: CrystalModel,
    store: GraphStore,
    rows: NDArray[np.int64],
    *,
    n_neighbors: int,
    cutoff: float,
    plan: InferencePlan | None = None,
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
        plan: batches and threads; `plan_inference(device)` by default.
        device: where to compute.
        description: of the progress bar.
    """
    rows = np.asarray(rows, dtype=np.int64)
    plan = plan or plan_inference(device)
    settings = {"n_neighbors": n_neighbors, "cutoff": cutoff}
    embeddings = np.empty((len(rows), model.hidden_dim), np.float32)
    batches = inference_batches(store.edge_counts(**settings)[rows], max_edges=plan.max_edges)
    _LOG.info("%s: %d crystals in %d batches on %s, %s", description, len(rows), len(batches), device, plan)
    was_training = model.training
    model.to(device).eval()

    def embed_batch(batch: NDArray[np.int64]) -> Embeddings:
        with torch.inference_mode():
            return model.encoder(store.batch(rows[batch], **settings).to(device)).float().cpu().numpy()

    pool = ThreadPoolExecutor(plan.workers)
    try:
        with _one_torch_thread(), progress(description=description, total=len(rows), unit="crystal") as bar:
            for batch, embedding in zip(batches, pool.map(embed_batch, batches), strict=True):
                embeddings[batch] = embedding
                bar.update(len(batch))
    finally:
        pool.shutdown(cancel_futures=True)
        model.train(was_training)
    return embeddings


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Torch's own threads would fight with ours, and how they cut a product changes its last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def distributions(model: CrystalModel, embeddings: Embeddings) -> dict[str, Distribution]:
    """Every target's distribution for the (n, hidden_dim) outputs of the model's encoder."""
    head = model.cpu().head
    with torch.inference_mode():
        outputs = head(torch.from_numpy(embeddings))
    return {target: DISTRIBUTIONS[kind].from_head(outputs[target].numpy()) for target, kind in head.kinds.items()}
