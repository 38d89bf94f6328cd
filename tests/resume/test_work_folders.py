"""The lock on unfinished work: one process at a time, freed by whatever ends its holder."""

import multiprocessing
import os
import time

import pytest

from matscout.resume.parts import Parts, locked, root

processes = multiprocessing.get_context("spawn")


def test_the_root_is_dvc_s_and_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value, expected in (("", tmp_path), ("main", tmp_path / "main"), ("/elsewhere", "/elsewhere")):
        monkeypatch.setenv("DVC_ROOT", value)
        assert str(root()) == str(expected)


def hold(path, ready, done):
    with locked(path):
        ready.set()
        done.wait(60)


def hold_and_die(path, ready, done):
    with locked(path):
        ready.set()
        done.wait(60)
        os._exit(9)


@pytest.mark.parametrize("end", [hold, hold_and_die])
def test_a_second_process_is_told_the_holder_or_waits(end, tmp_path, caplog):
    path, ready, done = tmp_path / "new" / "lock", processes.Event(), processes.Event()
    first = processes.Process(target=end, args=(path, ready, done))
    first.start()
    assert ready.wait(60)
    with (
        pytest.raises(ValueError, match=f"^held by {first.pid}$"),
        locked(path, lambda pid: ValueError(f"held by {pid}")),
    ):
        pass
    done.set()
    with locked(path):
        assert path.read_text() == str(os.getpid())
    first.join()


def test_a_lock_whose_file_is_deleted_while_it_is_held_can_be_taken_again(tmp_path):
    with locked(tmp_path / "lock"):
        (tmp_path / "lock").unlink()
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()


def count(folder, log, turn):
    """Notes when it is at work; two at once would interleave their notes."""
    os.environ["DVC_ROOT"] = str(folder)
    with Parts.kept("work", settings=turn, inputs=[], code=["matscout.crystal"]):
        with log.open("a") as stream:
            stream.write("begin\n")
        time.sleep(0.05)
        with log.open("a") as stream:
            stream.write("end\n")


def test_two_runs_of_one_stage_work_in_turn(tmp_path):
    log = tmp_path / "log"
    workers = [processes.Process(target=count, args=(tmp_path, log, turn)) for turn in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert log.read_text().split() == ["begin", "end"] * 3
    assert [path.name for path in (tmp_path / ".checkpoints" / "work").iterdir()] == ["lock"]
