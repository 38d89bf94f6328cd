"""The databases and the one way to a snapshot of each: the whole stage `acquire`."""

from importlib.metadata import version
from pathlib import Path

from matscout.errors import InputError
from matscout.params import Database
from matscout.sources.importing import import_file
from matscout.sources.licences import TERMS, UNKNOWN
from matscout.sources.manifest import MANIFEST_NAME
from matscout.sources.plausibility import checked
from matscout.sources.writing import copy_snapshot, write_records


def acquire(name: str, database: Database, destination: Path) -> None:
    """Write the snapshot of one database from the origin that `database` names.

    Args:
        name: of the database in `params.databases`.
        database: its block.
        destination: folder that holds pages and manifest afterwards; whole or absent.

    Raises:
        InputError: the sample or file cannot be used.
        SourceError: the service cannot be reached or answers nonsense.
    """
    _ORIGINS[database.origin](name, database, Path(destination))


def _from_sample(name: str, database: Database, destination: Path) -> None:
    source = Path(database.path)
    if not (source / MANIFEST_NAME).is_file():
        message = f"databases.{name}.path = {database.path} holds no {MANIFEST_NAME}; samples lie in data/sample/"
        raise InputError(message)
    copy_snapshot(source, destination, name)


def _from_file(name: str, database: Database, destination: Path) -> None:
    items = checked(import_file(Path(database.path), database.file, name), source=name)
    terms = TERMS.get(name, UNKNOWN)
    write_records(
        items,
        destination,
        source=name,
        origin="file",
        endpoint=Path(database.path).as_posix(),
        query=None,
        database_version=None,
        licence=terms.licence,
        citation=terms.citation,
        client=f"matscout {version('matscout')}",
    )


_ORIGINS = {"sample": _from_sample, "file": _from_file}
