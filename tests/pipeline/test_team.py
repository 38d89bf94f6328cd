"""One cache and one remote for a team: what a colleague gets, sends, and merges."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from tiny_clone import copy_clone, git_clone

from matscout.files import sha256_of

pytestmark = pytest.mark.slow

BUCKET = "team"
OUTS = (
    "raw",
    "curated",
    "hypothetical",
    "training",
    "graphs",
    "splits",
    "members",
    "ensemble",
    "candidates",
    "screening",
    "report",
    "plots",
)


@dataclass
class Remote:
    name: str
    url: str
    options: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)

    def join(self, clone):
        clone.environment |= self.environment

    def add_to(self, clone):
        self.join(clone)
        clone.dvc("remote", "add", self.name, self.url)
        for key, value in self.options.items():
            clone.dvc("remote", "modify", self.name, key, value)
        clone.run("git", "commit", "-q", "-a", "-m", f"a {self.name}")


class FolderRemote(Remote):
    def count(self):
        return sum(path.is_file() for path in Path(self.url).rglob("*"))


class S3Remote(Remote):
    def count(self):
        from boto3 import Session

        session = Session(self.environment["AWS_ACCESS_KEY_ID"], self.environment["AWS_SECRET_ACCESS_KEY"])
        pages = session.client("s3", endpoint_url=self.options["endpointurl"]).get_paginator("list_objects_v2")
        return sum(len(page.get("Contents", [])) for page in pages.paginate(Bucket=BUCKET))


@pytest.fixture
def folder(tmp_path):
    return FolderRemote("folder", str(tmp_path / "remote"))


@pytest.fixture
def s3(tmp_path):
    pytest.importorskip("dvc_s3")
    moto = pytest.importorskip("moto.server")
    import boto3

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    files = {name: str(tmp_path / "none") for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
    client = boto3.Session("key", "secret", region_name="us-east-1").client("s3", endpoint_url=url)
    client.create_bucket(Bucket=BUCKET)
    yield S3Remote("bucket", f"s3://{BUCKET}/store", {"endpointurl": url}, keys | files)
    server.stop()


def cached(clone):
    files = clone.root / ".dvc/cache/files"
    return {path.relative_to(files) for path in files.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_colleague_gets_everything_and_sends_back_one_member_alone(folder, s3, pristine, tmp_path):
    """Over a folder and over the S3 API: all comes from the one, and a second look at the other gets the same."""
    author, remotes = copy_clone(pristine, tmp_path / "author"), (folder, s3)
    for remote in remotes:
        remote.add_to(author)
        author.dvc("push", "--remote", remote.name)
        assert remote.count() == len(cached(author))
    pushed = len(cached(author))

    colleague = git_clone(author, tmp_path / "elsewhere" / "colleague")
    s3.join(colleague)
    for remote in remotes:
        for name in ("data", ".dvc/cache"):
            shutil.rmtree(colleague.root / name, ignore_errors=True)
        colleague.run("git", "checkout", "-q", "--", "data")
        colleague.dvc("pull", "--remote", remote.name)
        for out in OUTS:
            assert sha256_of(colleague.root / "data" / out) == sha256_of(author.root / "data" / out), out
    assert colleague.changed() == set()
    assert colleague.stages_run(colleague.dvc("repro").stdout) == []

    colleague.edit_params(lambda tree: tree["members"]["composition"]["training"].update(seed=99))
    assert colleague.stages_run(colleague.dvc("repro", "train@composition").stdout) == ["check", "train@composition"]
    colleague.run("git", "commit", "-q", "-a", "-m", "another seed")
    member = "data/members/composition"
    for remote in remotes:
        colleague.dvc("push", "--remote", remote.name, "train@composition")
        sent = remote.count() - pushed
        assert 1 <= sent <= 1 + len(list((colleague.root / member).iterdir()))

    before = cached(author)
    author.run("git", "pull", "-q", str(colleague.root), "main")
    author.dvc("pull", "--remote", s3.name, "train@composition")
    assert len(cached(author) - before) == sent
    assert sha256_of(author.root / member) == sha256_of(colleague.root / member)


def disk_use(*folders):
    """Bytes on disk of the distinct files below."""
    inodes = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                inodes[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(inodes.values())


def test_a_shared_cache_holds_each_file_once_and_is_not_written_through(pristine, tmp_path):
    shared = copy_clone(pristine, tmp_path / "origin").root / ".dvc/cache"
    clones = [git_clone(pristine, tmp_path / name) for name in ("one", "two")]
    for clone in clones:
        settings = {"cache.dir": str(shared), "cache.shared": "group", "cache.type": "hardlink,symlink,copy"}
        for key, value in settings.items():
            clone.dvc("config", "--local", key, value)
        clone.dvc("checkout")
        assert clone.stages_run(clone.dvc("repro").stdout) == []
    outs = [clone.root / "data" / out for clone in clones for out in OUTS]
    alone = disk_use(shared)
    assert disk_use(*outs) > 0.5 * alone
    assert disk_use(shared, *outs) == alone
    one, two = clones
    one.dvc("repro", "--force", "--single-item", "split")
    assert two.changed() == set()


def add_member(clone, name, after):
    """As a colleague does: a block in params.yaml."""

    def change(tree):
        block = yaml.safe_load(yaml.safe_dump(tree["members"][after]))
        block["training"]["seed"] = 77
        items = list(tree["members"].items())
        items.insert(list(tree["members"]).index(after) + 1, (name, block))
        tree["members"] = dict(items)

    clone.edit_params(change)


def test_two_branches_that_each_add_a_member_merge_without_training_again(copied):
    for branch, after in (("one", "cgcnn"), ("two", "comformer")):
        copied.run("git", "checkout", "-q", "-b", branch, "main")
        copied.dvc("checkout")
        add_member(copied, f"{after}_again", after)
        assert copied.stages_run(copied.dvc("repro", "train").stdout) == ["check", f"train@{after}_again"]
        assert "evaluate" in copied.changed()
        copied.run("git", "commit", "-q", "-a", "-m", f"another {after}")
    copied.run("git", "merge", "-q", "one", check=False)
    conflicts = copied.run("git", "diff", "--name-only", "--diff-filter=U").stdout.split()
    assert set(conflicts) <= {"dvc.lock"}
    (copied.root / "dvc.lock").unlink()
    assert copied.stages_run(copied.dvc("repro", "train").stdout) == ["check"]
    copied.run("git", "add", "dvc.lock")
    copied.run("git", "commit", "-q", "-m", "merged")
    for name in ("cgcnn_again", "comformer_again"):
        assert (copied.root / "data/members" / name / "weights.safetensors").exists()
        assert f"train@{name}:" in copied.lock()
