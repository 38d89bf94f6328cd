"""Rows that the tests of this folder share: the bundled sample, and small ones by hand."""

from functools import cache
from pathlib import Path

import yaml

from matscout.params import Database
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot
from matscout.sources.snapshots.snapshot_files import read_manifest, read_page

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "sample"


@cache
def sample_records(name):
    return tuple(read_snapshot(SAMPLE / name))


@cache
def sample_pages(name):
    return tuple(read_page(SAMPLE / name / page) for page in read_manifest(SAMPLE / name).pages)


def database(name, **changes):
    """The block of params.yaml with some values replaced, nested ones named with double underscores."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())["databases"][name]
    for path, value in changes.items():
        *parents, key = path.split("__")
        node = tree
        for parent in parents:
            node = node[parent]
        node[key] = value
    return Database.model_validate(tree)


def split(items):
    """Records and rejections."""
    items = list(items)
    records = [item for item in items if isinstance(item, Record)]
    return records, [item for item in items if not isinstance(item, Record)]
