"""Work on Ray, whatever dies: tasks, short pieces, a training, a screening, members. One Ray serves all tests here.

Ray's workers import this file for the functions in it: what is heavy is imported where it is used.
"""

import os
import shutil
import signal
import sys
from collections import Counter
from contextlib import contextmanager
from functools import partial

import pytest
from test_workers import die, fail_on_three, outcomes, square

from matscout.engine import held_for_each, parallel_map
from matscout.engine.ray_engine import RayEngine
from matscout.engine.worker_tasks import DONE, Job
from matscout.errors import WorkerError

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own, of sockets it leaves open


@pytest.fixture(scope="module")
def path_of_workers():
    """This process's path, for workers that import the tests' functions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        yield


@pytest.fixture(scope="module")
def cluster(path_of_workers):
    """A Ray that outlives its users, as on a cluster: starting one takes longer than most work here."""
    with started_cluster() as address:
        yield address


@pytest.fixture
def cluster_of_its_own(path_of_workers):
    """A Ray without other users: on a shared one, a dying actor of an earlier test may still hold a place."""
    with started_cluster() as address:
        yield address


@contextmanager
def started_cluster():
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    variables = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0",  # else Ray takes 127.0.0.1 for this machine's other address
    }
    head = {"num_cpus": 2, "node_ip_address": "127.0.0.1", "include_dashboard": False, "dashboard_agent_listen_port": 0}
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in variables.items():
            patch.setenv(variable, value)
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # was read at import
        patch.delenv("DVC_ROOT", raising=False)
        started = Cluster(initialize_head=True, head_node_args=head)
        patch.setenv("RAY_ADDRESS", started.address)
        yield started.address
        started.shutdown()


def die_once(folder, name):
    if not (folder / name).exists():
        (folder / name).write_text("was here")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_worker_s_task_is_tried_again_and_failures_are_named(cluster, tmp_path):
    ended = outcomes(RayEngine(workers=2, cpus=1, max_retries=0), tmp_path, ["a", "killed", "mistaken"])
    assert ended["a"] == DONE
    assert ended["mistaken"] == "wrong, do this"
    assert "Ray gave it up" in ended["killed"]
    job = Job(partial(die_once, tmp_path), tmp_path, tmp_path / "logs")
    assert [some for some in RayEngine(workers=1, cpus=1).run(job, ["twice"]) if some] == [{"twice": DONE}]


def die_on_seven_once(folder, value):
    if value == 7:
        die_once(folder, "seven")
    return value * value


def test_short_pieces_give_the_same_results_although_a_worker_dies(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("MATSCOUT_ENGINE", "ray")
    function = partial(die_on_seven_once, tmp_path)
    assert parallel_map(function, range(20), workers=2, description="squares") == [n * n for n in range(20)]
    assert (tmp_path / "seven").exists()
    with pytest.raises(ValueError, match=r"^three$"):
        parallel_map(fail_on_three, range(5), workers=2, description="fails")
    with pytest.raises(ValueError, match=r"^three$"):
        held_for_each(fail_on_three, range(5), workers=2, description="fails", unit="piece")
    with pytest.raises(WorkerError, match=r"gave up a piece of work after 4 tries.*MATSCOUT_WORKERS=1"):
        held_for_each(die, range(1), workers=2, description="dies", unit="piece")


def test_without_an_address_a_ray_is_started_here(path_of_workers, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("MATSCOUT_ENGINE", "ray")
    assert parallel_map(square, range(4), workers=2, description="squares") == [0, 1, 4, 9]


def fit_and_die_once(inputs, marker, name):
    from tiny_training import kill_at_call, tiny_params

    from matscout.training.train_member import train_beforehand
    from matscout.training.trainer import Trainer
    from matscout.training.training import TrainingInputs, member_training

    if not marker.exists():
        kill_at_call(Trainer, "_step", 9, lambda *_, **__: marker.touch())
    train_beforehand(member_training(name, tiny_params()), TrainingInputs(**inputs))


def test_a_training_killed_in_an_epoch_goes_on_to_the_same_bytes(cluster, tmp_path, monkeypatch):
    from tiny_training import MEMBER, train, write_tiny_inputs

    from matscout.files import sha256_of
    from matscout.training.trainer import Trainer

    for folder in ("inputs", "on ray", "here"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("DVC_ROOT", "")  # `train` sets it; put back afterwards
    inputs = write_tiny_inputs(tmp_path / "inputs")
    train(inputs, tmp_path / "here/member", dvc_root=tmp_path / "here")
    job = Job(partial(fit_and_die_once, inputs, tmp_path / "killed"), tmp_path / "on ray", tmp_path / "logs")
    ended = [some for some in RayEngine(workers=2, cpus=1).run(job, [MEMBER]) if some]
    assert ended == [{MEMBER: DONE}]
    assert (tmp_path / "killed").exists()
    begun = []
    run_epoch = Trainer._run_epoch
    monkeypatch.setattr(Trainer, "_run_epoch", lambda self, e, *a: begun.append(e) or run_epoch(self, e, *a))
    train(inputs, tmp_path / "on ray/member", dvc_root=tmp_path / "on ray")
    assert begun == []  # the worker reached the last epoch
    assert sha256_of(tmp_path / "on ray/member") == sha256_of(tmp_path / "here/member")


@pytest.mark.exhaustive
def test_actors_that_load_the_ensemble_once_give_the_same_bytes_although_one_is_killed(
    cluster_of_its_own, tmp_path, monkeypatch
):
    from small_outputs import make_outputs
    from small_screening import N_CANDIDATES, NOTES, ROWS_A_SHARD, NotingJudge, run_screening, write_candidates

    from matscout.discovery.screen import screen
    from matscout.ensemble.evaluate import evaluate

    outputs, ensemble, notes = make_outputs(tmp_path), tmp_path / "ensemble", tmp_path / "notes"
    evaluate(outputs.members, **outputs.arguments(), destination=ensemble)
    candidates = write_candidates(tmp_path / "candidates.parquet")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    here = run_screening(outputs, ensemble, candidates, tmp_path / "here")
    notes.mkdir()
    monkeypatch.setenv(NOTES, str(notes))
    monkeypatch.setenv("MATSCOUT_ENGINE", "ray")
    monkeypatch.setenv("MATSCOUT_WORKERS", "2")
    monkeypatch.setattr(screen, "Judge", NotingJudge)
    assert run_screening(outputs, ensemble, candidates, tmp_path / "on ray") == here

    lines = [path.name.split() for path in notes.iterdir()]
    loaded = Counter(line[1] for line in lines if line[0] == "loaded")
    predicted = Counter(line[2] for line in lines if line[0] == "predicted" and line[1] != str(os.getpid()))
    n_shards = -(-N_CANDIDATES // ROWS_A_SHARD)
    assert ["killed"] in lines
    # to predict: the killed, the one in its place, and the other if it began before all was done; to judge: one or both
    assert len(loaded) in {3, 4, 5}
    assert set(loaded.values()) == {1}
    assert str(os.getpid()) not in loaded
    assert sorted(predicted.values()) == [1] * (n_shards - 1) + [2]  # the shard it died in, once more


def test_members_trained_at_once_are_finished_by_dvc_with_the_bytes_of_a_serial_run(cluster, copied):
    """Two of them on this machine's cores, one on Ray; the others stay as they are."""
    from mlflow_runs import epochs_logged, pipeline_runs
    from tiny_clone import tiny_params

    members = list(tiny_params()["members"])
    local, on_ray = members[:2], members[2:3]
    lost, serial = [*local, *on_ray], copied.lock()
    copied.lose_members(lost)
    told = copied.run("matscout", "train", *local, "--workers", "2")
    assert sorted(copied.members_trained(told)) == sorted(local)
    told = copied.run("matscout", "train", "--workers", "2", "--engine", "ray", RAY_ADDRESS=cluster)
    assert copied.members_trained(told) == on_ray
    told = copied.dvc("repro")
    assert copied.stages_run(told.stdout) == [f"train@{name}" for name in lost]
    assert "step/s" not in told.stderr  # they were only put in their places
    assert copied.lock() == serial
    assert copied.changed() == set()
    runs = pipeline_runs(copied)
    assert len(runs) == 1
    assert sorted(run.name for run in runs[0].children) == sorted(lost)  # the stages began no run of their own
    assert all(epochs_logged(run) == [1, 2] for run in runs[0].children)
    shutil.rmtree(copied.root / "data/members" / lost[0])
    assert "all members are already trained" in copied.run("matscout", "train").stdout  # it is in the cache
