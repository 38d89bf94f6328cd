"""A model: one encoder, and one head that turns crystal vectors into distributions in physical units."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from matscout import params
from matscout.errors import TrainingError
from matscout.graphs.crystal_graph import CrystalGraph
from matscout.models.architectures import build_encoder
from matscout.models.families.registry import FAMILIES
from matscout.models.layers.message_passing import MLP


class TargetHead(nn.Module):
    """The layer of one target, with the statistics of the target as buffers, so that no separate scaler exists.

    A two-layer perceptron, whose outputs the family's `transform` turns into parameters in physical units.

    Args:
        hidden_dim: length of the crystal vectors.
        kind: key of `FAMILIES`.
    """

    center: Tensor
    spread: Tensor
    prior_logit: Tensor

    def __init__(self, hidden_dim: int, kind: str) -> None:
        super().__init__()
        if kind not in FAMILIES:
            message = f"head {kind!r} is unknown; choose one of {sorted(FAMILIES)}"
            raise ValueError(message)
        self.family = FAMILIES[kind]
        self.layers = MLP(hidden_dim, hidden_dim, self.family.N_PARAMETERS)
        self.register_buffer("center", torch.tensor(0.0))
        self.register_buffer("spread", torch.tensor(1.0))
        self.register_buffer("prior_logit", torch.tensor(0.0))

    def forward(self, crystals: Tensor) -> Tensor:
        """(n_crystals, hidden_dim) -> (n_crystals, n_params), which the family's `from_head` reads."""
        return self.family.transform(self.layers(crystals), self.center, self.spread, self.prior_logit)

    def fit_statistics(self, labels: Tensor, target: str) -> None:
        """Median and mean absolute deviation of the labels that loc and scale describe, and the odds of the others.

        Args:
            labels: of the training fold, (n,), NaN where missing.
            target: name, for the message.

        Raises:
            TrainingError: no two of these labels differ.
        """
        known = labels[torch.isfinite(labels)].double()
        learnt = self.family.learnt(known)
        center = learnt.median() if len(learnt) else torch.tensor(torch.nan)
        spread = (learnt - center).abs().mean()
        if not spread > 0:
            message = (
                f"target {target!r} has nothing to learn from: {len(known)} labels in the training fold, "
                f"{len(learnt.unique())} distinct{self.family.LEARNT_LABELS}; "
                "give more rows, or remove it from `targets`"
            )
            raise TrainingError(message)
        n_others = len(known) - len(learnt)
        self.center.fill_(center)
        self.spread.fill_(spread)
        # one imaginary row on either side: odds stay finite where either kind is rare or absent
        self.prior_logit.fill_(torch.logit(torch.tensor((n_others + 1) / (len(known) + 2))))


class PropertyHead(nn.Module):
    """Parameters of one distribution per target, in physical units.

    Args:
        hidden_dim: length of the crystal vectors.
        targets: family, a key of `FAMILIES`, by target name.
    """

    def __init__(self, hidden_dim: int, targets: Mapping[str, str]) -> None:
        super().__init__()
        self.kinds = dict(targets)
        self.heads = nn.ModuleDict({target: TargetHead(hidden_dim, kind) for target, kind in targets.items()})

    def forward(self, crystals: Tensor) -> dict[str, Tensor]:
        """(n_crystals, hidden_dim) -> per target (n_crystals, n_params), see `TargetHead.forward`."""
        return {target: head(crystals) for target, head in self.heads.items()}

    def width(self, target: str) -> int:
        """Number of parameters of a target's distribution."""
        return FAMILIES[self.kinds[target]].N_PARAMETERS

    def fit_statistics(self, labels: Mapping[str, Tensor]) -> None:
        """Set every target's statistics from the training labels, (n,) each, NaN where missing.

        Raises:
            TrainingError: a target has no two different labels (for `hurdle`: above zero).
        """
        for target, head in self.heads.items():
            head.fit_statistics(labels[target], target)  # type: ignore[operator]


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
