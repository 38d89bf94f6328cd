"""The command line: help with examples, one message per mistake, documented exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from matscout.cli import app

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if not command.hidden]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_s_help_has_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"matscout {command}" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["predict", "absent.cif", "-o", "out.parquet"], "absent.cif"),
        (["predict", "absent.cif", "-o", "out.xlsx"], ".parquet or .csv"),
        (["results"], "repository root"),
        (["why-merged", "mp-149"], "curate"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_1(tmp_path, arguments, told):
    program = Path(sys.executable).parent / "matscout"
    done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_usage_is_exit_code_2():
    assert CliRunner().invoke(app, ["predict"]).exit_code == 2
    assert CliRunner().invoke(app, ["no-such-command"]).exit_code == 2
