"""How much disk the rows of a query will take, checked before the first is fetched."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from matscout.errors import SourceError
from matscout.params import Database

# Assumed, on the safe side: the run on the bundled sample (7,117 rows of 11 atoms) takes about 150 bytes a row for its
# raw pages and 76 MB for data/ and the DVC cache together, 11 kB a row.
BYTES_PER_RAW_ROW = 1500  # gzip pages
RAW_COPIES = 3  # .downloads, data/raw, DVC cache
BYTES_PER_ROW_LATER = 40_000  # curated table, graphs, predictions, each once in the workspace and once in the cache
FIXED_BYTES = 1 << 30  # members, candidates, report
MARGIN = 1.1
LIVE = ("api", "bulk", "optimade")  # origins that fetch what the query asks for


def raw_bytes(n_rows: int) -> int:
    """Bytes that `n_rows` downloaded rows take, all copies."""
    return n_rows * BYTES_PER_RAW_ROW * RAW_COPIES


def pipeline_bytes(databases: Mapping[str, Database]) -> int:
    """Bytes that the whole pipeline takes, DVC cache included, if every query of a service reaches its limit."""
    n_rows = sum(database.query.limit for database in databases.values() if database.origin in LIVE)
    return FIXED_BYTES + raw_bytes(n_rows) + n_rows * BYTES_PER_ROW_LATER


def check_download_fits(folder: Path, n_rows: int, name: str) -> None:
    """Reject a download that does not fit on the disk.

    Args:
        folder: to write to; it may be absent.
        n_rows: expected number of rows.
        name: of the database, for the message.

    Raises:
        SourceError: the message names what is needed and what is free.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    needed, free = MARGIN * raw_bytes(max(n_rows, 0)), shutil.disk_usage(existing).free
    if needed > free:
        message = (
            f"{name}: {n_rows} rows need {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free at {existing}: "
            f"free some space or lower databases.{name}.query.limit"
        )
        raise SourceError(message)
