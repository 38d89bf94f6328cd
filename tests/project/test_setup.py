"""`setup.sh` on machines where something is absent or too old: it says what, and how to get it."""

import shutil
import subprocess

import pytest
from imports import ROOT

NEEDED = ("sh", "cat", "dirname", "sed", "rm", "mkdir", "mktemp", "cp", "chmod", "grep", "uname")
CUDA_BUILD = '"requires_dist": ["filelock", "nvidia-cudnn-cu13==9.20.0.48; platform_system == \\"Linux\\""]'
CPU_BUILD = '"requires_dist": ["filelock"]'
PYTHON = """#!/bin/sh
# Python, pip and uv that only note what they are asked for
case "$*" in
  "-c "*) ;;
  *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *--dry-run*) cat "$PLAN" ;;
  *--target*)
    for folder; do [ "$last" != --target ] || break; last=$folder; done
    mkdir -p "$folder/bin"
    { echo '#!/bin/sh'; echo 'echo "uv $*" >> "$NOTES"'; echo 'exit "$UV_LEAVES"'; } > "$folder/bin/uv"
    chmod +x "$folder/bin/uv" ;;
  *) echo "$*" >> "$NOTES" ;;
esac
"""


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


def set_up(folder, tmp_path, **environment):
    """Run a copy of setup.sh, so that a broken check could not touch this checkout's .venv."""
    copy = tmp_path / "a clone"
    copy.mkdir()
    for name in ("setup.sh", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, copy / name)
    shell = shutil.which("sh")
    return subprocess.run(
        [shell, copy / "setup.sh"],
        env={"PATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
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


@pytest.fixture
def complete(machine, tmp_path):
    """A machine with all that is needed; how to set up on it, and what was then asked of pip and uv for torch."""
    fake(machine, "git", "git version 2.39.5")
    fake(machine, "make", "GNU Make 4.3")
    (machine / "python3.12").write_text(PYTHON)
    (machine / "python3.12").chmod(0o755)
    notes, plan = tmp_path / "notes", tmp_path / "plan.json"

    def asked(build, **environment):
        plan.write_text(build)
        variables = {"NOTES": str(notes), "PLAN": str(plan), "UV_LEAVES": "0", "TMPDIR": str(tmp_path)}
        done = set_up(machine, tmp_path, **variables | environment)
        assert done.returncode == 0, done.stderr
        told = [line.split(" install ", 1) for line in notes.read_text().splitlines() if "torch==" in line]
        return [(line.split()[0] == "uv", rest) for line, rest in told], done.stderr

    return asked


PIP = (False, "--quiet torch==2.13.0")


def test_without_a_gpu_torch_s_build_for_cpus_is_taken(complete):
    [(by_uv, arguments)], told = complete(CUDA_BUILD)
    assert by_uv
    assert "--torch-backend=cpu torch==2.13.0" in arguments
    assert "no NVIDIA GPU is here" in told
    assert "default build" not in told


def test_where_that_build_cannot_be_had_the_default_is_taken_and_said(complete):
    [(by_uv, _), default], told = complete(CUDA_BUILD, UV_LEAVES="2")
    assert by_uv
    assert default == PIP
    assert "could not be had (see above), so pip's default build is installed" in told


@pytest.mark.parametrize("build", [CPU_BUILD, ""])
def test_where_pip_has_that_build_nothing_else_is_asked(complete, build):
    assert complete(build)[0] == [PIP]


def test_with_a_gpu_the_default_build_is_taken(complete, machine):
    (machine / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200'\n")
    (machine / "nvidia-smi").chmod(0o755)
    assert complete(CUDA_BUILD)[0] == [PIP]


def test_torch_args_go_before_everything(complete):
    asked, _ = complete(CUDA_BUILD, TORCH_ARGS="--index-url there")
    assert asked == [(False, "--quiet torch==2.13.0 --index-url there")]
