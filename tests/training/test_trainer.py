"""The loop, its schedule and its weight average on models small enough to follow by hand."""

import logging
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from matscout.errors import InputError, TrainingError
from matscout.training.trainer import Optimisation, Trainer, WeightAverage, cosine, one_cycle


@dataclass
class Rows:
    inputs: torch.Tensor
    labels: torch.Tensor
    material_ids: list[str] = field(default_factory=list)
    count: int | None = None

    @property
    def n_rows(self):
        return len(self.labels)

    def part(self, start, stop):
        rows = slice(start, stop)
        return Rows(self.inputs[rows], self.labels[rows], self.material_ids[rows], self.count or self.n_rows)


def recipe(**changes):
    values = {"epochs": 4, "lr": 0.01, "weight_decay": 0.0, "grad_clip": 1.0, "averaging": 0.9, "warmup": 0.25}
    return Optimisation(**{**values, **changes})


def l1(outputs, batch):
    return (outputs.squeeze(-1) - batch.labels).abs().sum() / (batch.count or batch.n_rows)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Dropout(0.1), nn.Linear(16, 1))


def rows(n=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator)
    return Rows(x, x @ torch.tensor([1.0, -2.0, 0.5]), [f"row-{i}" for i in range(n)])


def batches_of(data, size=8):
    def batches(epoch):
        order = np.random.default_rng(epoch).permutation(data.n_rows)
        for start in range(0, data.n_rows, size):
            chosen = order[start : start + size]
            yield Rows(data.inputs[chosen], data.labels[chosen], [data.material_ids[i] for i in chosen])

    return batches


def fit(trainer, data, callbacks=()):
    trainer.fit(batches_of(data), lambda model: {"mae": l1(model(data.inputs), data).item()}, callbacks)
    return trainer


def test_learning_rate_rises_to_its_peak_and_falls_to_nothing():
    rates = [one_cycle(step, total=100, peak=0.3, warmup=0.2) for step in range(100)]
    assert rates[0] == pytest.approx(0.3 / 25)
    assert int(np.argmax(rates)) == 20
    assert rates[20] == pytest.approx(0.3)
    assert rates[-1] == pytest.approx(0.3 / 1e4)
    assert np.all(np.diff(rates[:21]) > 0)
    assert np.all(np.diff(rates[20:]) < 0)


def test_learning_rate_agrees_with_torchs_schedule():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    total = 50
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.2, total_steps=total, pct_start=0.3, final_div_factor=1e4 / 25, cycle_momentum=False
    )
    theirs = []
    for _ in range(total):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    # torch's peak lies at step 0.3 * total - 1, ours at 0.3 * total
    ours = [one_cycle(step, total=total, peak=0.2, warmup=0.28) for step in range(total)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_cosine_rises_straight_and_falls_along_half_a_cosine():
    rates = [cosine(step, total=100, peak=0.3, warmup=0.2) for step in range(100)]
    np.testing.assert_allclose(np.diff(rates[:21]), 0.3 / 21)
    assert rates[20] == pytest.approx(0.3)
    assert rates[60] == pytest.approx(0.15)  # half way between step 20 and step 100
    expected = [0.15 * (1 + math.cos(math.pi * (step - 20) / 80)) for step in range(20, 100)]
    np.testing.assert_allclose(rates[20:], expected)


@pytest.mark.parametrize("schedule", [one_cycle, cosine])
@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_schedule_without_rise_or_fall(schedule, warmup):
    rates = [schedule(step, total=10, peak=1.0, warmup=warmup) for step in range(10)]
    assert all(0 < rate <= 1 for rate in rates)


def test_average_is_the_weighted_sum_of_past_weights():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, decay=0.5)
    expected = model.weight.item()
    for n in range(20):
        with torch.no_grad():
            model.weight.fill_(float(n * n))
        average.update(model)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n * n
    assert average.model.weight.item() == pytest.approx(expected, rel=1e-5)


def test_average_off_is_the_model_itself_and_buffers_follow():
    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, decay=0.0)
    model(torch.randn(5, 2))
    average.update(model)
    for name, value in model.state_dict().items():
        assert torch.equal(average.model.state_dict()[name], value)


def test_a_small_network_learns_a_linear_rule_by_heart():
    trainer = Trainer(network(), l1, recipe(epochs=120, lr=0.02, averaging=0.9), steps_per_epoch=4)
    fit(trainer, rows())
    first, last = trainer.history[0], trainer.history[-1]
    assert first.validation["mae"] > 1
    assert last.validation["mae"] < 0.15
    assert last.lr < first.lr


def test_validation_sees_the_averaged_weights_in_evaluation_mode():
    seen = []
    trainer = Trainer(network(), l1, recipe(), steps_per_epoch=4)
    trainer.fit(batches_of(rows()), lambda model: seen.append((model is trainer.averaged, model.training)) or {})
    assert seen == [(True, False)] * 4


