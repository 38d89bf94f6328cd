"""Which crystals go together: shuffled batches to train on, batches of equal work to predict with."""

import numpy as np
from numpy.typing import NDArray

from matscout.errors import ParameterError


def training_batches(rows: NDArray[np.int64], *, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Shuffle rows and cut them into batches of nearly one size.

    The order depends on seed and epoch alone. There are ceil(n / batch_size) batches; their sizes differ by at most
    one, so that no crystal is dropped and no tiny last batch makes a noisy step.

    Args:
        rows: (n,) rows of a store.
        batch_size: largest number of crystals in a batch.
        seed: of the shuffle.
        epoch: each has an order of its own.

    Returns:
        The batches; no batch for no rows.

    Raises:
        ParameterError: `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise ParameterError(f"batch_size = {batch_size} must be at least 1")
    if len(rows) == 0:
        return []
    shuffled = np.random.default_rng([seed, epoch]).permutation(np.asarray(rows, dtype=np.int64))
    return np.array_split(shuffled, -(-len(rows) // batch_size))


def inference_batches(edge_counts: NDArray[np.int64], *, max_edges: int) -> list[NDArray[np.int64]]:
    """Group crystals by size, so that each batch has at most `max_edges` edges, largest crystals first.

    Similar sizes go together, and a batch that would not fit into memory comes first. A crystal with more than
    `max_edges` edges is a batch of its own.

    Args:
        edge_counts: (n,) edges of each crystal.
        max_edges: of a batch.

    Returns:
        Batches of positions 0 to n - 1, with which the caller restores the order.

    Raises:
        ParameterError: `max_edges` is less than 1.
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
