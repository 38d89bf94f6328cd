"""A training killed anywhere resumes and gives the same bytes."""

import json
import logging
import random
import time

import pandas as pd
import pytest
from kill_table import note
from tiny_training import EPOCHS, MEMBER, MOMENTS, kill_at_call, tiny_params, train, train_and_die

from matscout.errors import TrainingError
from matscout.files import sha256_of
from matscout.training import fitting, train_member


def checkpoint_files(dvc_root):
    return sorted((dvc_root / ".checkpoints").glob(f"{MEMBER}/*/epoch-*.ckpt"))


def saved(dvc_root):
    return [file.name.split(".")[0] for file in checkpoint_files(dvc_root)]


def run_in(processes, target, *args):
    process = processes.Process(target=target, args=args)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_moment_it_ends_in_the_same_bytes(
    moment, processes, tiny_inputs, uninterrupted, tmp_path, dvc_root
):
    destination = tmp_path / "member"
    assert run_in(processes, train_and_die, moment, tiny_inputs, destination, dvc_root) == -9
    left = left_behind(dvc_root, destination)
    train(tiny_inputs, destination, dvc_root=dvc_root)
    assert sha256_of(destination) == uninterrupted[1]
    assert not (dvc_root / ".checkpoints" / MEMBER).exists()
    note("a member's training", f"{moment}: {left}", "resumes; same bytes")


@pytest.mark.parametrize("moment", ["before an epoch is tracked", "after the last epoch"])
def test_killed_before_it_stops_early_it_ends_in_the_same_bytes(moment, processes, tiny_inputs, tmp_path, monkeypatch):
    changes = {"model__early_stopping": 1, "members__tiny__training__epochs": 20, "model__lr": 0.3}
    for name in ("whole", "killed"):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / name))
        inputs = (tiny_inputs, tmp_path / name / "member", tmp_path / name)
        if name == "killed":
            assert run_in(processes, train_and_die, moment, *inputs, changes) == -9
        train(inputs[0], inputs[1], tiny_params(**changes), dvc_root=inputs[2])
    assert sha256_of(tmp_path / "killed" / "member") == sha256_of(tmp_path / "whole" / "member")
    history = pd.read_parquet(tmp_path / "whole" / "member" / "history.parquet")
    metrics = json.loads((tmp_path / "whole" / "member" / "metrics.json").read_text())
    best = history.loc[history["validation_loss"].idxmin()]
    assert metrics["epochs"] == len(history) == best["epoch"] + 1 < 20
    assert metrics["validation"]["mae"]["band_gap"] == pytest.approx(best["mae_band_gap"])


def left_behind(dvc_root, destination):
    """What a killed training has written, in words."""
    if destination.exists():
        return "the member is written"
    partial = list((dvc_root / ".checkpoints").glob(f"{MEMBER}/*/.*.partial"))
    return f"{epochs_on_disk(dvc_root)} of {EPOCHS} epochs saved{', a checkpoint half written' if partial else ''}"


def epochs_on_disk(dvc_root):
    return max((int(file.name.split(".")[0].split("-")[1]) for file in checkpoint_files(dvc_root)), default=0)


