"""Snapshots written whole: from records, or copied from the bundled sample."""

import logging
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from matscout.crystal_checks import Rejection
from matscout.errors import InputError
from matscout.files import atomic_path
from matscout.layout import QUARANTINE
from matscout.progress import progress
from matscout.sources.formats import own_records
from matscout.sources.record import Losses, Record
from matscout.sources.snapshots.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from matscout.sources.snapshots.page_files import ROWS_PER_PAGE, read_page, write_page

Item = TypeVar("Item")
LOG = logging.getLogger(__name__)


def copy_snapshot(source: Path, destination: Path, name: str) -> None:
    """Copy a bundled snapshot, its pages checked against the manifest.

    Args:
        source: folder of the bundled snapshot.
        destination: folder, replaced as a whole.
        name: of the database, which the copy takes.
    """
    manifest = read_manifest(source)
    with atomic_path(destination, mark=MANIFEST_NAME) as folder:
        folder.mkdir()
        for page, sha256 in manifest.pages.items():
            read_page(source / page, sha256)
            shutil.copyfile(source / page, folder / page)
        write_manifest(folder, manifest.model_copy(update={"source": name}))


def write_records(items: Iterable[Record | Rejection], destination: Path, **manifest: Any) -> None:
    """Write records and rejections as a snapshot of our own format, one page in memory at a time.

    Args:
        items: what to write, in order.
        destination: folder to make.
        **manifest: the fields of `Manifest` that are known without the rows.

    Raises:
        InputError: not one record is among `items`; the message tells why the first rows were rejected.
    """
    n_rows, pages, reasons, losses = 0, {}, [], Losses()
    bar = progress(description=f"import {manifest['source']}", unit="row")
    with atomic_path(destination, mark=MANIFEST_NAME) as folder, bar:
        folder.mkdir()
        for number, chunk in enumerate(_chunks(items, ROWS_PER_PAGE)):
            page, sha256 = write_page(folder, number, own_records.page_of(chunk))
            pages[page] = sha256
            n_rows += sum(isinstance(item, Record) for item in chunk)
            reasons += [f"{i.file} row {i.row}: {i.reason}, {i.detail}" for i in chunk if isinstance(i, Rejection)][:3]
            for item in chunk:
                losses.count(item)
            bar.update(len(chunk))
        if not n_rows:
            message = f"{manifest['endpoint']} holds no usable row; {'; '.join(reasons[:3]) or 'it has no rows at all'}"
            raise InputError(message)
        write_manifest(folder, Manifest(format=own_records.FORMAT, n_rows=n_rows, pages=pages, **manifest))
    for warning in losses.warnings(QUARANTINE):
        LOG.warning(warning)


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
