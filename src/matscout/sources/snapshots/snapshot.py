"""A snapshot: a folder of raw pages and their manifest, read lazily as records."""

from collections.abc import Iterator
from pathlib import Path

from matscout.crystal_checks import Rejection
from matscout.errors import InputError
from matscout.sources.formats.page_formats import FORMATS, parse_page
from matscout.sources.record import Record
from matscout.sources.snapshots.manifest import read_manifest
from matscout.sources.snapshots.page_files import read_page


def read_snapshot(directory: Path) -> Iterator[Record | Rejection]:
    """Records of a snapshot in the order of its pages, one page in memory at a time.

    A row that cannot be used, or repeats an id, comes as a `Rejection`.

    Args:
        directory: of the snapshot.

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
            message = f"{Path(directory) / file} is no page of the format {manifest.format!r} ({error!r})"
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
