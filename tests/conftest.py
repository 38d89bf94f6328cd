"""What several rooms share: a clone, in a folder with a space in its name, whose pipeline ran once; quick processes."""

import multiprocessing
import os
import shutil
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

# a busy machine is slow, and that is no fault of the code
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Files are shared out in this order (`-n 3 --dist loadfile`): the longest first, so that no worker is left with one
# alone; while one makes the tiny run that most of them need, the others find files that do not.
FIRST = (
    "docs/test_docs_commands",
    "engine/test_ray_engine",
    "curation/test_curate",
    "training/test_shared_training",
    "ensemble/test_distill",
    "notebooks",
    "pipeline",
    "training",
    "sources",
    "report",
)


def pytest_collection_modifyitems(items):
    """Files in the order of `FIRST`; the others after them, as they were."""

    def place(item):
        path = Path(item.path).relative_to(Path(__file__).parent).as_posix()
        return next((rank for rank, start in enumerate(FIRST) if path.startswith(start)), len(FIRST))

    items.sort(key=place)


@pytest.fixture(scope="session")
def processes():
    """Children that start at once: their server has imported what trains.

    A fork of this process could deadlock on its threads. Python 3.11 does not hand its path to that server, which
    then imports nothing and says nothing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiny_training", "mlflow.tracking"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        forkserver.ensure_running()
    return context


@pytest.fixture(scope="session")
def first_run(tmp_path_factory, worker_id, pytestconfig):
    """That clone, made by whichever worker asks first; to be copied, never changed. `told` is what `dvc repro` said.

    Its outputs are kept in pytest's cache for as long as what decides them stays as it is; `--cache-clear` forgets them.
    """
    # heavy: only for tests that need it
    from tiny_clone import Clone, copy_clone, run_once

    own = tmp_path_factory.getbasetemp()
    place = (own if worker_id == "master" else own.parent) / "tiny run"
    root, told = place / "a clone", place / "told.txt"
    with FileLock(f"{place}.lock"):
        if not told.exists():
            shutil.rmtree(place, ignore_errors=True)  # another worker's attempt that failed
            output = run_once(root, kept=pytestconfig.cache.mkdir("tiny_run"))
            copy_clone(Clone(root), place / "as it was")
            told.write_text(output)
    clone = Clone(root)
    clone.told = told.read_text()
    return clone


@pytest.fixture(scope="session")
def tiny(first_run, tmp_path_factory):
    """This worker's copy, with its run in MLflow; tests run more in it."""
    from tiny_clone import copy_clone

    return copy_clone(first_run, tmp_path_factory.mktemp("tiny run") / "a clone", runs=True)


@pytest.fixture(scope="session")
def pristine(first_run):
    """The same without runs in MLflow, for all workers; to be read and copied, never changed."""
    from tiny_clone import Clone

    return Clone(first_run.root.parent / "as it was")


@pytest.fixture
def copied(pristine, tmp_path):
    """A copy of that clone, to be spoilt."""
    from tiny_clone import copy_clone

    return copy_clone(pristine, tmp_path / "a copy")
