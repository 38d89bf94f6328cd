"""Shards on a disk that cuts files off or flips bits: what is damaged is made again, never used."""

import errno
import logging
import subprocess
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest

from matscout.resume.parts import Parts

TABLE = pa.table({"id": ["a", "b", "c"], "value": [1.0, 2.0, None]})


@pytest.fixture
def shards(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def opened():
        return Parts(tmp_path)

    opened().save_table("judged-1", TABLE)
    opened().save_array("verdicts-0-0", np.arange(1000, dtype=np.int8))
    return opened


def cut_off(content: bytes) -> bytes:
    return content[:-100]


def flip_a_bit(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_what_was_kept_is_there(shards):
    assert shards().table("judged-1").equals(TABLE)
    assert shards().array("verdicts-0-0").tolist() == np.arange(1000, dtype=np.int8).tolist()
    assert shards().table("judged-10") is None
    assert shards().array("verdicts-0-1") is None


@pytest.mark.parametrize("damage", [cut_off, flip_a_bit])
@pytest.mark.parametrize(("name", "read"), [("judged-1", "table"), ("verdicts-0-0", "array")])
def test_a_damaged_shard_is_absent_with_a_warning(shards, name, read, damage, caplog):
    (path,) = shards().folder.glob(f"{name}.*")
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert getattr(shards(), read)(name) is None
    assert "cut off or changed on disk" in caplog.text
    assert not path.exists()


def test_a_shard_kept_again_replaces_what_was_damaged(shards):
    (path,) = shards().folder.glob("judged-1.*")
    path.write_bytes(flip_a_bit(path.read_bytes()))
    again = shards()
    assert again.table("judged-1") is None
    again.save_table("judged-1", TABLE)
    assert shards().table("judged-1").equals(TABLE)


def test_a_part_saved_again_replaces_the_one_before(shards):
    for value in (2.0, 3.0, 2.0):
        shards().save_table("judged-1", other := pa.table({"value": [value]}))
        assert shards().table("judged-1").equals(other)
    assert len(list(shards().folder.glob("judged-1.*"))) == 1


@pytest.mark.parametrize(
    "damage", [lambda folder: (folder / "b").unlink(), lambda folder: (folder / "a").write_text("2")]
)
def test_a_folder_is_a_part_too(shards, damage):
    with shards().writing("member", "folder") as path:
        path.mkdir()
        (path / "a").write_text("1")
        (path / "b").write_text("1")
    kept = shards().file("member", "folder")
    assert sorted(file.name for file in kept.iterdir()) == ["a", "b"]
    damage(kept)
    assert shards().file("member", "folder") is None
    assert not kept.exists()


def test_what_a_killed_run_was_writing_does_not_count(shards):
    (shards().folder / "judged-2.arrow.written").write_bytes(b"half")
    (shards().folder / ".judged-2.arrow.written.1.partial").write_bytes(b"half")
    assert shards().table("judged-2") is None


@contextmanager
def full_disk(folder):
    """A file system of 64 kB; the test is skipped where this user may not mount one."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_told_and_keeps_nothing_half_written(tmp_path):
    noise = np.random.default_rng(0).normal(size=100_000)
    with full_disk(tmp_path):
        for save in (
            lambda: Parts(tmp_path).save_table("judged-1", pa.table({"value": noise})),
            lambda: Parts(tmp_path).save_array("verdicts-0-0", noise),
        ):
            with pytest.raises(OSError, match="No space left on device") as caught:
                save()
            assert caught.value.errno == errno.ENOSPC
            assert list(tmp_path.iterdir()) == []
