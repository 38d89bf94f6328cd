"""The stage `acquire`: the known databases, and how a snapshot of each is made."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from matscout import columns
from matscout.errors import InputError, ParameterError
from matscout.params import Database
from matscout.sources import licences
from matscout.sources.licences import Terms, terms_of
from matscout.sources.record import Record, Rejection, checked
from matscout.sources.services.aflow import AflowClient
from matscout.sources.services.http import Fetcher
from matscout.sources.services.materials_project import MaterialsProjectClient
from matscout.sources.services.oqmd import OqmdClient
from matscout.sources.snapshots.download import download
from matscout.sources.snapshots.snapshot import copy_snapshot, write_records
from matscout.sources.snapshots.snapshot_files import MANIFEST_NAME


@dataclass(frozen=True)
class Source:
    """One database that can be queried.

    Attributes:
        terms: licence and citation.
        client: makes its `Fetcher` from its block of params.yaml.
    """

    terms: Terms
    client: Callable[[Database], Fetcher]


SOURCES = MappingProxyType(
    {
        "materials_project": Source(licences.MATERIALS_PROJECT, MaterialsProjectClient),
        "aflow": Source(licences.AFLOW, AflowClient),
        "oqmd": Source(licences.OQMD, OqmdClient),
    }
)


def acquire(name: str, database: Database, destination: Path, *, refresh: bool = False) -> None:
    """Write the snapshot of one database from the origin that `database` names.

    Args:
        name: name of the database in `params.databases`.
        database: its block.
        destination: folder for pages and manifest; afterwards complete or absent.
        refresh: ask the service again even if the same query was fetched before.

    Raises:
        ParameterError: there is no client of that name for the origin, or the block gives no endpoint.
        InputError: the sample or file cannot be used.
        SourceError: the service cannot be reached or gives an unusable answer.
    """
    if database.origin in CLIENTS:
        download(name, database, CLIENTS[database.origin](name, database), Path(destination), refresh=refresh)
    elif database.origin == "sample":
        _from_sample(name, database, Path(destination))
    else:
        _from_file(name, database, Path(destination))


def _client(name: str, database: Database) -> Fetcher:
    if name not in SOURCES:
        message = f"databases.{name}.origin = 'api': no client of that name; known are {', '.join(SOURCES)}"
        raise ParameterError(message)
    if not database.endpoint:
        raise ParameterError(f"databases.{name}.endpoint is null; the origin api needs the service's base URL")
    return SOURCES[name].client(database)


def _bulk(name: str, database: Database) -> Fetcher:
    from matscout.sources.services.materials_project_bulk import BulkClient

    if name != "materials_project":
        raise ParameterError(f"databases.{name}.origin = 'bulk': only materials_project publishes such tables")
    if database.endpoint and not database.endpoint.startswith("s3://"):
        rule = "for the origin bulk it is s3://bucket/prefix, or null with the tables' folder as path"
        raise ParameterError(f"databases.{name}.endpoint = {database.endpoint!r}: {rule}")
    return BulkClient(database)


def _optimade(name: str, database: Database) -> Fetcher:
    from matscout.sources.services.optimade import OptimadeClient

    if not database.optimade_endpoint:
        message = f"databases.{name}.optimade_endpoint is null; the origin optimade needs the provider's base URL"
        raise ParameterError(message)
    return OptimadeClient(name, database)


def _from_sample(name: str, database: Database, destination: Path) -> None:
    source = Path(database.path)
    if not (source / MANIFEST_NAME).is_file():
        message = f"databases.{name}.path = {database.path} holds no {MANIFEST_NAME}; samples lie in data/sample/"
        raise InputError(message)
    copy_snapshot(source, destination, name)


def _labelled(
    items: Iterator[Record | Rejection], name: str, path: str, own: Mapping[str, str]
) -> Iterator[Record | Rejection]:
    """The items; after the last one an error if there were rows and not one has a label, or one of the file's `own`."""
    n_rows = n_labelled = 0
    found: set[str] = set()
    for item in items:
        if isinstance(item, Record):
            n_rows += 1
            n_labelled += bool(item.own_labels) or any(getattr(item, label) is not None for label in columns.LABELS)
            found |= set(item.own_labels)
        yield item
    if n_rows and (absent := sorted(set(own) - found)):
        raise InputError(
            f"databases.{name}.file.labels.{absent[0]} = {own[absent[0]]!r}: none of {n_rows} rows of {path} has a "
            "number there; name a column of the file"
        )
    if n_rows and not n_labelled:
        raise InputError(
            f"databases.{name}.path = {path}: none of {n_rows} rows has a label ({', '.join(columns.LABELS)}); "
            f"name the columns in databases.{name}.file.columns, or let `matscout add-data {path}` find them"
        )


def _from_file(name: str, database: Database, destination: Path) -> None:
    # imported here, because only this origin needs the readers of many formats
    from matscout.sources.files.import_file import detect, import_file

    read = checked(import_file(Path(database.path), database.file, name), source=name)
    items = _labelled(read, name, database.path, database.file.labels)
    kind = detect(Path(database.path)) if database.file.format == "auto" else database.file.format
    own = database.file.licence
    terms = terms_of(name, file_format=kind) if own is None else Terms(licence=own, citation="")
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


CLIENTS = MappingProxyType({"api": _client, "bulk": _bulk, "optimade": _optimade})
