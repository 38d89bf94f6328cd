"""Which crystals go together: shuffled batches to train on, batches of equal work to predict with."""

import numpy as np
from numpy.typing import NDArray

from matscout.errors import ParameterError


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
