"""Where work runs changes nothing but the time.

Worker processes import this file for the functions in it: what is heavy is imported where it is used.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from threadpoolctl import threadpool_info

from matscout.engine import held_for_each, n_workers, parallel_map
from matscout.engine.process_setup import Switch
from matscout.engine.ray_engine import RayEngine
from matscout.engine.worker_tasks import DONE, Job, LocalEngine
from matscout.errors import ParameterError, WorkerError


def square(value):
    return value * value


def fail_on_three(value):
    if value == 3:
        raise ValueError("three")
    return value


@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_their_order(workers):
    assert parallel_map(square, range(20), workers=workers, description="squares") == [n * n for n in range(20)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_reaches_the_caller(workers):
    with pytest.raises(ValueError, match="three"):
        parallel_map(fail_on_three, range(5), workers=workers, description="fails")


def test_the_number_of_workers_can_be_set(monkeypatch):
    monkeypatch.setenv("MATSCOUT_WORKERS", "3")
    assert n_workers() == 3
    monkeypatch.setenv("MATSCOUT_WORKERS", "many")
    with pytest.raises(ParameterError, match="MATSCOUT_WORKERS='many'"):
        n_workers()


LOADED_BY_WORKERS = """
import sys
from matscout.engine import load_for_workers, parallel_map
load_for_workers("matscout.discovery.propose.gates")
import matscout.params
loaded, *_ = parallel_map(eval, ["sorted(__import__('sys').modules)"] * 2, workers=2, description="loaded")
print([name in loaded for name in ("matscout.discovery.propose.gates", "matscout.params")])
"""


def test_workers_have_loaded_what_they_are_told_to_and_not_what_this_process_has():
    environment = {**os.environ, "MATSCOUT_WORKERS": "2"}
    code = [sys.executable, "-c", LOADED_BY_WORKERS]
    done = subprocess.run(code, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[True, False]"


def process_of(_):
    return os.getpid()


def test_the_number_of_workers_is_the_most_that_any_work_gets(monkeypatch):
    monkeypatch.setenv("MATSCOUT_WORKERS", "1")
    assert set(parallel_map(process_of, range(4), workers=2, description="processes")) == {os.getpid()}


def threads_of(_):
    import numpy  # noqa: F401, ICN001 -- a library with threads of its own

    return {pool["num_threads"] for pool in threadpool_info()}


def test_each_worker_computes_on_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.delenv("MATSCOUT_WORKERS", raising=False)
    found = parallel_map(threads_of, range(2), workers=2, description="threads")
    assert found == [{1}, {1}]


LONG_TASK = """
import sys, time
from functools import partial
from pathlib import Path
from matscout.engine.worker_tasks import LocalEngine
from matscout.engine.worker_tasks import Job
from test_workers import wait_for_ever
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    list(LocalEngine([{}]).run(Job(partial(wait_for_ever, folder), folder, folder / "logs"), ["a"]))
"""


def test_a_worker_ends_when_the_process_that_started_it_is_killed(tmp_path):
    (tmp_path / "long_task.py").write_text(LONG_TASK)
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parent), *sys.path]))
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "long_task.py"), str(tmp_path)], env=os.environ | {"PYTHONPATH": paths}
    )
    while not (tmp_path / "a").exists() or not (tmp_path / "a").read_text():
        assert parent.poll() is None
        time.sleep(0.05)
    worker = psutil.Process(int((tmp_path / "a").read_text()))
    parent.kill()
    parent.wait()
    worker.wait(timeout=60)  # raises if it goes on


def test_the_switch_is_the_environment_s_but_for_what_a_command_gives(monkeypatch):
    monkeypatch.delenv("MATSCOUT_ENGINE", raising=False)
    monkeypatch.delenv("MATSCOUT_WORKERS", raising=False)
    assert Switch.read() == Switch("local", None)
    monkeypatch.setenv("MATSCOUT_ENGINE", "ray")
    monkeypatch.setenv("MATSCOUT_WORKERS", "5")
    assert Switch.read() == Switch("ray", 5)
    assert Switch.read("local", 2) == Switch("local", 2)
    with pytest.raises(ParameterError, match="engine 'spark' is unknown; choose from local, ray"):
        Switch.read("spark")


def test_the_switch_chooses_the_engine_that_trains_members(monkeypatch):
    from matscout.commands.train import make_engine
    from matscout.params import Compute

    compute = Compute(device="cpu", threads=2, deterministic=True, precision="float32", compile=False, processes=1)
    monkeypatch.setattr("matscout.commands.train.n_cores", lambda: 8)
    assert make_engine(Switch("local", None), compute) == LocalEngine([{}] * 4)  # two cores a member
    assert make_engine(Switch("local", 3), compute) == LocalEngine([{}] * 3)
    assert make_engine(Switch("ray", 3), compute) == RayEngine(3, cpus=2, gpus=0.0)


def test_work_that_is_held_is_done_here_by_default():
    done = []
    held_for_each(done.append, range(3), workers=2, description="pieces", unit="piece")
    assert done == [0, 1, 2]


def fail_or_note(folder, name):
    if name == "mistaken":
        raise ParameterError("wrong, do this")
    if name == "broken":
        raise ValueError("a defect")
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print(f"{name} speaks")
    (folder / name).write_text(f"{os.getpid()} {os.environ.get('CARD')} {Path.cwd()}")


def outcomes(engine, tmp_path, names, function=fail_or_note):
    job = Job(partial(function, tmp_path), tmp_path, tmp_path / "logs")
    ended = {}
    for some in engine.run(job, names):
        ended |= some
    return ended


NAMES = ["a", "killed", "b", "mistaken", "broken", "c"]


def test_a_task_that_dies_takes_no_other_with_it_and_each_failure_is_named(tmp_path):
    ended = outcomes(LocalEngine([{"CARD": "0"}, {"CARD": "1"}]), tmp_path, NAMES)
    assert {name for name, error in ended.items() if error == DONE} == {"a", "b", "c"}
    assert "SIGKILL" in ended["killed"]
    assert ended["mistaken"] == "wrong, do this"
    assert "ValueError: a defect" in ended["broken"]
    assert "Traceback" in (tmp_path / "logs/broken.log").read_text()
    assert (tmp_path / "logs/a.log").read_text() == "a speaks\n"
    notes = [(tmp_path / name).read_text().split(" ", 2) for name in "abc"]
    assert len({process for process, _, _ in notes}) == 3
    assert {card for _, card, _ in notes} <= {"0", "1"}
    assert {folder for _, _, folder in notes} == {str(tmp_path)}


def note_card_and_wait(folder, others, name):
    (folder / name).write_text(os.environ["CARD"])
    while not all((folder / other).exists() for other in others):
        time.sleep(0.01)


def test_tasks_at_once_have_a_card_each(tmp_path):
    job = Job(partial(note_card_and_wait, tmp_path, ["a", "b"]), tmp_path, tmp_path / "logs")
    list(LocalEngine([{"CARD": "0"}, {"CARD": "1"}]).run(job, ["a", "b"]))
    assert sorted((tmp_path / name).read_text() for name in "ab") == ["0", "1"]


def note_from_a_child(folder, name):
    child = multiprocessing.get_context("spawn").Process(target=(folder / name).write_text, args=("written",))
    child.start()
    child.join()


def test_a_task_may_start_processes_of_its_own(tmp_path):
    """As a training that several share does."""
    ended = outcomes(LocalEngine([{}]), tmp_path, ["a"], note_from_a_child)
    assert ended == {"a": DONE}
    assert (tmp_path / "a").read_text() == "written"


def wait_for_ever(folder, name):
    (folder / name).write_text(str(os.getpid()))
    time.sleep(600)


def test_stopping_ends_what_still_runs(tmp_path):
    running = LocalEngine([{}]).run(Job(partial(wait_for_ever, tmp_path), tmp_path, tmp_path / "logs"), ["a"])
    while not (tmp_path / "a").exists() or not (tmp_path / "a").read_text():
        next(running)
    running.close()
    assert not psutil.pid_exists(int((tmp_path / "a").read_text()))


def test_an_unknown_engine_is_named(monkeypatch):
    monkeypatch.setenv("MATSCOUT_ENGINE", "spark")
    with pytest.raises(ParameterError, match="MATSCOUT_ENGINE='spark' is unknown; choose from local, ray"):
        parallel_map(square, range(4), workers=2, description="squares")


@pytest.mark.parametrize(
    ("address", "told"), [(None, "Ray does not start here"), ("x:1", "the cluster of RAY_ADDRESS=x:1")]
)
def test_a_ray_that_does_not_start_is_told_with_what_to_do(monkeypatch, address, told):
    ray = pytest.importorskip("ray")

    def times_out(**options):
        assert ("address" in options) == (address is None)
        raise Exception("The current node timed out during startup.")  # noqa: TRY002 -- Ray's own has no other class

    monkeypatch.setattr(ray, "init", times_out)
    monkeypatch.setenv("MATSCOUT_ENGINE", "ray")
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(WorkerError, match=rf"{told}.*timed out.*use the engine local"):
        parallel_map(square, range(4), workers=2, description="squares")


def die(value):
    os.kill(os.getpid(), signal.SIGKILL)
    return value


def test_a_killed_worker_is_told_with_what_to_do():
    with pytest.raises(WorkerError, match=r"pieces: one of 2 worker processes was killed.*MATSCOUT_WORKERS=1"):
        parallel_map(die, range(4), workers=2, description="pieces")


@pytest.mark.parametrize(
    ("processes", "cards", "groups"),
    [(1, "0,1,2", ["0", "1", "2"]), (2, "0,1,2,3,4", ["0,1", "2,3"]), (3, "5,6,7", ["5,6,7"]), (4, "0,1", ["0,1"])],
)
def test_members_share_cards_in_groups_of_their_processes(processes, cards, groups, monkeypatch):
    from matscout.commands.train import make_engine
    from matscout.params import Compute

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
    settings = {"device": "auto", "threads": 1, "deterministic": True, "precision": "float32", "compile": False}
    engine = make_engine(Switch("local", None), Compute(**settings, processes=processes))
    assert engine == LocalEngine([{"CUDA_VISIBLE_DEVICES": group} for group in groups])
