"""Losses against closed forms, quadrature and finite differences of their definitions."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from matscout.models.families.hurdle import HurdleLaplace, log_survival
from matscout.models.families.laplace import SCALE_WEIGHT, Laplace, laplace_nll, with_label_noise
from matscout.models.families.log_laplace import LogLaplace
from matscout.models.families.registry import FAMILIES

NAN = math.nan


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_laplace_nll_is_minus_scipys_log_density():
    label, location, scale = tensor(0.3, -2.0, 5.0), tensor(0.1, 1.0, 5.0), tensor(0.5, 2.0, 0.1)
    expected = -stats.laplace.logpdf(label.numpy(), location.numpy(), scale.numpy())
    np.testing.assert_allclose(laplace_nll(location, scale, label).numpy(), expected)


def test_laplace_loss_is_l1_plus_weighted_likelihood():
    parameters = tensor([1.0, 0.5], [2.0, 0.25])
    label = tensor(1.5, 1.0)
    unit = 2.0
    l1 = np.abs([0.5, 1.0]) / unit
    nll = -stats.laplace.logpdf([1.5, 1.0], [1.0, 2.0], [0.5, 0.25]) - math.log(unit)
    loss = Laplace.loss(parameters, label, tensor(NAN, NAN), unit=unit)
    assert loss.item() == pytest.approx(np.mean(l1 + SCALE_WEIGHT * nll))


def test_loss_does_not_depend_on_the_unit_of_energy():
    parameters, label, noise = torch.rand(8, 2) + 0.5, torch.rand(8), torch.rand(8) * 0.1
    in_ev = Laplace.loss(parameters, label, noise, unit=0.7)
    in_mev = Laplace.loss(1000 * parameters, 1000 * label, 1000 * noise, unit=700.0)
    assert in_ev.item() == pytest.approx(in_mev.item(), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES.values())
def test_missing_labels_change_neither_loss_nor_gradient(family):
    torch.manual_seed(0)
    parameters = (torch.rand(6, family.N_PARAMETERS, dtype=torch.float64) + 0.1).requires_grad_()
    label = tensor(0.0 if family is HurdleLaplace else 0.2, 1.0, 2.0, 0.5, 0.7, 3.0)
    label[[1, 4]] = NAN
    noise = torch.full((6,), 0.1, dtype=torch.float64)
    noise[1] = NAN
    kept = [0, 2, 3, 5]
    everything = family.loss(parameters, label, noise, unit=1.0)
    assert everything.item() == pytest.approx(family.loss(parameters[kept], label[kept], noise[kept], unit=1.0).item())
    everything.backward()
    assert torch.all(parameters.grad[[1, 4]] == 0)
    assert torch.all(torch.isfinite(parameters.grad))


@pytest.mark.parametrize("family", FAMILIES.values())
def test_a_batch_without_labels_costs_nothing(family):
    parameters = torch.rand(3, family.N_PARAMETERS).add(0.1).requires_grad_()
    value = family.loss(parameters, torch.full((3,), NAN), torch.full((3,), NAN), unit=1.0)
    value.backward()
    assert value.item() == 0
    assert torch.all(parameters.grad == 0)


def test_location_feels_l1_only_and_scale_likelihood_only():
    parameters = tensor([1.0, 0.5]).requires_grad_()
    Laplace.loss(parameters, tensor(3.0), tensor(NAN), unit=4.0).backward()
    location_gradient, scale_gradient = parameters.grad[0].tolist()
    assert location_gradient == pytest.approx(-1 / 4)
    assert scale_gradient == pytest.approx(SCALE_WEIGHT * (1 / 0.5 - 2.0 / 0.5**2))


def test_best_scale_is_the_mean_absolute_residual():
    residuals = torch.from_numpy(np.random.default_rng(0).laplace(0, 0.7, 400))
    scales = torch.linspace(0.3, 1.5, 1201, dtype=torch.float64)
    values = [
        Laplace.loss(torch.stack([torch.zeros(400), s.expand(400)], 1).double(), residuals, residuals * NAN, unit=1.0)
        for s in scales
    ]
    best = scales[int(torch.stack(values).argmin())].item()
    assert best == pytest.approx(residuals.abs().mean().item(), abs=2e-3)


def test_noisy_labels_pull_less_and_explain_part_of_the_scale():
    parameters = tensor([0.0, 0.5], [0.0, 0.5]).requires_grad_()
    Laplace.loss(parameters, tensor(1.0, 1.0), tensor(NAN, 2.0), unit=1.0).backward()
    sure, noisy = parameters.grad
    assert noisy[0] / sure[0] == pytest.approx(0.5 / math.sqrt(0.5**2 + 2.0**2 / 2))
    total = with_label_noise(tensor(0.5), tensor(2.0))
    assert 2 * total.item() ** 2 == pytest.approx(2 * 0.5**2 + 2.0**2)


@pytest.mark.parametrize("location", [-1.0, 0.0, 0.05, 1.5])
def test_hurdle_density_integrates_to_one(location):
    scale = 0.4

    def density(y):
        mode = tensor(max(location, 0.0))
        nll = laplace_nll(mode, tensor(scale), tensor(y)) + log_survival(mode, tensor(scale))
        return math.exp(-nll.item())

    mass, _ = integrate.quad(density, 0, 30, points=[max(location, 0.0) + 1e-9], limit=200)
    assert mass == pytest.approx(1, abs=1e-6)


def test_hurdle_likelihood_is_that_of_the_distribution_that_predictions_use():
    logit, location, scale, y, step = -0.4, 0.3, 0.5, 0.8, 1e-5
    distribution = HurdleLaplace.from_head([[logit, location, scale]])
    density = float(distribution.cdf(y + step)[0] - distribution.cdf(y - step)[0]) / (2 * step)
    parameters = tensor([logit, location, scale])
    hurdle_and_value = HurdleLaplace.loss(parameters, tensor(y), tensor(NAN), unit=1.0).item()
    positive = laplace_nll(*tensor(location, scale, y)) + log_survival(*tensor(location, scale))
    bernoulli = hurdle_and_value - abs(y - location) - SCALE_WEIGHT * positive.item()
    assert bernoulli + positive.item() == pytest.approx(-math.log(density), rel=1e-5)


def test_hurdle_zero_rows_move_the_logit_only():
    parameters = tensor([0.2, 1.0, 0.5]).requires_grad_()
    loss = HurdleLaplace.loss(parameters, tensor(0.0), tensor(NAN), unit=1.0)
    assert loss.item() == pytest.approx(-math.log(1 / (1 + math.exp(-0.2))))
    loss.backward()
    assert parameters.grad[0, 0] < 0
    assert torch.all(parameters.grad[0, 1:] == 0)


def test_hurdle_stays_finite_at_extreme_outputs():
    parameters = tensor([80.0, -50.0, 1e-3], [-80.0, 50.0, 1e-3], [80.0, 1e-6, 1e3]).requires_grad_()
    HurdleLaplace.loss(parameters, tensor(2.0, 0.0, 0.1), tensor(NAN, 0.0, 1.0), unit=1.0).backward()
    assert torch.all(torch.isfinite(parameters.grad))


def test_log_laplace_loss_is_the_likelihood_of_the_distribution_that_predictions_use():
    location, scale, y, step = 3.0, 0.4, 35.0, 1e-4
    distribution = LogLaplace.from_head([[location, scale]])
    density = float(distribution.cdf(y + step)[0] - distribution.cdf(y - step)[0]) / (2 * step)
    loss = LogLaplace.loss(tensor([location, scale]), tensor(y), tensor(NAN), unit=1.0).item()
    nll_of_the_logarithm = -math.log(density * y)  # d log(y) = dy / y
    assert loss == pytest.approx(abs(math.log(y) - location) + SCALE_WEIGHT * nll_of_the_logarithm, rel=1e-6)


def test_log_laplace_loss_knows_factors_only():
    labels, noise = torch.rand(8, dtype=torch.float64) * 100 + 1, torch.rand(8, dtype=torch.float64)
    parameters = torch.stack([labels.log() + 0.1, torch.full((8,), 0.3, dtype=torch.float64)], dim=1)
    in_gpa = LogLaplace.loss(parameters, labels, noise, unit=0.7)
    moved = parameters + tensor(math.log(1000.0), 0.0)
    in_mpa = LogLaplace.loss(moved, 1000 * labels, 1000 * noise, unit=0.7)
    assert in_gpa.item() == pytest.approx(in_mpa.item(), rel=1e-9)


def test_noise_of_a_logarithm_is_relative():
    """The spread of log(y) for y with a small error, by drawing."""
    rng = np.random.default_rng(0)
    drawn = np.log(rng.normal(50.0, 1.5, 200_000)).std()
    parameters = tensor([math.log(50.0), 0.2])
    total = with_label_noise(tensor(0.2), torch.as_tensor([drawn]))
    spread = laplace_nll(tensor(math.log(50.0)), total, tensor(math.log(50.0)))
    value = LogLaplace.loss(parameters, tensor(50.0), tensor(1.5), unit=1.0)
    assert value.item() == pytest.approx(SCALE_WEIGHT * spread.item(), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES.values())
def test_losses_of_parts_add_up_to_the_batch_s_whatever_is_missing(family):
    torch.manual_seed(1)
    parameters = (torch.rand(9, family.N_PARAMETERS, dtype=torch.float64) + 0.1).requires_grad_()
    label, noise = torch.rand(9, dtype=torch.float64) + 0.1, torch.full((9,), 0.1, dtype=torch.float64)
    label[[0, 1, 2, 7]] = NAN  # the first part has no label at all
    whole = family.loss(parameters, label, noise, unit=0.7)
    gradient = torch.autograd.grad(whole, parameters)[0]
    count = (~label.isnan()).sum()
    cuts = [slice(0, 3), slice(3, 4), slice(4, 9)]
    parts = [family.loss(parameters[cut], label[cut], noise[cut], unit=0.7, count=count) for cut in cuts]
    total = torch.stack(parts).sum()
    assert total.item() == pytest.approx(whole.item(), rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(total, parameters)[0], gradient)
