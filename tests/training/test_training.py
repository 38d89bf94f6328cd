"""What decides a member's weights is in its code hash, and nothing else is."""

import pytest

from matscout.resume.fingerprint import SOURCES, code_files


@pytest.fixture(scope="module")
def deciding():
    return {file.relative_to(SOURCES / "matscout").as_posix() for file in code_files("matscout.training")}


@pytest.mark.parametrize(
    "name", ["training/trainer.py", "models/encoders/cgcnn.py", "graphs/crystal_graph.py", "columns.py"]
)
def test_code_that_decides_the_weights_is_hashed(deciding, name):
    assert name in deciding


@pytest.mark.parametrize("name", ["training/tracking.py", "report/page.py", "progress.py"])
def test_code_that_only_tells_is_not(deciding, name):
    assert name not in deciding
