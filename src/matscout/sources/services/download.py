"""The download loop: it resumes, rejects repeated rows and ends in a snapshot."""

import errno
import logging
import shutil
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

from matscout.errors import InputError, SourceError
from matscout.files import atomic_path, sha256_of_json
from matscout.params import Database
from matscout.progress import progress
from matscout.resume.work_folders import DOWNLOADS, root
from matscout.sources.formats.page_formats import FORMATS, parse_page
from matscout.sources.licences import terms_of
from matscout.sources.record import Record
from matscout.sources.services.disk_space import check_download_fits
from matscout.sources.services.download_journal import Journal
from matscout.sources.services.fetcher import Fetcher, Page
from matscout.sources.services.retrying import GaveUpError, TransientError, patiently
from matscout.sources.snapshots.manifest import MANIFEST_NAME, Manifest, write_manifest
from matscout.sources.snapshots.page_files import read_page
from matscout.sources.unit_check import SAMPLE_ROWS, judge

LOG = logging.getLogger(__name__)
MAX_REPEATS = 4  # times that a page may hold rows of an earlier one before it counts as the service's fault
MOST_REPEATED = 0.5  # of a page's rows: one that repeats more is an earlier page
REPEATED = "repeated by the service"


def download(name: str, database: Database, fetcher: Fetcher, destination: Path, *, refresh: bool) -> None:
    """Fetch what is missing of one query and write its snapshot.

    A finished download is not repeated, unless `refresh` discards it.

    Args:
        name: of the database.
        database: its parameters.
        fetcher: asks the service.
        destination: folder of the snapshot, replaced as a whole.
        refresh: discard what was fetched and start over.

    Raises:
        SourceError: the service cannot be reached, refuses, or contradicts itself; the disk is full.
    """
    identity = {"query": fetcher.query, "endpoint": fetcher.endpoint, "page_size": database.service.page_size}
    journal = Journal(root() / DOWNLOADS / name / sha256_of_json(identity)[:16])
    with journal.locked():
        try:
            if refresh or not journal.is_finished:
                check_download_fits(journal.folder, database.query.limit - len(journal.ids), name)
                _fetch_rest(name, fetcher, journal, database, refresh=refresh)
            _publish(name, database.origin, fetcher, journal, destination)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            message = f"{name}: the disk is full at {len(journal.ids)} rows, which are kept; free some space, run again"
            raise SourceError(message) from error


def _fetch_rest(name: str, fetcher: Fetcher, journal: Journal, database: Database, *, refresh: bool) -> None:
    version = fetcher.open()
    # Pages of two versions of a database are no snapshot of either.
    if refresh or not journal.is_begun or journal.version != version:
        journal.begin(version)
    seen, n_bytes = journal.ids, _bytes_in(journal.folder)
    bar = progress(description=f"download {name}", unit="row", total=fetcher.total(journal.cursor))
    with bar:
        bar.update(len(seen))
        while not journal.is_finished:
            page = _fetch_new(name, fetcher, journal, seen, database.service.patience)
            n_bytes += journal.add(page)
            seen.update(page.ids)
            bar.total = fetcher.total(page.next) or bar.total
            bar.set_postfix_str(f"{n_bytes / 1e6:.1f} MB", refresh=False)
            bar.update(len(page.ids))


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("pages-*"))


def _fetch_new(name: str, fetcher: Fetcher, journal: Journal, seen: set[str], patience: float) -> Page:
    """The next page; asked again while it repeats rows, as pages of unordered answers do.

    Of a page that is a list of rows, those that it still repeats are left out and counted.
    """
    last: Page | None = None

    def fetch() -> Page:
        nonlocal last
        last = None
        page = fetcher.fetch(journal.cursor)
        repeated = seen.intersection(page.ids) | {key for key, n in Counter(page.ids).items() if n > 1}
        if repeated:
            last = page
            raise TransientError(f"the page repeats {len(repeated)} row(s), such as {min(repeated)}")
        return page

    what = f"{name}: page {len(journal.pages)}"
    try:
        return patiently(fetch, what=what, patience=patience, max_tries=MAX_REPEATS)
    except GaveUpError:
        page = None if last is None else _without_repeats(last, seen)
        if page is None:
            raise
        return page


def _without_repeats(page: Page, seen: set[str]) -> Page | None:
    """A page without the rows that it repeats; None where it is no list of rows, or repeats most of them."""
    if not isinstance(page.content, list) or len(page.content) != len(page.ids):
        return None
    new = {key: row for key, row in zip(reversed(page.ids), reversed(page.content), strict=True) if key not in seen}
    ids = [key for key in dict.fromkeys(page.ids) if key in new]
    n_repeated = len(page.ids) - len(ids)
    if n_repeated > MOST_REPEATED * len(page.ids):
        return None
    return replace(page, content=[new[key] for key in ids], ids=ids, skipped={**page.skipped, REPEATED: n_repeated})


def _publish(name: str, origin: str, fetcher: Fetcher, journal: Journal, destination: Path) -> None:
    """Copy the pages out of the resume point and write the manifest."""
    if not journal.pages:
        journal.remove()
        raise SourceError(f"{name}: no row matches {fetcher.query}; widen databases.{name}.query")
    _check_units(name, fetcher, journal)
    if journal.skipped:
        told = ", ".join(f"{n} {reason}" for reason, n in journal.skipped.items())
        LOG.warning("%s: %d rows arrived; could not be had: %s", name, len(journal.ids), told)
    terms = terms_of(name, endpoint=fetcher.endpoint)
    manifest = Manifest(
        source=name,
        origin=origin,
        endpoint=fetcher.endpoint,
        query=fetcher.query,
        format=fetcher.format,
        database_version=journal.version or "not offered",
        n_rows=len(journal.ids),
        pages=journal.pages,
        skipped=journal.skipped,
        licence=terms.licence,
        citation=terms.citation,
        client=fetcher.client,
    )
    with atomic_path(destination, mark=MANIFEST_NAME) as folder:
        folder.mkdir()
        for page in journal.pages:
            shutil.copyfile(journal.folder / page, folder / page)
        write_manifest(folder, manifest)


def _check_units(name: str, fetcher: Fetcher, journal: Journal) -> None:
    """A page that has been damaged on disk is deleted with its download; implausible units are rejected."""
    shape = FORMATS[fetcher.format]
    try:
        contents = ((page, read_page(journal.folder / page, sha256)) for page, sha256 in journal.pages.items())
        items = (item for page, content in contents for item in parse_page(content, shape, source=name, file=page))
        records = (item for item in items if isinstance(item, Record))
        judge(list(islice(records, SAMPLE_ROWS)), name)
    except InputError as error:
        raise SourceError(f"{error} (downloaded pages: {journal.folder}; refresh with --refresh)") from error