def run_and_kill(processes, epochs, seconds, *args, dvc_root):
    """Kill a training some time after so many epochs are saved; its exit code."""
    process = processes.Process(target=train_untracked, args=args)
    process.start()
    while process.is_alive() and epochs_on_disk(dvc_root) < epochs:
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("wanted", [5, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_killed_at_random_moments_it_ends_in_the_same_bytes_each_time(
    wanted, processes, tiny_inputs, uninterrupted, tmp_path, monkeypatch
):
    chance, kills = random.Random(5), 0
    for attempt in range(5 * wanted):
        folder, epochs, seconds = tmp_path / str(attempt), chance.randrange(EPOCHS), chance.expovariate(1 / 0.1)
        monkeypatch.setenv("DVC_ROOT", str(folder))
        inputs = (tiny_inputs, folder / "member", folder)
        if run_and_kill(processes, epochs, seconds, *inputs, dvc_root=folder) != -9:
            continue  # it was done before
        since = f"epoch {epochs} was saved" if epochs else "its start"
        moment = f"{1000 * seconds:.0f} ms after {since}: {left_behind(folder, inputs[1])}"
        train(*inputs[:2], dvc_root=folder)
        assert sha256_of(folder / "member") == uninterrupted[1], moment
        note("a member's training", moment, "resumes; same bytes")
        kills += 1
        if kills == wanted:
            return
    pytest.fail(f"only {kills} of {attempt + 1} kills met a running training")


def train_untracked(paths, destination, dvc_root):
    train(paths, destination, dvc_root=dvc_root)


def interrupt(tiny_inputs, dvc_root, destination, after_epochs, monkeypatch, **changes):
    """Train some epochs in this process and stop with an exception."""

    class StoppedError(Exception):
        pass

    def track(run, record):
        if record.epoch + 1 == after_epochs:
            raise StoppedError

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(fitting, "track", track)
        train(tiny_inputs, destination, tiny_params(**changes), dvc_root=dvc_root)


def epochs_trained(monkeypatch, tiny_inputs, dvc_root, destination, **changes):
    """Train to the end and count the epochs this took."""
    begun = []
    run_epoch = fitting.Trainer._run_epoch
    with monkeypatch.context() as patch:
        patch.setattr(fitting.Trainer, "_run_epoch", lambda self, e, *a: begun.append(e) or run_epoch(self, e, *a))
        train(tiny_inputs, destination, tiny_params(**changes), dvc_root=dvc_root)
    return begun


def test_it_goes_on_after_the_last_whole_epoch(tiny_inputs, dvc_root, tmp_path, monkeypatch):
    interrupt(tiny_inputs, dvc_root, tmp_path / "member", 2, monkeypatch)
    assert saved(dvc_root) == ["epoch-000001", "epoch-000002"]
    assert epochs_trained(monkeypatch, tiny_inputs, dvc_root, tmp_path / "member") == [2, 3]


def test_only_two_checkpoints_are_kept(tiny_inputs, dvc_root, tmp_path, monkeypatch):
    interrupt(tiny_inputs, dvc_root, tmp_path / "member", EPOCHS, monkeypatch)
    assert saved(dvc_root) == ["epoch-000003", "epoch-000004"]


@pytest.mark.parametrize("change", ["model__lr", "members__tiny__training__seed"])
def test_a_changed_parameter_starts_clean(change, tiny_inputs, dvc_root, tmp_path, monkeypatch):
    interrupt(tiny_inputs, dvc_root, tmp_path / "member", 3, monkeypatch)
    changed = {change: 7 if change.endswith("seed") else 0.003}
    assert epochs_trained(monkeypatch, tiny_inputs, dvc_root, tmp_path / "other", **changed) == [0, 1, 2, 3]
    assert epochs_trained(monkeypatch, tiny_inputs, dvc_root, tmp_path / "member") == [3]


def test_a_parameter_of_another_stage_does_not_start_over(tiny_inputs, dvc_root, tmp_path, monkeypatch):
    interrupt(tiny_inputs, dvc_root, tmp_path / "member", 3, monkeypatch)
    assert epochs_trained(monkeypatch, tiny_inputs, dvc_root, tmp_path / "member", screening__top_k=3) == [3]


@pytest.mark.parametrize("spoil", ["cut", "flip", "empty"])
def test_a_corrupt_checkpoint_falls_back_and_says_so(
    spoil, tiny_inputs, uninterrupted, dvc_root, tmp_path, monkeypatch, caplog
):
    interrupt(tiny_inputs, dvc_root, tmp_path / "member", 3, monkeypatch)
    latest = checkpoint_files(dvc_root)[-1]
    content = bytearray(latest.read_bytes())
    content[len(content) // 2] ^= 1
    latest.write_bytes({"cut": content[:-7], "flip": content, "empty": b""}[spoil])
    with caplog.at_level(logging.WARNING):
        assert epochs_trained(monkeypatch, tiny_inputs, dvc_root, tmp_path / "member") == [2, 3]
    assert f"{latest} " in caplog.text
    assert "cut off or changed on disk" in caplog.text
    assert sha256_of(tmp_path / "member") == uninterrupted[1]


def test_with_both_checkpoints_corrupt_it_starts_over(tiny_inputs, uninterrupted, dvc_root, tmp_path, monkeypatch):
    interrupt(tiny_inputs, dvc_root, tmp_path / "member", 3, monkeypatch)
    for file in checkpoint_files(dvc_root):
        file.write_bytes(b"no checkpoint")
    assert epochs_trained(monkeypatch, tiny_inputs, dvc_root, tmp_path / "member") == [0, 1, 2, 3]
    assert sha256_of(tmp_path / "member") == uninterrupted[1]


def hold(paths, destination, dvc_root, ready, done):
    kill_at_call(train_member, "_metrics", 1, before=lambda *_: (ready.set(), done.wait(60)))
    train(paths, destination, dvc_root=dvc_root)


def test_a_second_trainer_is_refused_until_the_first_ends(processes, tiny_inputs, uninterrupted, tmp_path, dvc_root):
    ready, done = processes.Event(), processes.Event()
    first = processes.Process(target=hold, args=(tiny_inputs, tmp_path / "first", dvc_root, ready, done))
    first.start()
    assert ready.wait(60)
    with pytest.raises(TrainingError, match=rf"'tiny' is already being trained by process {first.pid}.*kill"):
        train(tiny_inputs, tmp_path / "member", dvc_root=dvc_root)
    train(tiny_inputs, tmp_path / "variant", tiny_params(model__lr=0.02), dvc_root=dvc_root)
    done.set()
    first.join()
    train(tiny_inputs, tmp_path / "member", dvc_root=dvc_root)
    assert sha256_of(tmp_path / "member") == uninterrupted[1]
