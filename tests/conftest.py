"""What several rooms share: a clone, in a folder with a space in its name, whose pipeline ran once."""

from pathlib import Path

import pytest

# Rooms whose tests run whole pipelines: first, so that no worker (`-n 3 --dist loadfile`) is left with one alone.
LONGEST = ("pipeline", "docs", "notebooks")


def pytest_collection_modifyitems(items):
    """The longest files first; otherwise the order stays."""

    def place(item):
        room = Path(item.path).relative_to(Path(__file__).parent).parts[0]
        return LONGEST.index(room) if room in LONGEST else len(LONGEST)

    items.sort(key=place)


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
