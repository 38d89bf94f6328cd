"""Loss and errors of a model on the rows of a fold."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from matscout.models.families.distributions import DISTRIBUTIONS
from matscout.models.model import CrystalModel
from matscout.training.labelled_rows import Fold

Objective = Callable[..., Tensor]  # (outputs, labels, noise), each by target, counts=... of parts


@torch.no_grad()
def fold_outputs(model: CrystalModel, fold: Fold) -> dict[str, Tensor]:
    """By target, (n, n_params) on the CPU, in the fold's order."""
    positions, outputs = [], []
    for where, batch in fold.ordered_batches():
        positions.append(where)
        outputs.append({target: values.float().cpu() for target, values in model(batch.inputs).items()})
    order = torch.from_numpy(np.argsort(np.concatenate(positions)))
    return {target: torch.cat([output[target] for output in outputs])[order] for target in outputs[0]}


def fold_figures(model: CrystalModel, fold: Fold, objective: Objective) -> dict[str, float]:
    """`loss` over the whole fold, and `mae_<target>` of the median in the target's unit (NaN without labels)."""
    outputs = fold_outputs(model, fold)
    errors = {f"mae_{target}": error for target, error in mean_absolute_errors(model, outputs, fold).items()}
    return {"loss": objective(outputs, fold.labels, fold.noise).item(), **errors}


def mean_absolute_errors(model: CrystalModel, outputs: Mapping[str, Tensor], fold: Fold) -> dict[str, float]:
    """By target, the mean absolute error of the distributions' medians on the labelled rows."""
    errors = {}
    for target, kind in model.head.kinds.items():
        median = DISTRIBUTIONS[kind].from_head(outputs[target].numpy()).median()
        residual = median - fold.labels[target].double().numpy()
        known = np.isfinite(residual)
        errors[target] = float(np.abs(residual[known]).mean()) if known.any() else math.nan
    return errors
