"""What several rooms share: a clone, in a folder with a space in its name, whose pipeline ran once."""

from pathlib import Path

import pytest

# Rooms whose tests share one clone: each is one worker's work, and the longest, so that they begin first.
WITH_A_CLONE = ("pipeline", "docs", "notebooks")


def pytest_collection_modifyitems(items):
    """Order and groups for `-n 2 --dist loadgroup`: the tests of a file, or of a room with a clone, stay together."""

    def room(item):
        return Path(item.path).relative_to(Path(__file__).parent).parts[0]

    items.sort(key=lambda item: WITH_A_CLONE.index(room(item)) if room(item) in WITH_A_CLONE else len(WITH_A_CLONE))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(room(item) if room(item) in WITH_A_CLONE else str(item.path)))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """That clone itself, with its runs in MLflow; tests run more in it."""
    from tiny_clone import copy_clone, make_clone, tiny_params, tiny_records  # heavy: only for tests that need it

    clone = make_clone(tmp_path_factory.mktemp("tiny run") / "a clone", tiny_params(), tiny_records())
    clone.first_run = clone.dvc("repro")
    clone.run("git", "add", "dvc.lock", "metrics")
    clone.run("git", "commit", "-q", "-m", "first run")
    clone.as_it_was = copy_clone(clone, clone.root.parent / "as it was")
    return clone


@pytest.fixture(scope="session")
def pristine(tiny):
    """The same after its first run, whatever tests did to `tiny` since; to be read and copied, never changed."""
    return tiny.as_it_was


@pytest.fixture
def copied(pristine, tmp_path):
    """A copy of that clone, to be spoilt."""
    from tiny_clone import copy_clone

    return copy_clone(pristine, tmp_path / "a copy")
