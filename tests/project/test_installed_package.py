"""A newcomer's path: `pip install .` in a clean environment, then two commands and a line of Python in any folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from imports import ROOT
from newcomer import write_cifs
from tiny_clone import copy_compiled, tracked_files

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A virtual environment with the package alone; other packages come from this environment, nothing from the clone."""
    root = tmp_path_factory.mktemp("newcomer")
    for name in tracked_files():
        if name.startswith(("src/", "pyproject.toml", "README.md", "LICENSE")):
            (root / "matscout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / "matscout" / name)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / "venv"], check=True)
    python = root / "venv" / "bin" / "python"
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--no-build-isolation", "--no-index", root / "matscout"], check=True, env=clean())
    with_machine_code(packages)
    return root


def with_machine_code(packages):
    """Give the installed package what numba compiled in the clone: most of a minute of processor."""
    source, target = ROOT / "src" / "matscout", packages / "matscout"
    for file in target.rglob("*.py"):
        shutil.copystat(source / file.relative_to(target), file)  # which numba compares
    copy_compiled(source, target)


def clean():
    return {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DVC", "MATSCOUT", "PYTEST"))
    }


def run(installed, *command):
    path = f"{installed / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    told = subprocess.run(
        command,
        cwd=installed,
        env=clean() | {"PATH": path, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    return told


@pytest.fixture(scope="module", autouse=True)
def folder(installed):
    write_cifs(installed / "cifs")


def test_a_folder_is_predicted_in_a_table_that_fits_the_terminal(installed):
    told = run(installed, "matscout", "predict", "cifs")
    head, *lines = told.stdout.rstrip().splitlines()
    assert all(words in head for words in ("formula", "PBE gap, eV", "formation, eV/at.", "above hull, eV/at."))
    assert max(map(len, lines)) <= 120  # a pipe counts as a terminal of this width
    formulas = [line.split()[1] for line in lines if not line.startswith(" ")]
    assert sorted(formulas) == ["BN", "CsF", "KBr", "LiF", "MgO", "NaCl", "Si"]
    assert "known formula (mp-149)" in told.stdout
    for name, reason in (("slab", "not_bulk"), ("water", "not_bulk"), ("alloy", "disordered")):
        assert f"left out cifs/{name}.cif row 0: {reason}" in told.stderr
    assert "answered by the release" in told.stderr
    assert sorted(path.name for path in installed.iterdir()) == ["cifs", "matscout", "venv"]


def test_the_folder_is_ranked_by_a_goal(installed):
    told = run(installed, "matscout", "screen", "cifs", "--goal", "transparent_conductor")
    lines = told.stdout.splitlines()
    assert "rank" in lines[0]
    assert sum(line.split()[0].isdigit() for line in lines[1:] if line.split()) == 7


def test_python_gives_the_same(installed):
    code = (
        "import matscout; t = matscout.predict('cifs/MgO.cif'); print(matscout.__file__); print(t['formula'].tolist())"
    )
    file, formulas = run(installed, "python", "-c", code).stdout.splitlines()
    assert Path(file).is_relative_to(installed / "venv")
    assert formulas == "['MgO']"
