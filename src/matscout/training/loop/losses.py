"""Losses: short pure functions of a head's distribution parameters, masked where a label is missing.

Every loss is dimensionless: `unit` is the spread of the training labels, so that targets of different
units weigh alike. NaN labels take no part; NaN noise means that none is known and counts as zero. A loss is
a mean over labelled rows; with `count`, the rows' sum over that number, so that the losses of a batch's parts
add up to the batch's.

The location and the scale of a distribution are fitted by separate terms. The joint likelihood divides
the location's gradient by the predicted scale, so rows that the network finds hard are learnt last or
never (Seitzer et al., "On the pitfalls of heteroscedastic uncertainty estimation", ICLR 2022); an L1
term for the location and a likelihood for the scale alone, around the detached location, give the
errors of plain L1 training *and* scales that follow the residuals.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from matscout.params import Target

SCALE_WEIGHT = 0.2  # of the scale's likelihood beside the location's L1: enough for the scales, too little to steer


def laplace_loss(
    parameters: Tensor, label: Tensor, noise: Tensor, *, unit: float, count: Tensor | None = None
) -> Tensor:
    """Mean L1 of the location plus the Laplace likelihood of the scale.

    Assumes label = location + e, where e is Laplace with the predicted scale plus independent label
    noise of known standard deviation.

    Args:
        parameters: (n, 2), location and scale in the label's unit.
        label: (n,), NaN where missing.
        noise: (n,), standard deviation of the label, NaN where unknown.
        unit: spread of the training labels, in their unit.
        count: labelled rows of the whole batch; null = of these rows.

    Returns:
        Scalar; zero if no row is labelled.
    """
    location, scale = parameters.unbind(dim=-1)
    known = ~torch.isnan(label)
    target = torch.where(known, label, location.detach())
    total = with_label_noise(scale, noise)
    trust = (scale / total).detach()
    fit = trust * (location - target).abs() / unit
    spread = laplace_nll(location.detach(), total, target, unit=unit)
    return _masked_mean(fit + SCALE_WEIGHT * spread, known, count)


def log_laplace_loss(
    parameters: Tensor, label: Tensor, noise: Tensor, *, unit: float, count: Tensor | None = None
) -> Tensor:
    """`laplace_loss` of the label's logarithm.

    Assumes label = exp(location + e), e Laplace: errors are factors. The label's own noise is a factor too: its
    standard deviation in the logarithm is noise / label, to first order.

    Args:
        parameters: (n, 2), location and scale of the logarithm.
        label: (n,), above zero, NaN where missing.
        noise: (n,), standard deviation of the label in its unit, NaN where unknown.
        unit: spread of the training labels' logarithms.
        count: labelled rows of the whole batch; null = of these rows.
    """
    return laplace_loss(parameters, label.log(), noise / label, unit=unit, count=count)


def hurdle_loss(
    parameters: Tensor, label: Tensor, noise: Tensor, *, unit: float, count: Tensor | None = None
) -> Tensor:
    """Cross-entropy of "exactly zero" plus, on the rows above zero, L1 and the likelihood of the scale.

    Assumes that a label is zero with the predicted probability, and otherwise follows a Laplace
    distribution around max(location, 0), cut at zero; the two parts of the likelihood separate (Cragg,
    Econometrica 39, 829 (1971)).

    Args:
        parameters: (n, 3), logit of the probability of zero, location and scale in the label's unit.
        label: (n,), NaN where missing.
        noise: (n,), standard deviation of the label, NaN where unknown.
        unit: spread of the training labels above zero, in their unit.
        count: labelled rows of the whole batch; null = of these rows.

    Returns:
        Scalar; zero if no row is labelled.
    """
    zero_logit, location, scale = parameters.unbind(dim=-1)
    known = ~torch.isnan(label)
    hurdle = binary_cross_entropy_with_logits(zero_logit, (label <= 0).to(zero_logit.dtype), reduction="none")
    positive = known & (label > 0)
    target = torch.where(positive, label, location.detach())
    total = with_label_noise(scale, noise)
    trust = (scale / total).detach()
    fit = trust * (location - target).abs() / unit
    mode = location.detach().clamp(min=0)
    spread = laplace_nll(mode, total, target, unit=unit) + log_survival(mode, total)
    value = torch.where(positive, fit + SCALE_WEIGHT * spread, 0.0)
    return _masked_mean(hurdle + value, known, count)


def laplace_nll(location: Tensor, scale: Tensor, label: Tensor, *, unit: float = 1.0) -> Tensor:
    """Negative log-density of a Laplace distribution, of labels measured in `unit`. Shapes (n,)."""
    return (label - location).abs() / scale + torch.log(2 * scale / unit)


def log_survival(mode: Tensor, scale: Tensor) -> Tensor:
    """Log of the probability that a Laplace variable exceeds zero: log(1 - exp(-mode / scale) / 2).

    Shapes (n,); mode at least zero.
    """
    return torch.log1p(-0.5 * torch.exp(-mode / scale))


def with_label_noise(scale: Tensor, noise: Tensor) -> Tensor:
    """Scale of the Laplace distribution whose variance is the predicted one plus the label's.

    A Laplace variable of scale b has variance 2 b², hence b_total² = b² + noise² / 2. Shapes (n,).
    """
    return torch.sqrt(scale**2 + torch.nan_to_num(noise) ** 2 / 2)


def _masked_mean(value: Tensor, mask: Tensor, count: Tensor | None) -> Tensor:
    return torch.where(mask, value, 0.0).sum() / (mask.sum() if count is None else count).clamp(min=1)


LOSSES = {"laplace": laplace_loss, "hurdle": hurdle_loss, "log_laplace": log_laplace_loss}


def multi_task_loss(
    outputs: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    noise: Mapping[str, Tensor],
    *,
    targets: Mapping[str, Target],
    units: Mapping[str, float],
    counts: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Weighted sum of the targets' losses, each a mean over its own labelled rows.

    Assumes that the targets' errors are independent given the crystal. Arguments are by target.
    """
    terms = [
        target.weight
        * LOSSES[target.head](
            outputs[name], labels[name], noise[name], unit=units[name], count=counts[name] if counts else None
        )
        for name, target in targets.items()
    ]
    return torch.stack(terms).sum()
