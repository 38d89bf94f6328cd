"""The download loop: it resumes, rejects repeated rows and ends in a snapshot.

It resumes from the pages on disk and `journal.jsonl`, which has one line for each of them. A page is written whole
before its line is appended, and a torn or damaged line counts as absent, with all that follow it: so at whatever moment
the process is killed, the next one resumes after the last page that both agree on.
"""

import errno
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from matscout.errors import InputError, SourceError
from matscout.files import atomic_path, sha256_of_json
from matscout.params import Database
from matscout.progress import progress
from matscout.resume.parts import DOWNLOADS, locked, root
from matscout.sources.licences import terms_of
from matscout.sources.record import SAMPLE_ROWS, Record, judge
from matscout.sources.services.http import Cursor, Fetcher, GaveUpError, Page, TransientError, patiently
from matscout.sources.services.page_formats import FORMATS, parse_page
from matscout.sources.snapshots.snapshot_files import (
    MANIFEST_NAME,
    Manifest,
    check_download_fits,
    read_page,
    write_manifest,
    write_page,
)

JOURNAL_NAME = "journal.jsonl"
LOCK_NAME = "lock"
FIRST_KEYS = frozenset({"version"})
PAGE_KEYS = frozenset({"page", "sha256", "ids", "next"})
LOG = logging.getLogger(__name__)


class Journal:
    """The state of one download.

    Args:
        folder: folder of this query at this service.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / JOURNAL_NAME
        self._lines, self._size = self._read()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out.

        Raises:
            SourceError: another process runs the same download.
        """

        def taken(holder: str) -> SourceError:
            return SourceError(f"another process ({holder}) is downloading into {self.folder}; wait for it or end it")

        with locked(self.folder / LOCK_NAME, taken):
            self._lines, self._size = self._read()
            yield

    @property
    def version(self) -> str | None:
        """Database version that the first line states."""
        return self._lines[0]["version"] if self._lines else None

    @property
    def is_begun(self) -> bool:
        """Whether there is a first line."""
        return bool(self._lines)

    @property
    def is_finished(self) -> bool:
        """Whether the last page was the service's last."""
        return len(self._lines) > 1 and self._lines[-1]["next"] is None

    @property
    def pages(self) -> dict[str, str]:
        """SHA-256 by page name, in order."""
        return {line["page"]: line["sha256"] for line in self._lines[1:] if line["page"]}

    @property
    def ids(self) -> set[str]:
        """Identifiers of all rows so far."""
        return {name for line in self._lines[1:] for name in line["ids"]}

    @property
    def skipped(self) -> dict[str, int]:
        """Rows that could not be had, by reason."""
        counts: Counter[str] = Counter()
        for line in self._lines[1:]:
            counts.update(line.get("skipped", {}))
        return dict(sorted(counts.items()))

    @property
    def cursor(self) -> Cursor | None:
        """Where to go on; None = at the beginning."""
        return self._lines[-1]["next"] if len(self._lines) > 1 else None

    def begin(self, version: str | None) -> None:
        """Throw away what there is and begin."""
        for path in self.folder.glob("pages-*"):
            path.unlink()
        self._path.unlink(missing_ok=True)
        self._lines, self._size = [], 0
        self._append({"version": version})

    def add(self, page: Page) -> int:
        """Write a page, then its line; return the page's bytes on disk.

        An empty page, which only says that the end is reached, is not a file.
        """
        name, sha256 = write_page(self.folder, len(self.pages), page.content) if page.ids else (None, None)
        skipped = {"skipped": dict(page.skipped)} if page.skipped else {}
        self._append({"page": name, "sha256": sha256, "ids": page.ids, "next": page.next, **skipped})
        return (self.folder / name).stat().st_size if name else 0

    def remove(self) -> None:
        """Delete the download."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _append(self, line: dict[str, Any]) -> None:
        raw = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with self._path.open("ab") as stream:
            stream.truncate(self._size)  # an incomplete line left by a kill must not run into this one
            stream.seek(0, os.SEEK_END)
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        self._lines.append(line)
        self._size += len(raw)

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        """The complete lines up to the first damaged one, and their bytes."""
        lines: list[dict[str, Any]] = []
        size = 0
        if not self._path.exists():
            return lines, size
        for raw in self._path.read_bytes().splitlines(keepends=True):
            line = _whole_line(raw, FIRST_KEYS if not lines else PAGE_KEYS)
            if line is None:
                LOG.warning("%s: line %d is damaged; what follows it is fetched again", self._path, len(lines) + 1)
                break
            lines.append(line)
            size += len(raw)
        return lines, size


def _whole_line(raw: bytes, keys: frozenset[str]) -> dict[str, Any] | None:
    """The object of a line; None if it is torn, no JSON, or lacks a key."""
    if not raw.endswith(b"\n"):
        return None
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    is_whole = isinstance(line, dict) and keys <= line.keys() and isinstance(line.get("ids", []), list)
    return line if is_whole else None


MAX_REPEATS = 4  # how often a page may repeat rows before this counts as the service's fault
MOST_REPEATED = 0.5  # share of a page's rows; a page that repeats more is an earlier page
REPEATED = "repeated by the service"


def download(name: str, database: Database, fetcher: Fetcher, destination: Path, *, refresh: bool) -> None:
    """Fetch what is missing of one query and write its snapshot.

    A finished download is not repeated, unless `refresh` discards it.

    Args:
        name: name of the database.
        database: its parameters.
        fetcher: asks the service.
        destination: folder of the snapshot, replaced as a whole.
        refresh: discard fetched pages and start over.

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
    # Pages of two versions of a database are not a snapshot of either.
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
    """A page without the rows that it repeats; None if it is not a list of rows, or repeats most of them."""
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
