"""The resume point of a download: pages on disk and, in `journal.jsonl`, one line for each of them.

A page is written whole before its line is appended, and a torn or damaged line counts as absent, with all that
follow it: so
at whatever moment the process is killed, the next one resumes after the last page that both agree on.
"""

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matscout.errors import SourceError
from matscout.resume.work_folders import locked
from matscout.sources.services.fetcher import Cursor, Page
from matscout.sources.snapshots.page_files import write_page

JOURNAL_NAME = "journal.jsonl"
LOCK_NAME = "lock"
FIRST_KEYS = frozenset({"version"})
PAGE_KEYS = frozenset({"page", "sha256", "ids", "next"})
LOG = logging.getLogger(__name__)


class Journal:
    """The state of one download.

    Args:
        folder: of this query at this service.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / JOURNAL_NAME
        self._lines, self._size = self._read()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out.

        Raises:
            SourceError: another process is downloading the same.
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

        An empty page, which only says that the end is reached, is no file.
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
            stream.truncate(self._size)  # a torn line that a kill left behind must not run into this one
            stream.seek(0, os.SEEK_END)
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        self._lines.append(line)
        self._size += len(raw)

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        """The whole lines up to the first damaged one, and their bytes."""
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
    """The object of a line; None where it is torn, no JSON, or lacks a key."""
    if not raw.endswith(b"\n"):
        return None
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    is_whole = isinstance(line, dict) and keys <= line.keys() and isinstance(line.get("ids", []), list)
    return line if is_whole else None
