"""The outputs of one model for rows of a graph store: embeddings, then parameters or distributions.

Members, students and the validation during training all predict with this loop.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matscout.engine import n_workers
from matscout.engine.process_setup import keep_freed_memory, subnormals_flushed
from matscout.errors import ParameterError
from matscout.graphs.crystal_graph import CrystalGraph, ResidentGraphs, inference_batches
from matscout.graphs.graph_store import GraphStore
from matscout.models.families.distribution import Distribution
from matscout.models.families.registry import FAMILIES
from matscout.models.model import CrystalModel, encoder_of
from matscout.models.short_memory import in_parts_that_fit, is_out_of_memory
from matscout.progress import progress

_LOG = logging.getLogger(__name__)
Rows = NDArray[np.int64]
Outputs = NDArray[np.float32]


Embeddings = NDArray[np.float32]


@dataclass(frozen=True)
class InferencePlan:
    """Device, batches and threads of a prediction.

    Attributes:
        max_edges: edges per batch; a larger crystal is a batch of its own.
        workers: threads that each take whole batches; None = as many as the engine gives the process that predicts.
        device: where the encoder computes.
        precision: of the encoder; bfloat16 fails the parity check of docs/performance.md.
        compiled: whether torch's compiler fuses the encoder; docs/performance.md states the cost.
        resident: whether all graphs are put on the device first, and batches cut out there.
    """

    max_edges: int
    workers: int | None = None
    device: str = "cpu"
    precision: str = "float32"
    compiled: bool = False
    resident: bool = False

    @property
    def n_threads(self) -> int:
        """Threads that predict in this process."""
        return self.workers or n_workers()

    def __str__(self) -> str:
        """The plan as text for the log."""
        how = "compiled" if self.compiled else "not compiled"
        where = "graphs on the device" if self.resident else "graphs in host memory"
        return (
            f"{self.device}, {self.precision}, {how}, {where}, {self.n_threads} thread(s), "
            f"{self.max_edges:,} edges a batch"
        )


ON_CPU = InferencePlan(max_edges=4_000)


def plan_inference(device: str, *, compiled: bool = False) -> InferencePlan:
    """Choose device, precision, batch size and compilation.

    A CPU core is fastest while a batch's activations stay in its own cache (about 45 crystals at 12
    neighbours; `benchmarks/speed/batch_sizes.py`), and each core takes whole batches, so the result does not
    depend on the number of cores. A GPU is fastest with large batches of crystals of similar size and with the graphs
    in its own memory; a second thread prepares the next batch.

    Args:
        device: `cpu`, `cuda`, or `auto`: cuda where there is one.
        compiled: whether to compile encoders for a GPU. On a CPU they never are: two machines' compilers need not
            round alike, and predictions made there are the same bytes everywhere.

    Returns:
        Device, size of batches, number of threads, and whether encoders are compiled.

    Raises:
        ParameterError: `cuda` is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise ParameterError("compute.device = 'cuda', but torch sees no GPU; choose cpu or auto")
    if device != "cpu" and has_gpu:
        return InferencePlan(max_edges=500_000, workers=2, device="cuda", compiled=compiled, resident=True)
    return ON_CPU


def embed(
    model: CrystalModel,
    store: GraphStore | ResidentGraphs,
    rows: NDArray[np.int64],
    *,
    n_neighbors: int,
    cutoff: float,
    plan: InferencePlan = ON_CPU,
    description: str = "predict",
) -> Embeddings:
    """Run the encoder on some crystals of a store.

    A batch for which memory is short is taken in parts (`short_memory.py`). Parts are other batches, so the last bits
    of their outputs may differ, as with any other batch size.

    Args:
        model: put onto the device and into evaluation mode for the call, and back afterwards.
        store: graphs, from `place_graphs` where several models read them.
        rows: (n,) rows of the store.
        n_neighbors: of the model's graphs.
        cutoff: of the model's graphs, Å.
        plan: device, batches and threads.
        description: of the progress bar.

    Returns:
        (n, hidden_dim) float32, in the order of `rows`.

    Raises:
        InputError: memory is short for a single crystal, which the message names.
    """
    encoder = encoder_of(model, compiled=plan.compiled)
    graphs = {"n_neighbors": n_neighbors, "cutoff": cutoff}
    return _in_batches(model, encoder, model.hidden_dim, store, rows, graphs, plan, description)


