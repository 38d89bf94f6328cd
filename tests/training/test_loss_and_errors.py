"""The loss of several targets, and errors on a fold by the loop that predicts."""

import math

import pytest
import torch

from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.laplace import Laplace
from matscout.params import Target
from matscout.training.loss_and_errors import multi_task_loss

NAN = math.nan


def test_tasks_add_up_with_their_weights():
    targets = {
        "a": Target(label="a", noise=None, head="laplace", weight=1.0),
        "b": Target(label="b", noise=None, head="hurdle", weight=3.0),
    }
    outputs = {"a": torch.rand(4, 2) + 0.1, "b": torch.rand(4, 3) + 0.1}
    labels = {"a": torch.rand(4), "b": torch.tensor([0.0, 1.0, NAN, 2.0])}
    noise = {name: torch.full((4,), NAN) for name in targets}
    units = {"a": 0.5, "b": 2.0}
    total = multi_task_loss(outputs, labels, noise, targets=targets, units=units)
    parts = [
        Laplace.loss(outputs["a"], labels["a"], noise["a"], unit=0.5),
        3 * HurdleLaplace.loss(outputs["b"], labels["b"], noise["b"], unit=2.0),
    ]
    assert total.item() == pytest.approx(sum(part.item() for part in parts))
