"""What DVC would run: the stages that changed, and the members that are neither up to date nor in its cache."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from matscout.errors import InputError

INPUT_STAGES = ("featurize",)  # curate, split and hypothetical come before it
PATIENCE_S = 20.0  # with a lock of DVC's


def changed_stages(names: Sequence[str]) -> list[str]:
    """Those of the stages, and of the stages before them, that `dvc repro` would run.

    Raises:
        InputError: no DVC repository here, or DVC is at work in it.
    """
    return _answer(lambda repo: sorted(repo.status(targets=list(names), with_deps=True)))


def members_to_train(names: Sequence[str]) -> list[str]:
    """Members that `dvc repro` would train: neither up to date nor in its cache.

    Raises:
        InputError: no DVC repository here, or DVC is at work in it.
    """

    def to_train(repo: Any) -> list[str]:
        with repo.lock:
            return [name for name in names if _would_run(repo.stage.load_one(name=f"train@{name}"))]

    return _answer(to_train)


def _would_run(stage: Any) -> bool:
    return stage.changed() and not _can_be_restored(stage)


def _can_be_restored(stage: Any) -> bool:
    """Whether DVC has the outputs in its cache, by dvc.lock or by what it ran before: what its `repro` looks for."""
    from dvc.stage.cache import RunCacheNotFoundError

    if stage.changed_stage() or stage.changed_deps():
        stage.save_deps()  # of this object alone: their present hashes, by which to look for an earlier run
        stage.cmd_changed = True  # else they would be taken for those of dvc.lock
    try:
        stage.repo.stage_cache.restore(stage, dry=True)
    except RunCacheNotFoundError:
        return False
    return True


def _answer(question: Callable[[Any], list[str]]) -> list[str]:
    """What DVC says. It is locked for moments: the jobs of a cluster that begin together wait for each other."""
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    told = logging.getLogger("dvc")
    level = told.level
    told.setLevel(logging.WARNING)  # a question is not news
    until = time.monotonic() + PATIENCE_S
    try:
        while True:
            try:
                with Repo() as repo:
                    return question(repo)
            except LockError:
                if time.monotonic() > until:
                    raise
                time.sleep(1)
    except DvcException as error:
        raise InputError(f"DVC: {error}") from error
    finally:
        told.setLevel(level)
