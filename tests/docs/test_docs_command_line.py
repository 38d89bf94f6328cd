"""What docs/guides/command_line.md promises of shells, pipes and the table of commands."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from imports import ROOT
from typer.main import get_command

from matscout.cli import app
from matscout.progress import progress

BIN = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
COMPLETE = """
eval "$(_MATSCOUT_COMPLETE=source_bash matscout)"
COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_matscout_completion matscout; echo "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("matscout ex", ["export"]), ("matscout why", ["why-merged"]), ("matscout export --t", ["--top"])],
)
def test_bash_completes(typed, offered):
    done = subprocess.run(["bash", "-c", COMPLETE % typed], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered


@pytest.mark.parametrize(
    "arguments", [["--help"], ["predict", "--help"], ["predict"], ["predict", "absent.cif", "-o", "x.csv"]]
)
def test_no_colour_in_pipes(arguments):
    done = subprocess.run([BIN / "matscout", *arguments], env=ENVIRONMENT, capture_output=True, check=False)
    assert done.stdout + done.stderr
    assert b"\x1b" not in done.stdout + done.stderr


def test_progress_in_a_pipe_is_plain_and_rare(monkeypatch):
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    for _ in progress(range(1000), description="work"):
        pass
    written = pipe.getvalue()
    assert "\x1b" not in written
    assert written.isascii()
    assert written.count("\r") <= 3


def test_every_command_is_in_the_table():
    page = (ROOT / "docs/guides/command_line.md").read_text()
    assert set(re.findall(r"^\| `matscout (\S+?)` \|", page, re.MULTILINE)) == {
        name for name, command in get_command(app).commands.items() if not command.hidden
    }