def head_outputs(
    model: CrystalModel,
    store: GraphStore,
    rows: NDArray[np.int64],
    *,
    n_neighbors: int,
    cutoff: float,
    plan: InferencePlan,
) -> dict[str, Tensor]:
    """Run the whole model on some crystals of a store, without a progress bar, for the epochs of a training.

    Args:
        model: as in `embed`.
        store: graphs.
        rows: (n,) rows of the store.
        n_neighbors: of the model's graphs.
        cutoff: of the model's graphs, Å.
        plan: device, batches and threads.

    Returns:
        By target, the head's (n, n_parameters) outputs on the CPU, in the order of `rows`.
    """
    widths = [model.head.width(target) for target in model.head.kinds]

    def forward(graph: CrystalGraph) -> Tensor:
        return torch.cat(list(model(graph).values()), dim=1)

    graphs = {"n_neighbors": n_neighbors, "cutoff": cutoff}
    outputs = _in_batches(model, forward, sum(widths), store, rows, graphs, plan, None)
    return dict(zip(model.head.kinds, torch.from_numpy(outputs).split(widths, dim=1), strict=True))


def _in_batches(
    model: CrystalModel,
    forward: Callable[[CrystalGraph], Tensor],
    width: int,
    store: GraphStore | ResidentGraphs,
    rows: NDArray[np.int64],
    settings: Mapping[str, Any],
    plan: InferencePlan,
    description: str | None,
) -> Outputs:
    """(n, width) outputs of `forward`, a part of `model`; without a `description` there is no progress bar."""
    rows = np.asarray(rows, dtype=np.int64)
    keep_freed_memory()  # otherwise each batch waits for the kernel to clear its pages again
    store = place_graphs(store, plan)
    outputs = np.empty((len(rows), width), np.float32)
    batches = inference_batches(store.edge_counts(**settings)[rows], max_edges=plan.max_edges)
    if description:
        _LOG.info("%s: %d crystals in %d batches on %s", description, len(rows), len(batches), plan)
    was_training, place = model.training, next(model.parameters()).device
    model.to(plan.device).eval()

    def outputs_of_rows(some: NDArray[np.int64]) -> Outputs:
        with torch.inference_mode():
            return forward(store.batch(some, **settings).to(plan.device)).float().cpu().numpy()

    def outputs_of_batch(batch: NDArray[np.int64]) -> Outputs:
        chosen = rows[batch]
        name = f"{description or 'validate'} on {plan.device}"
        parts, _ = in_parts_that_fit(lambda i, j: outputs_of_rows(chosen[i:j]), store.ids[chosen].tolist(), name=name)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    pool = ThreadPoolExecutor(plan.n_threads)
    try:
        with (
            subnormals_flushed(),  # the threads that predict start inside, and inherit the setting
            _one_torch_thread(),
            progress(
                description=description or "", total=len(rows), unit="crystal", shown=description is not None
            ) as bar,
        ):
            for batch, found in zip(batches, pool.map(outputs_of_batch, batches), strict=True):
                outputs[batch] = found
                bar.update(len(batch))
    finally:
        pool.shutdown(cancel_futures=True)
        model.to(place).train(was_training)
    return outputs


def place_graphs(store: GraphStore | ResidentGraphs, plan: InferencePlan) -> GraphStore | ResidentGraphs:
    """Put the graphs where the plan wants them, or leave them in host memory, with a warning, if the device is full."""
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
    """Torch's own threads would compete with ours, and how they divide a product changes its last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def distributions(model: CrystalModel, embeddings: Embeddings) -> dict[str, Distribution]:
    """Distributions of n crystals by target, from (n, hidden_dim) embeddings; moves the model to the CPU."""
    head = model.cpu().head
    with torch.inference_mode(), _one_torch_thread():
        outputs = head(torch.from_numpy(embeddings))
    return {target: FAMILIES[kind].from_head(outputs[target].numpy()) for target, kind in head.kinds.items()}
