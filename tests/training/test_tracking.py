"""MLflow: one parent per pipeline run, one child per member, every point once, whatever fails or is killed."""

import logging
import os
import sqlite3

import pytest
from tiny_training import EPOCHS, MEMBER, tiny_params, train

from matscout.errors import TrainingError
from matscout.training import tracking
from matscout.training.checkpoints import CheckpointStore
from matscout.training.tracking import MLflowTracker
from matscout.training.training import Provenance, flatten, git_commit

CURVES = {"train_loss", "validation_loss", "mae_band_gap", "mae_formation_energy_per_atom", "lr", "data_wait_share"}
N_WRITERS = 3

# mlflow 3.17.2 itself uses what its SQLAlchemy deprecates
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def run_of(member="a", lr=0.1, run_id=None):
    """The run of a member whose pipeline has this learning rate."""
    provenance = Provenance(member, f"{member}-{lr}", {"lr": lr}, {"graphs": "abc"})
    return MLflowTracker(tiny_params(model__lr=lr)).run(provenance, run_id)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An empty, migrated database to copy: the migration takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(folder))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("DVC_EXP_NAME", raising=False)
        with run_of("first"):
            pass
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def client(dvc_root, database):
    from mlflow.tracking import MlflowClient

    dvc_root.mkdir()
    (dvc_root / "mlflow.db").write_bytes(database)
    client = MlflowClient(tracking_uri=f"sqlite:///{dvc_root / 'mlflow.db'}")
    for run in runs_of(client):
        client.delete_run(run.info.run_id)
    return client


def runs_of(client, **tags):
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id])
    return [run for run in runs if all(run.data.tags.get(key) == value for key, value in tags.items())]


def parents_and_children(client):
    runs = runs_of(client)
    return (
        [run for run in runs if tracking.PARENT_TAG not in run.data.tags],
        [run for run in runs if tracking.PARENT_TAG in run.data.tags],
    )


def steps(client, run_id, key):
    return [point.step for point in client.get_metric_history(run_id, key)]


def test_members_of_one_pipeline_run_share_a_parent(client):
    for name in ("a", "b"):
        with run_of(name) as run:
            run.log(1, {"train_loss": 0.5})
    parents, children = parents_and_children(client)
    assert len(parents) == 1
    assert sorted(run.info.run_name for run in children) == ["a", "b"]
    assert {run.data.tags[tracking.PARENT_TAG] for run in children} == {parents[0].info.run_id}
    assert {run.info.status for run in [*parents, *children]} == {"FINISHED"}
    assert parents[0].data.params["model.lr"] == "0.1"


def test_another_parameter_or_experiment_makes_another_parent(client, monkeypatch):
    for lr, experiment in ((0.1, ""), (0.2, ""), (0.1, "bold-owl")):
        monkeypatch.setenv("DVC_EXP_NAME", experiment)
        with run_of(lr=lr):
            pass
    parents, children = parents_and_children(client)
    assert len(parents) == len(children) == 3
    named = [run for run in parents if run.info.run_name == "bold-owl"]
    assert named[0].data.tags["dvc.experiment"] == "bold-owl"


def test_a_run_says_what_it_came_from(client):
    with run_of("a"):
        pass
    tags = parents_and_children(client)[1][0].data.tags
    assert tags["mlflow.source.git.commit"] == git_commit()
    assert tags["matscout.sha256.graphs"] == "abc"
    assert tags["matscout.member"] == "a"
    assert tags["matscout.fingerprint"] == "a-0.1"


def test_points_are_sent_once_however_often_they_are_logged(client):
    with run_of() as run:
        for step in (1, 2, 2, 1):
            run.log(step, {"train_loss": 1 / step})
    with run_of(run_id=run.run_id) as again:
        for step in (1, 2, 3):
            again.log(step, {"train_loss": 1 / step})
    assert again.run_id == run.run_id
    assert steps(client, run.run_id, "train_loss") == [1, 2, 3]


def test_many_points_exceed_no_limit_of_a_request(client):
    with run_of() as run:
        for step in range(700):
            run.log(step, {"train_loss": 1.0, "lr": 0.1})
    assert steps(client, run.run_id, "train_loss") == list(range(700))


def test_a_member_killed_before_its_first_checkpoint_continues_its_child(client):
    with pytest.raises(RuntimeError, match="killed"), run_of() as first:
        raise RuntimeError("killed")
    assert client.get_run(first.run_id).info.status == "FAILED"
    with run_of() as second:
        assert client.get_run(first.run_id).info.status == "RUNNING"
    assert second.run_id == first.run_id
    assert client.get_run(first.run_id).info.status == "FINISHED"


def test_a_finished_member_that_is_trained_again_gets_a_run_of_its_own(client):
    with run_of() as first:
        pass
    with run_of() as second:
        pass
    assert first.run_id != second.run_id
    assert first.parent_id == second.parent_id


