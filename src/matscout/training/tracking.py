"""Curves and provenance in MLflow.

One parent run per pipeline run (same parameters, experiment name, code and inputs), one child per member.
Plain `mlflow ui` in the repository shows them: without `MLFLOW_TRACKING_URI` they go to `mlflow.db` there.

A tracker that fails when a training *starts* stops it, since nothing is lost yet. One that fails later does not stop
the training: the points are kept, each failure is a warning, and every epoch tries again; `history.parquet` holds the
same curves in any case. Of MLflow, only the run's id enters the checkpoints.
"""

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matscout.errors import TrainingError
from matscout.files import sha256_of_json
from matscout.params import Params
from matscout.resume.parts import CHECKPOINTS, locked, root
from matscout.training.training import Provenance, experiment_name, flatten, git_commit

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

EXPERIMENT = "matscout"
PIPELINE_TAG = "matscout.pipeline"
MEMBER_TAG = "matscout.member"
FINGERPRINT_TAG = "matscout.fingerprint"
PARENT_TAG = "mlflow.parentRunId"
KIND_TAG = "mlflow.experimentKind"  # so that `mlflow ui` opens on runs and curves, not on its view for language models
FLUSH_INTERVAL_S = 5.0
POINTS_PER_REQUEST = 1000  # MLflow's limit


class MLflowRun:
    """A member's run: points are buffered, sent in batches, and never sent twice.

    Args:
        client: of the tracking server or file.
        run: the member's run, new or continued.
    """

    def __init__(self, client: "MlflowClient", run: "Run") -> None:
        self.run_id: str = run.info.run_id
        self.parent_id: str = run.data.tags[PARENT_TAG]
        self._client = client
        self._waiting: dict[tuple[str, int], Metric] = {}
        self._sent = self._points_there(run)
        self._last_flush = time.monotonic()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of a step; a point that the run already has is left as it is."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        for name, value in values.items():
            key = _name(name)
            if (key, step) not in self._sent:
                self._waiting[key, step] = Metric(key, value, now_ms, step)
        if time.monotonic() - self._last_flush > FLUSH_INTERVAL_S:
            self.flush()

    def flush(self) -> None:
        """Send the points that wait; on failure warn and keep them."""
        self._last_flush = time.monotonic()
        try:
            points = list(self._waiting)
            for start in range(0, len(points), POINTS_PER_REQUEST):
                chunk = points[start : start + POINTS_PER_REQUEST]
                self._client.log_batch(self.run_id, metrics=[self._waiting[point] for point in chunk])
                self._sent.update(chunk)
                for point in chunk:
                    del self._waiting[point]
        except Exception as error:  # noqa: BLE001 -- whatever a tracker raises, it must not end a training
            logger.warning(
                "MLflow did not take %d points of run %s (%s); they stand in history.parquet and will be sent again",
                len(self._waiting),
                self.run_id,
                error,
            )

    def end(self, status: str) -> None:
        """Send what waits and set the status of this run and, if it finished, of its pipeline run."""
        self.flush()
        try:
            self._client.set_terminated(self.run_id, status)
            self._client.set_terminated(self.parent_id, status)
        except Exception as error:  # noqa: BLE001 -- as in `flush`
            logger.warning("MLflow did not take the status %s of run %s (%s)", status, self.run_id, error)

    def _points_there(self, run: "Run") -> set[tuple[str, int]]:
        return {
            (key, point.step) for key in run.data.metrics for point in self._client.get_metric_history(self.run_id, key)
        }


