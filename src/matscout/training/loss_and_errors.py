"""What a training minimises on the rows of a batch, and its loss and errors on the rows of a fold."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from matscout.models.families.registry import FAMILIES
from matscout.models.inference import InferencePlan, head_outputs
from matscout.models.model import CrystalModel
from matscout.params import Target
from matscout.training.dataset import MAX_EDGES, Fold

Objective = Callable[..., Tensor]  # (outputs, labels, noise), each by target, counts=... of parts


def multi_task_loss(
    outputs: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    noise: Mapping[str, Tensor],
    *,
    targets: Mapping[str, Target],
    units: Mapping[str, float],
    counts: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Weighted sum of the targets' losses, each a mean over its own labelled rows; see `Distribution.loss`.

    Assumes that the targets' errors are independent given the crystal.

    Args:
        outputs: by target, (n, n_parameters) of the head.
        labels: by target, (n,), NaN where missing.
        noise: by target, (n,), standard deviation of the label, NaN where unknown.
        targets: family and weight of each target.
        units: by target, spread of the training labels, which makes its loss dimensionless.
        counts: by target, labelled rows of the whole batch; None = of these rows.

    Returns:
        Scalar.
    """
    terms = [
        target.weight
        * FAMILIES[target.head].loss(
            outputs[name], labels[name], noise[name], unit=units[name], count=counts[name] if counts else None
        )
        for name, target in targets.items()
    ]
    return torch.stack(terms).sum()


def fold_outputs(model: CrystalModel, fold: Fold) -> dict[str, Tensor]:
    """By target, (n, n_params) on the CPU, in the fold's order."""
    plan = InferencePlan(max_edges=MAX_EDGES, workers=torch.get_num_threads(), device=str(fold.device))
    return head_outputs(model, fold.store, fold.rows, **fold.graph.model_dump(), plan=plan)


def fold_figures(model: CrystalModel, fold: Fold, objective: Objective) -> dict[str, float]:
    """Loss and errors of a model on a fold.

    Args:
        model: to be measured.
        fold: labelled rows.
        objective: (outputs, labels, noise), each by target -> scalar.

    Returns:
        `loss` over the whole fold, and `mae_<target>` of the median in the target's unit (NaN without labels).
    """
    outputs = fold_outputs(model, fold)
    errors = {f"mae_{target}": error for target, error in mean_absolute_errors(model, outputs, fold).items()}
    return {"loss": objective(outputs, fold.labels, fold.noise).item(), **errors}


def mean_absolute_errors(model: CrystalModel, outputs: Mapping[str, Tensor], fold: Fold) -> dict[str, float]:
    """Mean absolute error of the distributions' medians on the labelled rows.

    Args:
        model: whose head names the family of each target.
        outputs: by target, (n, n_parameters) of the head.
        fold: n labelled rows.

    Returns:
        By target, in its unit; NaN without labels.
    """
    errors = {}
    for target, kind in model.head.kinds.items():
        median = FAMILIES[kind].from_head(outputs[target].numpy()).median()
        residual = median - fold.labels[target].double().numpy()
        known = np.isfinite(residual)
        errors[target] = float(np.abs(residual[known]).mean()) if known.any() else math.nan
    return errors
