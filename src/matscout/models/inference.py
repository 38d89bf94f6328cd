"""What one model says about rows of a graph store: embeddings, then distributions. The only loop that predicts."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from matscout.engine import n_workers
from matscout.engine.floating_point import subnormals_flushed
from matscout.errors import ParameterError
from matscout.graphs.batching import inference_batches
from matscout.graphs.store.device_graphs import ResidentGraphs
from matscout.graphs.store.graph_store import GraphStore
from matscout.memory import keep_freed_memory
from matscout.models.families.distributions import DISTRIBUTIONS, Distribution
from matscout.models.model import CrystalModel
from matscout.models.smaller_batches import halving, is_out_of_memory
from matscout.progress import progress

Embeddings = NDArray[np.float32]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class InferencePlan:
    """What runs where, and how a device is kept busy.

    Attributes:
        max_edges: edges per batch; a larger crystal is a batch of its own.
        workers: threads that each take whole batches.
        device: where the encoder computes.
        precision: of the encoder; bfloat16 misses the parity of docs/performance.md.
        compiled: whether torch's compiler fuses the encoder; what that costs stands in docs/performance.md.
        resident: whether all graphs are put on the device first, and batches cut out there.
    """

    max_edges: int
    workers: int
    device: str = "cpu"
    precision: str = "float32"
    compiled: bool = False
    resident: bool = False

    def __str__(self) -> str:
        """As the log tells it."""
        how = "compiled" if self.compiled else "not compiled"
        where = "graphs on the device" if self.resident else "graphs in host memory"
        return (
            f"{self.device}, {self.precision}, {how}, {where}, {self.workers} thread(s), "
            f"{self.max_edges:,} edges a batch"
        )


def plan_inference(device: str, *, compiled: bool = False) -> InferencePlan:
    """The plan for a device: the one place that decides device, precision and compilation.

    A CPU core is fastest while a batch's activations stay in its own cache (about 45 crystals at 12
    neighbours; `benchmarks/speed/batch_sizes.py`), and cores share nothing when each takes whole batches. So the
    result does not depend on their number. A GPU wants much work at once, of crystals of one size, and the graphs in
    its own memory; its second thread prepares the next batch.

    Args:
        device: `cpu`, `cuda`, or `auto`: cuda where there is one.
        compiled: whether to compile encoders for a GPU. On a CPU they never are: two machines' compilers need not
            round alike, and predictions made there are the same bytes everywhere.

    Raises:
        ParameterError: `cuda` is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ParameterError("compute.device = 'cuda', but torch sees no GPU; choose cpu or auto")
    if device != "cpu" and has_gpu:
        return InferencePlan(max_edges=500_000, workers=2, device="cuda", compiled=compiled, resident=True)
    return InferencePlan(max_edges=4_000, workers=n_workers(), device="cpu")


def embed(
    model: CrystalModel,
    store: GraphStore | ResidentGraphs,
    rows: NDArray[np.int64],
    *,
    n_neighbors: int,
    cutoff: float,
    plan: InferencePlan | None = None,
    description: str = "predict",
) -> Embeddings:
    """(n, hidden_dim): the encoder's outputs for `rows` of `store`, in the order of `rows`.

    A batch for which memory is short is halved, down to one crystal; the log says so.

    Args:
        model: put into evaluation mode for the call and back afterwards.
        store: graphs, from `place_graphs` where several models read them.
        rows: (n,) rows of the store.
        n_neighbors: of the model's graphs.
        cutoff: of the model's graphs, Å.
        plan: device, batches and threads; `plan_inference("cpu")` by default.
        description: of the progress bar.

    Raises:
        InputError: memory is short for a single crystal, which the message names.
    """
    rows = np.asarray(rows, dtype=np.int64)
    plan = plan or plan_inference("cpu")
    keep_freed_memory()  # else each batch waits for the kernel to clear its pages again
    store = place_graphs(store, plan)
    settings = {"n_neighbors": n_neighbors, "cutoff": cutoff}
    embeddings = np.empty((len(rows), model.hidden_dim), np.float32)
    batches = inference_batches(store.edge_counts(**settings)[rows], max_edges=plan.max_edges)
    _LOG.info("%s: %d crystals in %d batches on %s", description, len(rows), len(batches), plan)
    was_training = model.training
    model.to(plan.device).eval()
    encoder = torch.compile(model.encoder, dynamic=True) if plan.compiled else model.encoder

    def embed_rows(some: NDArray[np.int64]) -> Embeddings:
        with torch.inference_mode():
            return encoder(store.batch(some, **settings).to(plan.device)).float().cpu().numpy()

    def embed_batch(batch: NDArray[np.int64]) -> Embeddings:
        return halving(embed_rows, rows[batch], store.ids, plan.device)

    pool = ThreadPoolExecutor(plan.workers)
    try:
        with (
            subnormals_flushed(),  # the threads that predict start within, and inherit it
            _one_torch_thread(),
            progress(description=description, total=len(rows), unit="crystal") as bar,
        ):
            for batch, embedding in zip(batches, pool.map(embed_batch, batches), strict=True):
                embeddings[batch] = embedding
                bar.update(len(batch))
    finally:
        pool.shutdown(cancel_futures=True)
        model.train(was_training)
    return embeddings


def place_graphs(store: GraphStore | ResidentGraphs, plan: InferencePlan) -> GraphStore | ResidentGraphs:
    """The graphs where the plan wants them; in host memory, and the log says so, if the device has none left."""
    if not plan.resident or isinstance(store, ResidentGraphs):
        return store
    try:
        return store.on(plan.device)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    _LOG.warning("memory of %s is short for %d crystals: their graphs stay in host memory", plan.device, len(store))
    return store


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
    with torch.inference_mode(), _one_torch_thread():
        outputs = head(torch.from_numpy(embeddings))
    return {target: DISTRIBUTIONS[kind].from_head(outputs[target].numpy()) for target, kind in head.kinds.items()}
