"""What decides a member's weights is in its code hash, and nothing else is."""

import shutil
from pathlib import Path

import pytest

import matscout
from matscout.training.runs.training_hashes import code_hash


@pytest.fixture
def package(tmp_path, monkeypatch):
    copy = tmp_path / "matscout"
    shutil.copytree(Path(matscout.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(matscout, "__file__", str(copy / "__init__.py"))
    return copy


def edit(file):
    file.write_text(f"{file.read_text()}\n# edited\n")


@pytest.mark.parametrize(
    "name", ["training/loop/trainer.py", "models/encoders/cgcnn.py", "graphs/store/collate.py", "columns.py"]
)
def test_code_that_decides_the_weights_changes_the_hash(package, name):
    before = code_hash()
    edit(package / name)
    assert code_hash() != before


@pytest.mark.parametrize("name", ["training/runs/tracking.py", "report/page.py", "progress.py"])
def test_code_that_only_tells_does_not(package, name):
    before = code_hash()
    edit(package / name)
    assert code_hash() == before
