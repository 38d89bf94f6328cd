"""One head for every architecture: crystal vectors to distributions in physical units."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from matscout.errors import TrainingError
from matscout.models.layers.mlp import MLP

N_PARAMETERS = {"laplace": 2, "hurdle": 3, "log_laplace": 2}
SMALLEST_SCALE = 1e-3  # of the target's spread: keeps the likelihood finite when a label is met exactly


class TargetHead(nn.Module):
    """One target's layer, with the target's statistics as buffers so that no scaler travels beside the model.

    With r the output of a two-layer perceptron: loc = center + spread r_loc, scale = spread softplus(r_scale);
    for `hurdle`, the logit of a value of exactly zero is its log-odds in the training labels plus r_logit. For
    `log_laplace`, center and spread are of the labels' logarithms, and so are loc and scale.

    Args:
        hidden_dim: length of the crystal vectors.
        kind: `laplace`, `hurdle` or `log_laplace`.
    """

    center: Tensor
    spread: Tensor
    prior_logit: Tensor

    def __init__(self, hidden_dim: int, kind: str) -> None:
        super().__init__()
        if kind not in N_PARAMETERS:
            message = f"head {kind!r} is unknown; choose one of {sorted(N_PARAMETERS)}"
            raise ValueError(message)
        self.kind = kind
        self.layers = MLP(hidden_dim, hidden_dim, N_PARAMETERS[kind])
        self.register_buffer("center", torch.tensor(0.0))
        self.register_buffer("spread", torch.tensor(1.0))
        self.register_buffer("prior_logit", torch.tensor(0.0))

    def forward(self, crystals: Tensor) -> Tensor:
        """(n_crystals, hidden_dim) -> (n_crystals, 2): loc, scale; or (n_crystals, 3): logit of zero, loc, scale."""
        raw = self.layers(crystals)
        loc = self.center + self.spread * raw[:, -2]
        scale = self.spread * (softplus(raw[:, -1]) + SMALLEST_SCALE)
        if self.kind != "hurdle":
            return torch.stack([loc, scale], dim=1)
        return torch.stack([self.prior_logit + raw[:, 0], loc, scale], dim=1)

    def fit_statistics(self, labels: Tensor, target: str) -> None:
        """Median, mean absolute deviation and odds of zero of the training labels, (n,), NaN where missing."""
        known = labels[torch.isfinite(labels)].double()
        valued = known[known != 0] if self.kind == "hurdle" else known
        if self.kind == "log_laplace":
            valued = valued.log()
        center = valued.median() if len(valued) else torch.tensor(torch.nan)
        spread = (valued - center).abs().mean()
        if not spread > 0:
            message = (
                f"target {target!r} has nothing to learn from: {len(known)} labels in the training fold, "
                f"{len(valued.unique())} distinct{' ones above zero' if self.kind == 'hurdle' else ''}; "
                "give more rows, or remove it from `targets`"
            )
            raise TrainingError(message)
        n_zero = len(known) - len(valued)
        self.center.fill_(center)
        self.spread.fill_(spread)
        # one imaginary row on either side: odds stay finite without zeros or with few values
        self.prior_logit.fill_(torch.logit(torch.tensor((n_zero + 1) / (len(known) + 2))))


class PropertyHead(nn.Module):
    """Parameters of one distribution per target, in physical units.

    Args:
        hidden_dim: length of the crystal vectors.
        targets: kind of distribution (`laplace`, `hurdle`, `log_laplace`) by target name.
    """

    def __init__(self, hidden_dim: int, targets: Mapping[str, str]) -> None:
        super().__init__()
        self.kinds = dict(targets)
        self.heads = nn.ModuleDict({target: TargetHead(hidden_dim, kind) for target, kind in targets.items()})

    def forward(self, crystals: Tensor) -> dict[str, Tensor]:
        """(n_crystals, hidden_dim) -> per target (n_crystals, n_params), see `TargetHead.forward`."""
        return {target: head(crystals) for target, head in self.heads.items()}

    def fit_statistics(self, labels: Mapping[str, Tensor]) -> None:
        """Set every target's statistics from the training labels, (n,) each, NaN where missing.

        Raises:
            TrainingError: a target has no two different labels (for `hurdle`: above zero).
        """
        for target, head in self.heads.items():
            head.fit_statistics(labels[target], target)  # type: ignore[operator]