@dataclass(frozen=True)
class MLflowTracker:
    """Curves and provenance of a training in MLflow.

    Attributes:
        pipeline: all of `params.yaml`, by which the pipeline run is known.
        title: of the runs that a training belongs with, where that is no run of the pipeline.
        run_name: of its own run, where that is not the member's name.
    """

    pipeline: Params
    title: str = ""
    run_name: str = ""

    @contextmanager
    def run(self, provenance: Provenance, run_id: str | None = None) -> Iterator[MLflowRun]:
        """The run of one member, ended as FINISHED, or FAILED if the block raises.

        Args:
            provenance: decides the pipeline run it belongs to and what it says of itself.
            run_id: of the run to continue, from a checkpoint; one that the tracker does not know (a database
                deleted meanwhile) is made anew.

        Yields:
            The run, open.

        Raises:
            TrainingError: the tracker cannot be used.
        """
        uri = tracking_uri()
        try:
            with _one_process_at_a_time():
                run = self._open(uri, provenance, run_id)
        except Exception as error:
            raise TrainingError(
                f"MLflow at {uri} cannot be used: {error}. Start that server, or set MLFLOW_TRACKING_URI to another "
                "one, or unset it to write mlflow.db in the repository"
            ) from error
        try:
            yield run
        except BaseException:
            run.end("FAILED")
            raise
        run.end("FINISHED")

    def pipeline_key(self, provenance: Provenance) -> str:
        """One key for all members of one pipeline run: its parameters, experiment, code and inputs.

        The commit is not part of it, since it may change while the pipeline runs.
        """
        parts = [self.pipeline.model_dump(mode="json"), experiment_name(), dict(provenance.hashes)]
        return sha256_of_json(parts + [self.title] * bool(self.title))

    def _open(self, uri: str, provenance: Provenance, run_id: str | None) -> MLflowRun:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # the default waits minutes for a dead server
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = _experiment(client, uri)
        found = (
            _known_run(client, run_id)
            or self._unfinished_child(client, experiment, provenance)
            or self._new_child(client, experiment, provenance)
        )
        run = MLflowRun(client, found)
        client.update_run(run.run_id, status="RUNNING")
        client.update_run(run.parent_id, status="RUNNING")
        return run

    def _unfinished_child(self, client: "MlflowClient", experiment: str, provenance: Provenance) -> "Run | None":
        """The run of a training that was killed before its first checkpoint."""
        parent = _find(client, experiment, {PIPELINE_TAG: self.pipeline_key(provenance)})
        if parent is None:
            return None
        tags = {PARENT_TAG: parent.info.run_id, FINGERPRINT_TAG: provenance.fingerprint}
        return _find(client, experiment, tags, extra=" and attributes.status != 'FINISHED'")

    def _new_child(self, client: "MlflowClient", experiment: str, provenance: Provenance) -> "Run":
        key = self.pipeline_key(provenance)
        parent = _find(client, experiment, {PIPELINE_TAG: key})
        if parent is None:
            name = self.title or experiment_name() or f"repro-{git_commit()[:7]}"
            tags = {PIPELINE_TAG: key, **_common_tags()}
            parent = client.create_run(experiment, tags=tags, run_name=name)
            _log_parameters(client, parent, self.pipeline.model_dump(mode="json"))
        name = self.run_name or provenance.member
        tags = {
            PARENT_TAG: parent.info.run_id,
            MEMBER_TAG: name,
            FINGERPRINT_TAG: provenance.fingerprint,
            **{f"matscout.sha256.{name}": digest for name, digest in provenance.hashes.items()},
            **_common_tags(),
        }
        child = client.create_run(experiment, tags=tags, run_name=name)
        _log_parameters(client, child, provenance.parameters)
        return child


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else the file that plain `mlflow ui` opens in the repository."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root() / 'mlflow.db'}"


def experiment_id() -> str:
    """Identifier of the experiment that all runs belong to, made if it is not there yet."""
    from mlflow.tracking import MlflowClient

    with _one_process_at_a_time():
        return _experiment(MlflowClient(tracking_uri=tracking_uri()), tracking_uri())


@contextmanager
def _one_process_at_a_time() -> Iterator[None]:
    """Two processes that meet a fresh SQLite file race its migration; two members would make two parents."""
    with locked(root() / CHECKPOINTS / "mlflow.lock"):
        yield


def _experiment(client: "MlflowClient", uri: str) -> str:
    """Identifier of the experiment; a local one keeps artifacts beside the database, not where it was started."""
    known = client.get_experiment_by_name(EXPERIMENT)
    if known:
        return known.experiment_id
    artifacts = (root() / "mlartifacts").as_uri() if uri.startswith("sqlite") else None
    return client.create_experiment(
        EXPERIMENT, artifact_location=artifacts, tags={KIND_TAG: "custom_model_development"}
    )


def _known_run(client: "MlflowClient", run_id: str | None) -> "Run | None":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id) if run_id else None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            logger.warning("run %s of the checkpoint is not at %s; beginning another", run_id, client.tracking_uri)
            return None
        raise


def _find(client: "MlflowClient", experiment: str, tags: Mapping[str, str], extra: str = "") -> "Run | None":
    clauses = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs = client.search_runs([experiment], clauses + extra, max_results=1)
    return runs[0] if runs else None


def _name(key: str) -> str:
    """A name that MLflow takes: `band_gap@oqmd` of a pretraining, or a goal's `Li-ion (cathode)`, with colons."""
    return re.sub(r"[^\w\-. :/]", ":", key, flags=re.ASCII)


def _log_parameters(client: "MlflowClient", run: "Run", tree: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    flat = flatten(tree)
    for start in range(0, len(flat), 100):  # MLflow's limit per request
        client.log_batch(
            run.info.run_id, params=[Param(_name(k), str(v)) for k, v in list(flat.items())[start : start + 100]]
        )


def _common_tags() -> dict[str, str]:
    tags = {"mlflow.source.git.commit": git_commit(), "mlflow.source.name": "matscout"}
    return tags | ({"dvc.experiment": experiment_name()} if experiment_name() else {})
