"""Files of a snapshot: gzipped JSON pages, `manifest.json` with their origin and hashes, and the disk space needed.

The same rows give the same bytes.
"""

import gzip
import hashlib
import io
import json
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from matscout.errors import InputError, SourceError
from matscout.files import write_bytes, write_json

MANIFEST_NAME = "manifest.json"
SAFE_PAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Manifest(BaseModel):
    """`manifest.json` of one snapshot; without a timestamp, so equal rows give equal bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(description="name in params.databases")
    origin: str = Field(description="sample, api, bulk, optimade or file")
    endpoint: str | None = Field(description="base URL asked, or the file read")
    query: dict[str, Any] | None = Field(description="what was asked, in the service's own words; null = all of a file")
    format: str = Field(description="shape of the pages, one of matscout.sources.services.page_formats.FORMATS")
    database_version: str | None = Field(description="as the service states it; null = not offered")
    energy_corrections: str | None = Field(default=None, description="scheme of the formation energies")
    n_rows: int
    pages: dict[str, str] = Field(description="file name -> SHA-256")
    licence: str
    citation: str = Field(description="BibTeX")
    client: str = Field(description="what fetched or converted the rows, with its version")

    @field_validator("pages")
    @classmethod
    def _pages_lie_in_the_folder(cls, pages: dict[str, str]) -> dict[str, str]:
        for name in pages:
            if not SAFE_PAGE_NAME.fullmatch(name):
                message = f"page {name!r:.60} is not the name of a file in the snapshot's folder"
                raise ValueError(message)
        return pages

    skipped: dict[str, int] = Field(
        default_factory=dict, description="rows that the service holds or announces and did not give, by reason"
    )
    planted: dict[str, Any] | None = Field(default=None, description="what a synthetic stand-in was made with")


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, the last file of a snapshot; it contains `skipped` only if rows were skipped."""
    content = manifest.model_dump()
    if not manifest.skipped:
        del content["skipped"]
    write_json(Path(directory) / MANIFEST_NAME, content)


def read_manifest(directory: Path) -> Manifest:
    """Read and check `manifest.json`.

    Args:
        directory: directory of the snapshot.

    Returns:
        The content of `manifest.json`.

    Raises:
        InputError: it is absent, no JSON, or lacks a field.
    """
    path = Path(directory) / MANIFEST_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path} not found: {directory} is not a snapshot; run the stage `acquire` first") from error
    except ValidationError as error:
        raise InputError(f"{path} is not a manifest ({error}); acquire the database again") from error


PAGE_NAME = "pages-{:05d}.json.gz"
ROWS_PER_PAGE = 1000


def page_bytes(content: Any) -> bytes:
    """Compact JSON, gzipped without timestamp, name or platform byte, so that equal content gives equal bytes."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return compress(text.encode())


def compress(raw: bytes) -> bytes:
    """Gzip `raw` without name and timestamp."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as stream:
        stream.write(raw)
    return buffer.getvalue()


def write_page(directory: Path, number: int, content: Any) -> tuple[str, str]:
    """Write a page atomically.

    Args:
        directory: directory of the snapshot.
        number: number of the page.
        content: JSON of the page.

    Returns:
        The file's name, and the SHA-256 of its bytes.
    """
    raw = page_bytes(content)
    name = PAGE_NAME.format(number)
    write_bytes(Path(directory) / name, raw)
    return name, hashlib.sha256(raw).hexdigest()


def read_page(path: Path, sha256: str | None = None) -> Any:
    """The JSON content of one page.

    Args:
        path: path of the page.
        sha256: SHA-256 that the manifest lists; None = not checked.

    Returns:
        The JSON content.

    Raises:
        InputError: the file is absent, cut off, not JSON, or has another hash than the manifest lists.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} is listed in the manifest but absent; acquire the database again") from error
    if sha256 is not None and (found := hashlib.sha256(raw).hexdigest()) != sha256:
        message = f"{path} has SHA-256 {found}, the manifest says {sha256}; acquire the database again"
        raise InputError(message)
    try:
        return json.loads(gzip.decompress(raw))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path} is not a complete gzip JSON page ({error}); acquire the database again") from error


# Assumed, on the safe side: a row of the bundled sample (11 atoms) takes about 150 bytes in its raw pages.
BYTES_PER_RAW_ROW = 1500  # gzip pages
RAW_COPIES = 3  # .downloads, data/raw, DVC cache
MARGIN = 1.1
LIVE = ("api", "bulk", "optimade")  # origins that fetch what the query asks for


def raw_bytes(n_rows: int) -> int:
    """Bytes that `n_rows` downloaded rows take, all copies."""
    return n_rows * BYTES_PER_RAW_ROW * RAW_COPIES


def check_download_fits(folder: Path, n_rows: int, name: str) -> None:
    """Reject a download that does not fit on the disk.

    Args:
        folder: folder to write to; it may be absent.
        n_rows: expected number of rows.
        name: name of the database, for the message.

    Raises:
        SourceError: the space is too small; the message gives the space needed and the space free.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    needed, free = MARGIN * raw_bytes(max(n_rows, 0)), shutil.disk_usage(existing).free
    if needed > free:
        message = (
            f"{name}: {n_rows} rows need {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free at {existing}: "
            f"free some space or lower databases.{name}.query.limit"
        )
        raise SourceError(message)
