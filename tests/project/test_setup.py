"""`setup.sh` on machines where something is absent or too old: it says what, and how to get it."""

import shutil
import subprocess

import pytest
from imports import ROOT

NEEDED = ("sh", "cat", "dirname", "sed", "rm", "mkdir")


@pytest.fixture
def machine(tmp_path):
    """A PATH that holds the plainest tools; more are added as fakes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in NEEDED:
        (folder / tool).symlink_to(shutil.which(tool))
    return folder


def fake(folder, name, says):
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n[ \"$1\" != -c ]\n")
    (folder / name).chmod(0o755)


def set_up(folder, tmp_path):
    """Run a copy of setup.sh, so that a broken check could not touch this checkout's .venv."""
    copy = tmp_path / "a clone"
    copy.mkdir()
    for name in ("setup.sh", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    shell = shutil.which("sh")
    return subprocess.run(
        [shell, copy / "setup.sh"], env={"PATH": str(folder)}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("present", "told"),
    [
        ({}, "git is not installed"),
        ({"git": "git version 2.39.5"}, "make is not installed"),
        ({"git": "git version 2.17.1", "make": "GNU Make 4.3"}, "git 2.17 is too old; matscout needs 2.20"),
        ({"git": "git version 1.8.3.1", "make": "GNU Make 4.3"}, "git 1.8 is too old"),
        ({"git": "git version 2.39.5", "make": "GNU Make 4.3"}, "Python 3.11, 3.12 or 3.13 was not found"),
        ({"git": "git version 2.39.5", "make": "GNU Make 4.3", "python3": "Python 3.9.2"}, "Python 3.9.2"),
    ],
)
def test_what_is_missing_is_said(machine, tmp_path, present, told):
    for name, says in present.items():
        fake(machine, name, says)
    done = set_up(machine, tmp_path)
    assert done.returncode == 1
    assert told in done.stderr
    assert not (tmp_path / "a clone" / ".venv").exists()