def test_training_twice_gives_the_same_bytes():
    states = []
    for _ in range(2):
        trainer = Trainer(network(), l1, recipe(), steps_per_epoch=4)
        fit(trainer, rows())
        states.append(trainer.averaged.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_resumed_run_ends_in_the_bytes_of_an_uninterrupted_one(stop_after):
    whole = fit(Trainer(network(), l1, recipe(), steps_per_epoch=4), rows())

    class StoppedError(Exception):
        pass

    saved = {}

    def stop(trainer):
        if len(trainer.history) == stop_after:
            saved.update(trainer.state_dict())
            saved["model"] = {k: v.clone() for k, v in saved["model"].items()}
            raise StoppedError

    with pytest.raises(StoppedError):
        fit(Trainer(network(), l1, recipe(), steps_per_epoch=4), rows(), [stop])
    torch.manual_seed(99)
    resumed = Trainer(network(seed=5), l1, recipe(), steps_per_epoch=4)
    resumed.load_state_dict(saved)
    fit(resumed, rows())
    for name, value in whole.averaged.state_dict().items():
        assert torch.equal(value, resumed.averaged.state_dict()[name])
    assert [r.train_loss for r in resumed.history] == [r.train_loss for r in whole.history]
    assert [r.validation for r in resumed.history] == [r.validation for r in whole.history]


def test_the_reported_training_loss_is_the_mean_over_rows_not_over_batches():
    data = rows(10)
    model = nn.Linear(3, 1)
    trainer = Trainer(model, l1, recipe(epochs=1, lr=1e-12, weight_decay=0.0), steps_per_epoch=2)
    expected = l1(model(data.inputs), data).item()
    trainer.fit(batches_of(data), lambda _: {})
    assert trainer.history[0].train_loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("bad", "word"), [(float("nan"), "nan"), (float("inf"), "inf"), (1e9, "1e\\+09")])
def test_a_loss_beyond_reason_stops_and_names_the_batch(bad, word):
    data = rows()
    data.labels[17] = bad
    before = network()
    trainer = Trainer(before, l1, recipe(), steps_per_epoch=1, name="train tiny")

    def batches(_):
        yield Rows(data.inputs[16:19], data.labels[16:19], data.material_ids[16:19])

    with pytest.raises(TrainingError, match=r"row-16, row-17, row-18") as caught:
        trainer.fit(batches, lambda _: {})
    if np.isfinite(bad):
        assert "= " in str(caught.value)
    assert "train tiny: loss" in str(caught.value)
    assert "model.lr" in str(caught.value)
    assert trainer.history == []


def test_a_gradient_that_is_not_finite_stops_too():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return torch.sqrt(self.weight.square()) + 0 * x[:, :1]

    trainer = Trainer(Root(), l1, recipe(), steps_per_epoch=4)
    with pytest.raises(TrainingError, match=r"gradient norm = nan.*and 3 more"):
        fit(trainer, rows())


def train_on(losses, **changes):
    """A training whose validation losses are given; the averaged weights after each epoch."""
    seen, told = [], iter(losses)
    trainer = Trainer(network(), l1, recipe(epochs=len(losses), **changes), steps_per_epoch=4)

    def validate(model):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"loss": next(told)}

    trainer.fit(batches_of(rows()), validate)
    return trainer, seen


@pytest.mark.parametrize(
    ("losses", "patience", "epochs", "best"),
    [
        ([5.0, 3.0, 4.0, 3.5, 1.0, 0.5], 2, 4, 2),  # stops before the later, better epochs
        ([5.0, 4.0, 3.0, 2.0], 1, 4, 4),
        ([1.0, 2.0, 2.0, 2.0, 2.0], 3, 4, 1),
        ([3.0, 1.0, 2.0], 9, 3, 2),  # patience never ends, the best still counts
        ([2.0, 2.0, 2.0], 2, 3, 1),  # as good is not better
    ],
)
def test_early_stopping_returns_to_the_best_epoch(losses, patience, epochs, best):
    trainer, seen = train_on(losses, early_stopping=patience)
    assert len(trainer.history) == epochs
    assert all(torch.equal(value, seen[best - 1][name]) for name, value in trainer.averaged.state_dict().items())


def test_without_early_stopping_the_last_epoch_is_the_result():
    trainer, seen = train_on([1.0, 9.0, 9.0, 9.0])
    assert all(torch.equal(value, seen[-1][name]) for name, value in trainer.averaged.state_dict().items())


class Narrow(nn.Module):
    """Fits `most` rows into its memory; counts what it was asked for."""

    def __init__(self, most, where="forward"):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Linear(16, 1))
        self.most, self.where, self.asked = most, where, []

    def forward(self, x):
        hidden = self.layers[:2](x)
        if self.training:
            self.asked.append(len(x))
            if len(x) > self.most and self.where == "forward":
                raise torch.OutOfMemoryError
            if len(x) > self.most:
                hidden.register_hook(_run_out)  # the last layer's gradients are there already when this is called
        return self.layers[2](hidden)


