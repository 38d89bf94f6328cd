"""What a user meets when data/, the cache, the disk or Git are not as they should be: docs/teamwork.md has the table."""

import shutil
import subprocess
from contextlib import contextmanager

import pytest
from tiny_clone import copy_clone, git_clone

pytestmark = pytest.mark.slow

NOT_CACHED = {"summarize"}  # its outputs are in Git


@contextmanager
def mounted(*options):
    """A mount for the length of a block; the test is skipped where this user may not mount."""
    target = options[-1]
    done = subprocess.run(["mount", *map(str, options)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_a_half_finished_data_folder_is_mended_from_the_cache(copied):
    before = copied.lock()
    data = copied.root / "data"
    (data / "members/cgcnn/weights.safetensors").unlink()
    (data / "members/megnet/metrics.json").write_text("{")
    (data / "graphs/stray.npy").write_bytes(b"left by somebody")
    (data / "members/.cogn.123.partial").mkdir()
    shutil.rmtree(data / "splits")
    assert set(copied.stages_run(copied.dvc("repro").stdout)) <= NOT_CACHED
    assert copied.lock() == before
    assert copied.changed() == set()
    assert not (data / "graphs/stray.npy").exists()


def test_without_dvc_lock_the_run_cache_knows_what_was_done(copied):
    before = copied.lock()
    (copied.root / "dvc.lock").unlink()
    assert set(copied.stages_run(copied.dvc("repro").stdout)) <= NOT_CACHED
    assert copied.lock() == before


def test_a_lock_file_that_a_kill_cut_off_is_mended_and_nothing_is_run_again(copied):
    before = copied.lock()
    for left in (before[: before.rindex("md5:") + 2], ""):
        (copied.root / "dvc.lock").write_text(left)
        done = copied.dvc("repro", check=False)
        assert done.returncode != 0
        assert "dvc.lock" in done.stderr
        assert "dvc.lock was half-written" in copied.run("matscout", "mend").stdout
        assert set(copied.stages_run(copied.dvc("repro").stdout)) <= NOT_CACHED
        assert copied.lock() == before


def test_a_missing_remote_is_named(pristine, tmp_path):
    clone = git_clone(pristine, tmp_path / "clone")
    done = clone.dvc("pull", check=False)
    assert done.returncode != 0
    assert "No remote provided and no default remote set" in done.stdout + done.stderr
    clone.dvc("remote", "add", "-d", "gone", str(tmp_path / "gone"))
    done = clone.dvc("pull", check=False)
    assert done.returncode != 0
    assert "missing" in (done.stdout + done.stderr).lower()
    assert not list((clone.root / "data").glob("members/*"))


def test_a_read_only_cache_stops_the_run_and_costs_nothing(copied):
    before, cache = copied.lock(), copied.root / ".dvc/cache"
    copied.edit_params(lambda tree: tree["split"].update(seed=5))
    with mounted("--bind", "-o", "ro", cache, cache):
        done = copied.dvc("repro", "split", check=False)
        assert done.returncode != 0
        assert "Read-only file system" in done.stdout + done.stderr
        assert copied.lock() == before
    assert copied.stages_run(copied.dvc("repro", "split").stdout) == ["check", "split"]
    copied.run("git", "checkout", "-q", "--", ".")
    copied.dvc("checkout")
    assert copied.changed() == set()


def test_a_full_disk_is_named_and_leaves_nothing_half_written(copied):
    folder = copied.root / "data/splits"
    shutil.rmtree(folder)
    folder.mkdir()
    copied.edit_params(lambda tree: tree["split"].update(seed=5))
    with mounted("-t", "tmpfs", "-o", "size=4k", "none", folder):
        (folder / "fill").write_bytes(b"x" * 4096)
        done = copied.dvc("repro", "split", check=False)
        assert done.returncode != 0
        assert "split: error: No space left on device" in done.stderr
        assert "free some space" in done.stderr
        assert "Traceback" not in done.stderr
        assert [path.name for path in folder.iterdir()] == ["fill"]
    assert copied.stages_run(copied.dvc("repro", "split").stdout) == ["split"]


@pytest.mark.parametrize(
    ("stage", "section", "change"), [("featurize", "graphs", {"symprec": 0.002}), ("screen", "screening", {"seed": 5})]
)
def test_a_full_disk_stops_a_stage_in_its_shards_and_it_goes_on_later(copied, stage, section, change):
    kept = copied.root / ".checkpoints"
    kept.mkdir(exist_ok=True)
    copied.edit_params(lambda tree: tree[section].update(change))
    with mounted("-t", "tmpfs", "-o", "size=16k", "none", kept):
        done = copied.dvc("repro", "--single-item", stage, check=False)
        assert done.returncode != 0
        assert f"{stage}: error: No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert not [path for path in kept.rglob("*") if path.is_file() and path.name != "lock"]
        assert not list((copied.root / "data").glob(".*.partial"))
    assert copied.stages_run(copied.dvc("repro", "--single-item", stage).stdout) == [stage]


def test_without_a_git_identity_the_pipeline_runs_and_experiments_too(pristine, tmp_path):
    clone = copy_clone(pristine, tmp_path / "clone")
    for key in ("user.name", "user.email"):
        clone.run("git", "config", "--unset", key)
    clone.environment |= {"HOME": str(tmp_path / "nobody"), "EMAIL": ""}
    assert clone.stages_run(clone.dvc("repro").stdout) == []
    done = clone.dvc("exp", "run", "split", "-S", "split.seed=5", check=False)
    assert done.returncode == 0, done.stderr
