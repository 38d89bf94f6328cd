"""What several rooms share: a clone, in a folder with a space in its name, whose pipeline ran once."""

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    from tiny_clone import make_clone, tiny_params, tiny_records  # heavy: only for tests that need it

    clone = make_clone(tmp_path_factory.mktemp("tiny run") / "a clone", tiny_params(), tiny_records())
    clone.first_run = clone.dvc("repro")
    clone.run("git", "add", "dvc.lock", "metrics")
    clone.run("git", "commit", "-q", "-m", "first run")
    return clone


@pytest.fixture
def copied(tiny, tmp_path):
    """A copy of that clone, to be spoilt."""
    from tiny_clone import copy_clone

    return copy_clone(tiny, tmp_path / "a copy")
