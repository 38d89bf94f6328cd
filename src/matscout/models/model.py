"""A model: one encoder and one head."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from matscout import params
from matscout.graphs.crystal_graph import CrystalGraph
from matscout.models.architectures import build_encoder
from matscout.models.heads import PropertyHead


class CrystalModel(nn.Module):
    """Crystals to parameters of one distribution per target, in physical units.

    Args:
        encoder: graph batch -> (n_crystals, hidden_dim).
        head: (n_crystals, hidden_dim) -> parameters by target.
    """

    def __init__(self, encoder: nn.Module, head: PropertyHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    @property
    def hidden_dim(self) -> int:
        """Length of the encoder's output."""
        return int(self.encoder.hidden_dim)  # type: ignore[arg-type]

    def forward(self, graph: CrystalGraph) -> dict[str, Tensor]:
        """Graph -> per target (n_crystals, n_params), see `PropertyHead`."""
        return self.head(self.encoder(graph))

    @property
    def n_parameters(self) -> int:
        """Number of trainable values."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)


def encoder_of(model: CrystalModel, *, compiled: bool) -> Callable[[CrystalGraph], Tensor]:
    """The model's encoder; `compiled` by torch for batches of any size, since sizes differ from batch to batch."""
    return torch.compile(model.encoder, dynamic=True) if compiled else model.encoder


def build_model(member: params.Member, targets: Mapping[str, params.Target]) -> CrystalModel:
    """An untrained model of a member; torch's generator decides its weights, so seed it first."""
    encoder = build_encoder(member.architecture, cutoff=member.graph.cutoff, **member.encoder.model_dump())
    return CrystalModel(encoder, PropertyHead(member.encoder.hidden_dim, {t: c.head for t, c in targets.items()}))