def _run_out(*_):
    raise torch.OutOfMemoryError


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("most", [1, 3, 4, 7])
def test_short_of_memory_the_step_is_the_same_in_parts(most, where, caplog):
    whole = fit(Trainer(Narrow(8), l1, recipe(), steps_per_epoch=4), rows())
    with caplog.at_level(logging.WARNING):
        narrow = fit(Trainer(Narrow(most, where), l1, recipe(), steps_per_epoch=4, name="train tiny"), rows())
    for name, value in whole.averaged.state_dict().items():
        torch.testing.assert_close(narrow.averaged.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    losses = [[record.train_loss for record in trainer.history] for trainer in (whole, narrow)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert "train tiny: 8 crystals at once need more memory" in caplog.text
    too_many = [n for n in narrow.model.asked if n > most]
    assert too_many == sorted(set(too_many), reverse=True)  # each size is tried once, not once a step
    assert narrow.most_rows <= most


def test_what_fits_into_memory_is_remembered_over_a_resume():
    trainer = fit(Trainer(Narrow(3), l1, recipe(epochs=2), steps_per_epoch=4), rows())
    resumed = Trainer(Narrow(3), l1, recipe(epochs=4), steps_per_epoch=4)
    resumed.load_state_dict(trainer.state_dict())
    fit(resumed, rows())
    assert max(resumed.model.asked[:8]) <= 3


def test_a_crystal_that_alone_needs_too_much_memory_is_named():
    class OneTooLarge(Narrow):
        def forward(self, x):
            if self.training and (x == rows().inputs[17]).all(dim=1).any():
                raise torch.OutOfMemoryError("tried to allocate 99 GiB")
            return super().forward(x)

    trainer = Trainer(OneTooLarge(8), l1, recipe(), steps_per_epoch=4, name="train tiny")
    with pytest.raises(InputError, match=r"train tiny: row-17 alone needs more memory .*99 GiB.*max_atoms"):
        fit(trainer, rows())


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_early_stopping_goes_on_exactly_after_a_resume(stop_after):
    losses = [3.0, 2.0, 4.0, 5.0, 0.1]
    whole, _ = train_on(losses, early_stopping=2)
    saved = []

    def save(trainer):
        state = trainer.state_dict()
        saved.append({**state, "model": {k: v.clone() for k, v in state["model"].items()}})
        if len(saved) == stop_after:
            raise KeyboardInterrupt

    told = iter(losses)
    interrupted = Trainer(network(), l1, recipe(epochs=5, early_stopping=2), steps_per_epoch=4)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(batches_of(rows()), lambda _: {"loss": next(told)}, [save])
    resumed = Trainer(network(seed=5), l1, recipe(epochs=5, early_stopping=2), steps_per_epoch=4)
    resumed.load_state_dict(saved[-1])
    resumed.fit(batches_of(rows()), lambda _: {"loss": next(told)})
    assert len(resumed.history) == len(whole.history) == 4
    for name, value in whole.averaged.state_dict().items():
        assert torch.equal(value, resumed.averaged.state_dict()[name])


class OneOfTwo:
    """One of two threads that share a training, each with its own copy of the model."""

    def __init__(self, rank, meeting, box):
        self.rank, self.meeting, self.box = rank, meeting, box

    @property
    def is_first(self):
        return self.rank == 0

    def _swap(self, value):
        """What both put in."""
        self.box[self.rank] = value
        self.meeting.wait(60)
        both = list(self.box)
        self.meeting.wait(60)
        return both

    def from_first(self, make):
        return self._swap(make() if self.is_first else None)[0]

    def share_of(self, batch):
        half = batch.n_rows // 2
        start, stop = (0, half) if self.is_first else (half, batch.n_rows)
        return batch.part(start, stop) if start < stop else None

    def add_up(self, model, loss):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
        (mine, one), (other, two) = self._swap((gradients, loss))
        for parameter, a, b in zip(model.parameters(), mine, other, strict=True):
            parameter.grad = a + b
        return one + two


@pytest.mark.parametrize("size", [8, 1], ids=["halves", "one has no rows"])
def test_two_that_share_the_steps_take_those_of_one_and_the_first_alone_validates_and_writes(size):
    alone = Trainer(Narrow(8), l1, recipe(), steps_per_epoch=32 // size)
    alone.fit(batches_of(rows(), size), lambda _: {"loss": 1.0})
    meeting, box, validated, told = threading.Barrier(2), [None, None], [], []

    def body(rank):
        processes = OneOfTwo(rank, meeting, box)
        trainer = Trainer(models[rank], l1, recipe(), steps_per_epoch=32 // size, processes=processes)

        def validate(_):
            validated.append(rank)
            return {"loss": 1.0}

        trainer.fit(batches_of(rows(), size), validate, [lambda _: told.append(rank)])
        return trainer

    models = [Narrow(8), Narrow(8)]  # drawn here: torch's generator is one for all threads
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(body, [0, 1]))
    assert validated == told == [0, 0, 0, 0]
    for trainer in both:
        for name, value in alone.averaged.state_dict().items():
            torch.testing.assert_close(trainer.averaged.state_dict()[name], value, rtol=1e-5, atol=1e-6)
        assert [r.train_loss for r in trainer.history] == pytest.approx([r.train_loss for r in alone.history], rel=1e-5)
