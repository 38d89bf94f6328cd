"""How a model is called in training: compiled and in mixed precision, if asked."""

from collections.abc import Callable

import torch
from torch import Tensor

from matscout.graphs.crystal_graph import CrystalGraph
from matscout.models.model import CrystalModel
from matscout.params import Compute


def training_forward(
    model: CrystalModel, compute: Compute, device: torch.device
) -> Callable[[CrystalGraph], dict[str, Tensor]]:
    """Graph -> parameters of distributions by target, through the very weights of `model`.

    With `bfloat16` the encoder's matrix products run in it (torch.autocast); weights, their averages and the head stay
    in float32, since a loss is a difference of nearby numbers. Sizes differ from batch to batch, so that the encoder
    is compiled for any.
    """
    encoder = torch.compile(model.encoder, dynamic=True) if compute.compile else model.encoder

    def forward(graph: CrystalGraph) -> dict[str, Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=compute.precision == "bfloat16"):
            crystals = encoder(graph)
        return model.head(crystals.float())

    return forward
