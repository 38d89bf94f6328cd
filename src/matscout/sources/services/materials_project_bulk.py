"""The Materials Project's bulk tables, recommended for large downloads: read without a key from S3 or a folder.

Two layouts are read, each with the collections `summary`, `thermo` and `materials`:

- files: `<root>/<collection>/nelements=N/symmetry_number=M.jsonl.gz`, and for thermo a folder
  `thermo_type=GGA_GGA+U` above; the root ends in a release, such as `collections/2025-09-25`;
- Delta tables: `<root>/<collection>/`, rows of several releases, by the column `version`; the newest is read.

Pages are those of the REST client, so that one parser reads both.
"""

import gzip
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol

from matscout.errors import InputError, SourceError
from matscout.params import Database
from matscout.sources.services.http import Cursor, Page, TransientError, patiently
from matscout.sources.services.materials_project import (
    CORE_FIELDS,
    FORMAT,
    NOT_FREE,
    SUMMARY_FIELDS,
    THERMO_FIELDS,
    THERMO_TYPE,
    criteria,
    is_commercial,
    is_low,
    normalise_id,
    origins_of,
    slim,
)

S3: Final = "s3://"
REGION: Final = "us-east-1"
SUMMARY, THERMO, CORE = "summary", "thermo", "materials"
OBJECT: Final = re.compile(r"nelements=(\d+)/symmetry_number=[^/]+\.jsonl\.gz")
KEPT_FIELDS: Final = (*SUMMARY_FIELDS, "deprecated", "nsites", "nelements")
ENDPOINT_VARIABLES: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


class Tables(Protocol):
    """The three collections in one layout."""

    def release(self) -> str | None:
        """Of the database; None if the layout does not say."""
        ...

    def units(self) -> list[tuple[int, str]]:
        """Number of elements and name of each part of the summaries, in the order of reading."""
        ...

    def summaries(self, unit: str) -> Sequence[Any]:
        """The rows of a part, each to be given to `document`."""
        ...

    def document(self, row: Any) -> dict[str, Any]:
        """A row as a summary document."""
        ...

    def beside(self, collection: str, n_elements: int) -> Iterator[Mapping[str, Any]]:
        """Documents of `thermo` or `materials` of all materials with so many elements."""
        ...


