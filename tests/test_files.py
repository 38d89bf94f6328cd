"""Files are whole or absent, and their bytes depend on their content alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from matscout import files
from matscout.errors import InputError
from matscout.files import atomic_path, sha256_of, sha256_of_json, write_bytes, write_json, write_parquet


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    target = tmp_path / "a.json"
    write_bytes(target, b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_of_ours_is_replaced_whole(tmp_path):
    target = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic_path(target, mark="ours.json") as temporary:
            temporary.mkdir()
            (temporary / "ours.json").write_text("{}")
            (temporary / name).write_text(name)
    assert sorted(path.name for path in target.iterdir()) == ["ours.json", "second"]


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (".", "working directory"),
        ("..", "working directory or a parent"),
        ("../thesis", "holds files but no ours.json"),
        ("../repository", "is a repository"),
        ("link", "holds files but no ours.json"),
        ("table.parquet", "is a file"),
    ],
)
def test_what_is_not_ours_is_never_replaced(tmp_path, monkeypatch, place, told):
    """Nothing of a folder tree changes where the output's place holds somebody else's files."""
    here = tmp_path / "here"
    for name in ("here/a.txt", "thesis/chapter.tex", "repository/.git/HEAD", "here/table.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "repository/ours.json").write_text("{}")
    (here / "ours.json").write_text("{}")
    (here / "link").symlink_to(tmp_path / "thesis")
    monkeypatch.chdir(here)
    before = tree(tmp_path)
    with pytest.raises(InputError, match=told), atomic_path(Path(place), mark="ours.json") as temporary:
        temporary.mkdir()
    assert tree(tmp_path) == before


def test_a_file_does_not_replace_a_folder(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("text")
    with pytest.raises(InputError, match="is a folder"):
        write_bytes(tmp_path / "docs", b"new")
    assert (tmp_path / "docs" / "page.md").read_text() == "text"


def test_a_folder_that_somebody_filled_meanwhile_is_left(tmp_path):
    target = tmp_path / "folder"
    with pytest.raises(InputError, match="holds files"), atomic_path(target, mark="ours.json") as temporary:
        temporary.mkdir()
        target.mkdir()
        (target / "theirs.txt").write_text("theirs")
    assert tree(tmp_path) == {"folder/theirs.txt": b"theirs"}


def test_a_killed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "a.bin"
    write_bytes(target, b"old")
    code = (
        "import os, signal, sys; from pathlib import Path; from matscout.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as t:\n"
        "    t.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    assert len(list(tmp_path.glob(".*.partial"))) == 1
    theirs = tmp_path / f".b.bin.elsewhere.{os.getpid()}.partial"
    theirs.write_bytes(b"another machine is at it")
    monkeypatch.setattr(files, "_SWEPT", set())  # as in the process that comes next
    write_bytes(target, b"new")
    assert list(tmp_path.glob(".*.partial")) == [theirs]  # what the killed process left is gone


def test_parquet_bytes_are_stable(tmp_path):
    table = pd.DataFrame(
        {"material_id": ["mp-1", "mp-2"], "lattice": [np.eye(3).ravel()] * 2, "band_gap": [0.0, np.nan]}
    )
    for name in ("a", "b"):
        write_parquet(tmp_path / name, table)
        os.utime(tmp_path / name, (0, 0))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert pd.read_parquet(tmp_path / "a")["band_gap"].isna().tolist() == [False, True]


def test_json_is_sorted_and_refuses_nan(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": "Å"})
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["a", "b"]
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_a_folder_s_hash_sees_names_and_contents(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_text("1")
    before = sha256_of(tmp_path / "x")
    (tmp_path / "x" / "a").rename(tmp_path / "x" / "b")
    renamed = sha256_of(tmp_path / "x")
    (tmp_path / "x" / "b").write_text("2")
    assert len({before, renamed, sha256_of(tmp_path / "x")}) == 3
    assert sha256_of_json({"a": 1, "b": 2}) == sha256_of_json({"b": 2, "a": 1})
