"""Loopback services with the sample's rows, and a place for downloads that is thrown away."""

import contextlib

import pytest
from replay import MaterialsProject
from services import clear_heartbeat, start

from matscout.sources.services import http


@pytest.fixture(autouse=True)
def quick_and_apart(tmp_path, monkeypatch):
    """Short waits, own downloads, a key, no proxy."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MP_API_KEY", MaterialsProject.key)
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(http, "MAX_WAIT_S", 0.05)
    monkeypatch.setattr(http, "READ_TIMEOUT_S", 5.0)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    clear_heartbeat()


@pytest.fixture(params=["materials_project", "aflow", "oqmd"])
def service(request, tmp_path):
    with start(request.param, tmp_path) as running:
        yield running


@pytest.fixture
def start_service(tmp_path):
    """`start_service(name, ...)`: as `service`, with options."""
    with contextlib.ExitStack() as stack:
        yield lambda name, **options: stack.enter_context(start(name, tmp_path, **options))
