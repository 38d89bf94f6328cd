"""What a clone's mlflow.db holds, read without MLflow."""

import sqlite3
from dataclasses import dataclass, field


@dataclass
class Run:
    name: str
    status: str
    tags: dict = field(default_factory=dict)
    params: dict = field(default_factory=dict)
    children: list = field(default_factory=list)
    points: list = field(default_factory=list)


def pipeline_runs(clone):
    """The parent runs, each with its children."""
    runs = {}
    with sqlite3.connect(clone.root / "mlflow.db") as database:
        for key, name, status in database.execute("select run_uuid, name, status from runs"):
            runs[key] = Run(name, status)
        for key, tag, value in database.execute("select run_uuid, key, value from tags"):
            runs[key].tags[tag] = value
        for key, param, value in database.execute("select run_uuid, key, value from params"):
            runs[key].params[param] = value
        for key, metric, step in database.execute("select run_uuid, key, step from metrics"):
            runs[key].points.append((metric, step))
    for run in runs.values():
        if parent := run.tags.get("mlflow.parentRunId"):
            runs[parent].children.append(run)
    return [run for run in runs.values() if "mlflow.parentRunId" not in run.tags and run.children]


def epochs_logged(run):
    """Steps of the training loss, in order, doubled ones included."""
    return sorted(step for metric, step in run.points if metric == "train_loss")
