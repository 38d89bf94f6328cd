"""Changes to the code for ablations of what is no parameter: each a context that is undone after a training."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from matscout.graphs.crystal_graph import CrystalGraph
from matscout.models.encoders import cogn
from matscout.models.layers import element_embedding
from matscout.models.layers.message_passing import segment_sum


@contextmanager
def _no_element_features() -> Iterator[None]:
    """The table of physical properties is all zeros: only the learned embedding is left, from a random start."""
    zeros = np.zeros_like(element_embedding.element_table())
    with (
        patch.object(element_embedding, "element_table", lambda: zeros),
        patch.object(nn.init, "zeros_", _small_normal),
    ):
        yield


def _small_normal(tensor: Tensor) -> Tensor:
    """With no features, an embedding that starts at zero makes all elements alike; biases stay at zero."""
    with torch.no_grad():
        return tensor.normal_(0.0, 1.0) if tensor.dim() > 1 else tensor.zero_()


def _no_normalisation() -> AbstractContextManager[object]:
    """Layer normalisations pass their input through."""
    return patch.object(nn, "LayerNorm", lambda _dim: nn.Identity())


def _sums() -> AbstractContextManager[object]:
    """coGN's published sum over neighbours in place of the mean."""

    def summed(x: Tensor, graph: CrystalGraph) -> Tensor:
        return segment_sum(x, graph.centers, graph.n_atoms)

    return patch.object(cogn, "mean_over_edges", summed)


PATCHES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "no element features": _no_element_features,
    "no normalisation": _no_normalisation,
    "sums": _sums,
}


def patched(name: str | None) -> AbstractContextManager[object]:
    """The code with that change for as long as the context lasts."""
    return nullcontext() if name is None else PATCHES[name]()
