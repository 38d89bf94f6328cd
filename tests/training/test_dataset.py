"""Which rows an epoch sees: all known ones, and of the hypothetical ones a draw that misses none in the long run.

The loss of several targets, and errors on a fold by the loop that predicts.
"""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.laplace import Laplace
from matscout.params import Target
from matscout.training.dataset import Fold, multi_task_loss


def fold(n_known, n_others, per_epoch):
    is_known = np.random.default_rng(0).permutation([True] * n_known + [False] * n_others)
    nothing = {"labels": {}, "noise": {}, "store": None, "graph": None, "device": None}
    n = n_known + n_others
    return Fold(np.array(["x"] * n, object), rows=np.arange(n), is_known=is_known, per_epoch=per_epoch, **nothing)


@pytest.mark.parametrize("per_epoch", [1, 7, 30, 31])
def test_every_epoch_sees_the_known_rows_and_its_share_of_the_others(per_epoch):
    rows = fold(20, 30, per_epoch)
    for epoch in range(5):
        seen = rows.rows_of_epoch(seed=1, epoch=epoch)
        assert rows.is_known[seen].sum() == 20
        assert len(seen) == rows.rows_per_epoch == 20 + min(per_epoch, 30)


@pytest.mark.parametrize("per_epoch", [5, 10, 15, 30])
def test_others_come_equally_often(per_epoch):
    rows = fold(2, 30, per_epoch)
    epochs = 2 * 30 // per_epoch
    counts = Counter(np.concatenate([rows.rows_of_epoch(seed=1, epoch=epoch) for epoch in range(epochs)]).tolist())
    assert {counts[row] for row in np.flatnonzero(~rows.is_known)} == {2}


def test_an_epoch_depends_on_seed_and_number_alone():
    rows = fold(2, 30, 7)
    np.testing.assert_array_equal(rows.rows_of_epoch(seed=1, epoch=3), rows.rows_of_epoch(seed=1, epoch=3))
    assert set(rows.rows_of_epoch(seed=1, epoch=3)) != set(rows.rows_of_epoch(seed=2, epoch=3))


def test_without_others_an_epoch_is_the_known_rows():
    assert fold(4, 0, 100).rows_of_epoch(seed=1, epoch=0).tolist() == [0, 1, 2, 3]
    assert fold(4, 9, 0).rows_per_epoch == 4


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