def test_a_run_that_the_tracker_lost_is_begun_anew(client, caplog):
    with run_of(run_id="0" * 32) as run:
        run.log(1, {"train_loss": 1.0})
    assert "beginning another" in caplog.text
    assert steps(client, run.run_id, "train_loss") == [1]


def test_a_tracker_that_fails_at_the_start_stops_before_any_work(dvc_root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    with (
        pytest.raises(TrainingError, match=r"file/mlflow\.db cannot be used: .*unset it to write mlflow\.db"),
        run_of(),
    ):
        pytest.fail("began")


def test_a_tracker_that_fails_meanwhile_warns_keeps_the_points_and_sends_them_later(client, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "FLUSH_INTERVAL_S", 0.0)

    def refuse(*_, **__):
        raise ConnectionError("server gone")

    with run_of() as run, caplog.at_level(logging.WARNING):
        with monkeypatch.context() as patch:
            patch.setattr(type(run._client), "log_batch", refuse)
            run.log(1, {"train_loss": 1.0})
            run.log(2, {"train_loss": 0.5})
        assert "server gone" in caplog.text
        assert "history.parquet" in caplog.text
        assert steps(client, run.run_id, "train_loss") == []
        run.log(3, {"train_loss": 0.3})
    assert steps(client, run.run_id, "train_loss") == [1, 2, 3]


def test_a_tracker_that_fails_for_good_does_not_raise(client, monkeypatch, caplog):
    with run_of() as run:
        run.log(1, {"train_loss": 1.0})

        def refuse(*_, **__):
            raise ConnectionError("server gone")

        monkeypatch.setattr(type(run._client), "log_batch", refuse)
        monkeypatch.setattr(type(run._client), "set_terminated", refuse)
    assert "did not take 1 points" in caplog.text
    assert "did not take the status FINISHED" in caplog.text


def write_run(number, barrier, root):
    """Body of a child process: meets the fresh database together with its siblings."""
    os.environ["DVC_ROOT"] = str(root)  # a fork server that an earlier test started has that test's environment
    barrier.wait(60)
    with run_of(f"member-{number}") as run:
        for step in range(1, 6):
            run.log(step, {"train_loss": 1 / step})
            run.flush()


@pytest.mark.slow
def test_several_processes_on_a_fresh_database_share_one_parent(processes, dvc_root):
    barrier = processes.Barrier(N_WRITERS)
    writers = [processes.Process(target=write_run, args=(number, barrier, dvc_root)) for number in range(N_WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * N_WRITERS
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{dvc_root / 'mlflow.db'}")
    parents, children = parents_and_children(client)
    assert len(parents) == 1
    assert len(children) == N_WRITERS
    assert all(steps(client, run.info.run_id, "train_loss") == [1, 2, 3, 4, 5] for run in children)
    with sqlite3.connect(dvc_root / "mlflow.db") as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_training_continues_its_child_without_doubled_points(
    stop_after, client, tiny_inputs, dvc_root, tmp_path, monkeypatch
):
    class StoppedError(Exception):
        pass

    save = CheckpointStore.save

    def save_and_stop(self, epoch, state):
        save(self, epoch, state)
        if epoch == stop_after:
            raise StoppedError

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(CheckpointStore, "save", save_and_stop)
        train(tiny_inputs, tmp_path / "member", dvc_root=dvc_root, tracker=MLflowTracker(tiny_params()))
    train(tiny_inputs, tmp_path / "member", dvc_root=dvc_root, tracker=MLflowTracker(tiny_params()))
    _, children = parents_and_children(client)
    assert [run.info.run_name for run in children] == [MEMBER]
    run_id = children[0].info.run_id
    assert {key for key in children[0].data.metrics if not key.startswith(("test_", "validation_mae"))} == CURVES
    for key in CURVES:
        assert steps(client, run_id, key) == list(range(1, EPOCHS + 1))
    assert steps(client, run_id, "test_mae_band_gap") == [EPOCHS]
    assert children[0].data.params["member.encoder.hidden_dim"] == "8"


def test_plain_mlflow_ui_in_the_repository_finds_the_runs(dvc_root, monkeypatch, client):
    with run_of():
        pass
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    # `mlflow ui` opens sqlite:///mlflow.db of its working directory
    assert tracking.tracking_uri() == f"sqlite:///{dvc_root}/mlflow.db"
    assert experiment.artifact_location.startswith("file://")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert tracking.tracking_uri() == "http://localhost:5000"


def test_parameters_are_flattened_by_their_path():
    assert flatten({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None}) == {"a.b.c": 1, "a.d": [1, 2], "e": None}
    assert len(flatten(tiny_params().model_dump(mode="json"))) > 50
