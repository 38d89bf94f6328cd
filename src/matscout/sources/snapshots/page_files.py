"""Page files: gzip JSON, whole or absent, the same bytes for the same rows."""

import gzip
import hashlib
import io
import json
import zlib
from pathlib import Path
from typing import Any

from matscout.errors import InputError
from matscout.files import write_bytes

PAGE_NAME = "pages-{:05d}.json.gz"
ROWS_PER_PAGE = 1000


def page_bytes(content: Any) -> bytes:
    """Compact JSON, gzip without clock, name or platform byte: equal content gives equal bytes."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return compress(text.encode())


def compress(raw: bytes) -> bytes:
    """Gzip `raw` with an empty name and no time."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as stream:
        stream.write(raw)
    return buffer.getvalue()


def write_page(directory: Path, number: int, content: Any) -> tuple[str, str]:
    """Write a page atomically.

    Args:
        directory: of the snapshot.
        number: of the page.
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
        path: of the page.
        sha256: that the manifest lists; None = not checked.

    Returns:
        The JSON content.

    Raises:
        InputError: the file is absent, cut off, no JSON, or not the bytes that the manifest lists.
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
        raise InputError(f"{path} is no whole gzip JSON page ({error}); acquire the database again") from error