class BulkClient:
    """A `Fetcher` of the bulk tables.

    Raises:
        SourceError: no such bucket or folder, or one of another layout.
    """

    format = FORMAT

    def __init__(self, database: Database) -> None:
        self.endpoint = database.endpoint or database.path
        self.query = criteria(database.query) | {"thermo_type": THERMO_TYPE, "limit": database.query.limit}
        self.query |= {"energy_above_hull_max": database.query.energy_above_hull}
        self.client = f"matscout {version('matscout')}, bulk tables"
        self._wanted = database.query
        self._page_size = database.service.page_size
        self._patience = database.service.patience
        self._part: tuple[str, Sequence[Any]] | None = None
        self._joined: tuple[int, dict[str, Any], dict[str, Any]] | None = None

    @cached_property
    def _tables(self) -> Tables:
        store = Bucket(self.endpoint, self._patience) if self.endpoint.startswith(S3) else Folder(self.endpoint)
        if store.exists(f"{SUMMARY}/_delta_log"):
            return DeltaTables(store)
        return ObjectTables(store)

    def open(self) -> str | None:
        """The release."""
        if not self._tables.units():
            rule = f"{SUMMARY}/nelements=N/symmetry_number=M.jsonl.gz or a Delta table {SUMMARY}/ must stand there"
            raise SourceError(f"{self.endpoint} holds no table of summaries: {rule}")
        return self._tables.release()

    def total(self, cursor: Cursor | None) -> int | None:
        """Not stated by the service; the limit of the query."""
        return self._wanted.limit if cursor is not None else None

    def fetch(self, cursor: Cursor | None) -> Page:
        """The next `page_size` rows of a part, those that the query wants."""
        cursor = cursor or {"part": 0, "row": 0, "rows": 0}
        parts = [unit for unit in self._tables.units() if self._may_hold(unit[0])]
        if cursor["part"] >= len(parts):
            return Page({}, [], None)
        n_elements, name = parts[cursor["part"]]
        summaries = self._summaries(name)
        stop = cursor["row"] + self._page_size
        documents = [self._tables.document(row) for row in summaries[cursor["row"] : stop]]
        matching = [document for document in documents if self._is_wanted(document)]
        free = [document for document in matching if is_commercial(document, frozenset())]
        thermo, core = self._beside(n_elements)
        named = [(normalise_id(document.get("material_id")), slim(document)) for document in free]
        rows = [row for row in named if is_low(thermo.get(row[0], {}), self._wanted.energy_above_hull)]
        rows = rows[: self._wanted.limit - cursor["rows"]]
        content = {
            "data": [row for _, row in rows],
            "thermo": [thermo[key] for key, _ in rows if key in thermo],
            "core": [origins_of(row, core.get(key, {})) for key, row in rows],
        }
        n_rows = cursor["rows"] + len(rows)
        place = (
            {"part": cursor["part"], "row": stop} if stop < len(summaries) else {"part": cursor["part"] + 1, "row": 0}
        )
        is_last = n_rows >= self._wanted.limit or place["part"] >= len(parts)
        n_left_out = len(matching) - len(free)
        following = None if is_last else {**place, "rows": n_rows}
        return Page(content, [key for key, _ in rows], following, {NOT_FREE: n_left_out} if n_left_out else {})

    def _summaries(self, name: str) -> Sequence[Any]:
        if self._part is None or self._part[0] != name:
            self._part = (name, self._tables.summaries(name))
        return self._part[1]

    def _beside(self, n_elements: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Thermo and core documents by id, of all materials with so many elements."""
        if self._joined is None or self._joined[0] != n_elements:
            found = []
            for collection, fields in ((THERMO, THERMO_FIELDS), (CORE, CORE_FIELDS)):
                documents = self._tables.beside(collection, n_elements)
                kept = ({key: document.get(key) for key in fields} for document in documents)
                found.append({normalise_id(document["material_id"]): document for document in kept})
            self._joined = (n_elements, found[0], found[1])
        return self._joined[1], self._joined[2]

    def _may_hold(self, n_elements: int) -> bool:
        low, high = self._wanted.n_elements
        return low <= n_elements <= high

    def _is_wanted(self, document: Mapping[str, Any]) -> bool:
        """What the service does with a query."""
        if document.get("deprecated"):
            return False
        sites = (document.get("structure") or {}).get("sites") or ()
        low, high = self._wanted.n_atoms
        if not low <= len(sites) <= high:
            return False
        if self._wanted.elements is None:
            return True
        symbols = {species.get("element") for site in sites for species in site.get("species") or ()}
        return symbols <= set(self._wanted.elements)


# ------------------------------------------------------------------------------------------------ layouts
class ObjectTables:
    """Gzip JSON lines, one object for each number of elements and space group."""

    def __init__(self, store: "Folder | Bucket") -> None:
        self._store = store
        self._names: dict[str, list[tuple[int, str]]] = {}

    def release(self) -> str | None:
        """The last part of the root, if it is a date."""
        last = self._store.root.rstrip("/").rsplit("/", 1)[-1]
        return last if re.fullmatch(r"\d{4}[-_.]\d{1,2}[-_.]\d{1,2}(\.\w+)?", last) else None

    def units(self) -> list[tuple[int, str]]:
        """One an object."""
        return self._objects(SUMMARY)

    def summaries(self, unit: str) -> list[bytes]:
        """The lines, not decoded yet: documents are large."""
        return [line for line in self._read(unit).splitlines() if line.strip()]

    def document(self, row: bytes) -> dict[str, Any]:
        """One line, its known fields.

        Raises:
            SourceError: it is no JSON object.
        """
        try:
            document = json.loads(row)
            return {key: document[key] for key in KEPT_FIELDS if key in document}
        except (ValueError, TypeError) as error:
            raise SourceError(
                f"{self._store.root}: a line is no JSON object ({error}); fetch the tables again"
            ) from error

    def beside(self, collection: str, n_elements: int) -> Iterator[Mapping[str, Any]]:
        """From all objects with so many elements: a document may stand under another space group there."""
        folder = f"{THERMO}/thermo_type={THERMO_TYPE}" if collection == THERMO else collection
        for number, name in self._objects(folder):
            if number == n_elements:
                for line in self._read(name).splitlines():
                    if line.strip():
                        yield json.loads(line)

    def _objects(self, folder: str) -> list[tuple[int, str]]:
        if folder not in self._names:
            names = sorted(name for name in self._store.names(folder) if OBJECT.search(name))
            found = [(int(OBJECT.search(name)[1]), name) for name in names]  # type: ignore[index]
            self._names[folder] = sorted(found)
        return self._names[folder]

    def _read(self, name: str) -> bytes:
        try:
            return gzip.decompress(self._store.read(name))
        except (OSError, EOFError) as error:
            raise SourceError(
                f"{self._store.root}/{name} is not a complete gzip file ({error}); get it again"
            ) from error


class DeltaTables:
    """Delta tables, read with `deltalake`, which the Materials Project's own client brings."""

    def __init__(self, store: "Folder | Bucket") -> None:
        self._store = store
        self._tables: dict[str, Any] = {}

    def release(self) -> str | None:
        """The newest `version`."""
        return self._release

    @cached_property
    def _release(self) -> str | None:
        if "version" not in self._dataset(SUMMARY).schema.names:
            return None
        versions = self._dataset(SUMMARY).to_table(columns=["version"])["version"].unique().to_pylist()
        return max((str(one) for one in versions if one), default=None)

    def units(self) -> list[tuple[int, str]]:
        """One a number of elements."""
        counts = self._dataset(SUMMARY).to_table(columns=["nelements"], filter=self._of_release())["nelements"]
        return [(number, str(number)) for number in sorted(n for n in counts.unique().to_pylist() if n)]

    def summaries(self, unit: str) -> "ArrowRows":
        """Rows by id."""
        import pyarrow.compute as pc

        known = [name for name in KEPT_FIELDS if name in self._dataset(SUMMARY).schema.names]
        wanted = (pc.field("nelements") == int(unit)) & self._of_release()
        table = self._dataset(SUMMARY).to_table(columns=known, filter=wanted)
        ids = table["material_id"].to_pylist()
        return ArrowRows(table, sorted(range(len(ids)), key=ids.__getitem__))

    def document(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row; arrow's maps come as pairs."""
        averages = {key: dict(row[key]) for key in ("bulk_modulus", "shear_modulus") if row.get(key)}
        return {**row, **averages}

    def beside(self, collection: str, n_elements: int) -> Iterator[Mapping[str, Any]]:
        """Rows of the release."""
        import pyarrow.compute as pc

        dataset, fields = self._dataset(collection), THERMO_FIELDS if collection == THERMO else CORE_FIELDS
        wanted = (pc.field("nelements") == n_elements) & self._of_release()
        if collection == THERMO:
            wanted &= pc.field("thermo_type") == THERMO_TYPE
        for batch in dataset.to_batches(columns=fields, filter=wanted):
            for row in batch.to_pylist():
                yield {**row, "run_types": dict(row["run_types"] or ())} if "run_types" in row else row

    def _of_release(self) -> Any:
        import pyarrow.compute as pc

        return pc.scalar(True) if self._release is None else pc.field("version") == self._release

    def _dataset(self, collection: str) -> Any:
        if collection not in self._tables:
            from deltalake import DeltaTable
            from deltalake.exceptions import DeltaError, TableNotFoundError

            try:
                table = DeltaTable(f"{self._store.root}/{collection}", storage_options=self._store.delta_options)
                self._tables[collection] = table.to_pyarrow_dataset()
            except (TableNotFoundError, DeltaError, OSError) as error:
                message = f"{self._store.root}/{collection} is no Delta table that can be read: {error!s:.300}"
                raise SourceError(message) from error
        return self._tables[collection]


class ArrowRows(Sequence[Mapping[str, Any]]):
    """Rows of an arrow table in an order, made to Python objects slice by slice.

    Args:
        table: the rows.
        order: their places.
    """

    def __init__(self, table: Any, order: list[int]) -> None:
        self._table = table
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: Any) -> Any:
        """A row, or the rows of a slice."""
        if isinstance(place, slice):
            return self._table.take(self._order[place]).to_pylist()
        return self._table.take([self._order[place]]).to_pylist()[0]


# ------------------------------------------------------------------------------------------------ where they lie
class Folder:
    """A folder of this machine."""

    def __init__(self, root: str) -> None:
        if not Path(root).is_dir():
            raise SourceError(f"{root} is not a folder; give the folder above {SUMMARY}/, {THERMO}/ and {CORE}/")
        self.root = str(root)
        self.delta_options: dict[str, str] = {}

    def names(self, folder: str) -> list[str]:
        """Names of all files below `folder`, from the root on."""
        root = Path(self.root)
        return [path.relative_to(root).as_posix() for path in (root / folder).rglob("*") if path.is_file()]

    def exists(self, folder: str) -> bool:
        """Whether there is any file below it."""
        return (Path(self.root) / folder).exists()

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            InputError: it is gone since its name was read.
        """
        try:
            return (Path(self.root) / name).read_bytes()
        except FileNotFoundError as error:
            raise InputError(f"{self.root}/{name} is gone; fetch the tables again") from error


class Bucket:
    """A public bucket of S3, or of a compatible server (`AWS_ENDPOINT_URL_S3`); no key is sent.

    Args:
        address: `s3://bucket/prefix`.
        patience: seconds that one request may be retried.
    """

    def __init__(self, address: str, patience: float) -> None:
        self.root = address.rstrip("/")
        self._bucket, _, self._prefix = self.root.removeprefix(S3).partition("/")
        self._patience = patience

    @property
    def delta_options(self) -> dict[str, str]:
        """What `deltalake` must know."""
        endpoint = next((os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name)), None)
        elsewhere = {} if endpoint is None else {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}
        return {"AWS_SKIP_SIGNATURE": "true", "AWS_REGION": REGION, **elsewhere}

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config

        return boto3.client("s3", region_name=REGION, config=Config(signature_version=UNSIGNED))

    def names(self, folder: str) -> list[str]:
        """As of a `Folder`."""

        def ask() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._key(folder)
            )
            return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

        start = len(self._prefix) + 1 if self._prefix else 0
        return [key[start:] for key in self._again(ask, folder)]

    def exists(self, folder: str) -> bool:
        """As of a `Folder`."""

        def ask() -> bool:
            found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._key(folder), MaxKeys=1)
            return bool(found.get("Contents"))

        return self._again(ask, folder)

    def read(self, name: str) -> bytes:
        """As of a `Folder`."""
        key = f"{self._prefix}/{name}".lstrip("/")

        def ask() -> bytes:
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()

        return self._again(ask, name)

    def _key(self, folder: str) -> str:
        return f"{self._prefix}/{folder}/".lstrip("/")

    def _again(self, ask: Any, what: str) -> Any:
        """`ask` until it succeeds; a bucket or object that is not there is an error at once."""
        from botocore.exceptions import BotoCoreError, ClientError

        def once() -> Any:
            try:
                return ask()
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                if 400 <= status < 500 and status != 429:
                    raise SourceError(
                        f"{self.root}/{what} was refused: {error}; check endpoint in params.yaml"
                    ) from error
                raise TransientError(str(error)) from error
            except (BotoCoreError, OSError) as error:
                raise TransientError(f"{type(error).__name__}: {error}") from error

        return patiently(once, what=f"{self.root}/{what}", patience=self._patience)
