"""Snapshots: written from records or from the bundled sample, and read lazily as records."""

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
from matscout.sources.services.page_formats import FORMATS, parse_page
from matscout.sources.snapshots.snapshot_files import (
    MANIFEST_NAME,
    ROWS_PER_PAGE,
    Manifest,
    read_manifest,
    read_page,
    write_manifest,
    write_page,
)


def read_snapshot(directory: Path) -> Iterator[Record | Rejection]:
    """Records of a snapshot in the order of its pages, one page in memory at a time.

    A row that cannot be used, or repeats an id, comes as a `Rejection`.

    Args:
        directory: directory of the snapshot.

    Yields:
        A record, or why the row is rejected.

    Raises:
        InputError: the manifest or a page is absent, damaged or of an unknown format.
    """
    manifest = read_manifest(directory)
    shape = FORMATS.get(manifest.format)
    if shape is None:
        message = f"{directory} has pages of the format {manifest.format!r}; known are {', '.join(sorted(FORMATS))}"
        raise InputError(message)
    seen: set[str] = set()
    for file, sha256 in sorted(manifest.pages.items()):
        content = read_page(Path(directory) / file, sha256)
        try:
            items = list(parse_page(content, shape, source=manifest.source, file=file))
        except (KeyError, TypeError, AttributeError) as error:
            message = f"{Path(directory) / file} is not a page of the format {manifest.format!r} ({error!r})"
            raise InputError(f"{message}; acquire the database again") from error
        yield from (_reject_repeated(item, seen) for item in items)


def _reject_repeated(item: Record | Rejection, seen: set[str]) -> Record | Rejection:
    if isinstance(item, Rejection):
        return item
    if item.material_id in seen:
        detail = "the id stands in this snapshot already; ids must be unique, the first row was kept"
        return item.reject("duplicate_id", detail)
    seen.add(item.material_id)
    return item


Item = TypeVar("Item")
LOG = logging.getLogger(__name__)


def copy_snapshot(source: Path, destination: Path, name: str) -> None:
    """Copy a bundled snapshot, its pages checked against the manifest.

    Args:
        source: folder of the bundled snapshot.
        destination: folder, replaced as a whole.
        name: name of the database, which the copy takes.
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
        InputError: `items` contains no record; the message gives the reasons of the first rejections.
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
