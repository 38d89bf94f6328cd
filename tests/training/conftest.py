import pytest
from tiny_training import train, write_tiny_inputs

from matscout.files import sha256_of


@pytest.fixture(scope="session")
def tiny_inputs(tmp_path_factory):
    return write_tiny_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def dvc_root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    return tmp_path / "root"


@pytest.fixture(scope="session")
def uninterrupted(tiny_inputs, tmp_path_factory):
    """Folder and hash of an untouched training."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setenv("DVC_ROOT", str(folder / "root"))
        context.setattr("matscout.training.train_member.member_run", None)
        train(tiny_inputs, folder / "member", dvc_root=folder / "root")
    return folder / "member", sha256_of(folder / "member")
