"""Which crystals go together: shuffled batches to train on, batches of equal work to predict with."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from matscout.errors import ParameterError

Batch = TypeVar("Batch")

_POLL_S = 0.1  # how often a waiting loader looks whether it is still wanted


def training_batches(rows: NDArray[np.int64], *, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """`rows` in an order that depends on seed and epoch alone, in batches of nearly one size.

    The number of batches is ceil(n / batch_size); sizes differ by at most one, so that no crystal is
    dropped and no tiny last batch makes a noisy step.
    """
    if batch_size < 1:
        raise ParameterError(f"batch_size = {batch_size} must be at least 1")
    if len(rows) == 0:
        return []
    shuffled = np.random.default_rng([seed, epoch]).permutation(np.asarray(rows, dtype=np.int64))
    return np.array_split(shuffled, -(-len(rows) // batch_size))


def inference_batches(edge_counts: NDArray[np.int64], *, max_edges: int) -> list[NDArray[np.int64]]:
    """Positions 0 to n - 1 grouped so that each batch has at most `max_edges` edges, largest crystals first.

    Similar sizes go together, and a batch that would not fit into memory comes first. A crystal with
    more than `max_edges` edges is a batch of its own. The caller restores the order with the positions.
    """
    if max_edges < 1:
        raise ParameterError(f"max_edges = {max_edges} must be at least 1")
    order = np.argsort(-np.asarray(edge_counts, dtype=np.int64), kind="stable")
    batches, start, total = [], 0, 0
    for position, count in enumerate(np.asarray(edge_counts)[order].tolist()):
        if position > start and total + count > max_edges:
            batches.append(order[start:position])
            start, total = position, 0
        total += count
    return [*batches, order[start:]] if len(order) else []


def prefetch(
    collate: Callable[[NDArray[np.int64]], Batch], batches: Sequence[NDArray[np.int64]], *, depth: int = 2
) -> Iterator[Batch]:
    """`map(collate, batches)`, collated by a thread up to `depth` batches ahead.

    The compiled collate releases the interpreter lock, so the consumer's arithmetic goes on meanwhile.
    An error in `collate` is raised where its batch would have come; closing the iterator ends the thread.
    """
    ready: queue.Queue[tuple[Batch | None, BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: tuple[Batch | None, BaseException | None]) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for rows in batches:
                if not put((collate(rows), None)):
                    return
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            put((None, error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        for _ in batches:
            batch, error = ready.get()
            if error is not None:
                raise error
            yield batch  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
