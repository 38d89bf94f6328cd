"""Detect the format of a file by its name, then by its first bytes; and the reader of each format."""

import csv
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Final

from matscout.crystal_checks import Rejection
from matscout.errors import InputError
from matscout.sources.files import json_documents, published_datasets, structure_files
from matscout.sources.files.file_rows import RawRow, Reader, head_of, name_of, shown
from matscout.sources.files.published_datasets import is_lemat, parquet_columns
from matscout.sources.formats.own_records import parse_line
from matscout.sources.record import RowError

BY_ENDING: Final = MappingProxyType(
    {".parquet": "records", ".csv": "csv", ".tsv": "csv", ".xyz": "extxyz", ".extxyz": "extxyz"}
)
# A frame that pandas splits: columns and index, or rows that are lists.
SPLIT: Final = re.compile(rb'\{\s*("columns"|"index"|"data"\s*:\s*\[\s*\[)')

ENTRIES: Final = re.compile(rb'\{\s*"entries"\s*:\s*\[')


def detect(path: Path) -> str:
    """Name of the format of `path`, one of `READERS`.

    Raises:
        InputError: the path does not exist, holds nothing, or is of no known format.
    """
    if not path.exists():
        raise InputError(f"{shown(path)} does not exist; give a CIF, a POSCAR, a folder of them, or a file with rows")
    if path.is_dir():
        return "cgcnn" if published_datasets.is_labelled(path) else _kind_of_folder(path)
    if kind := kind_of(path):
        return kind
    known = ", ".join([*structure_files.ENDINGS, "POSCAR*", "CONTCAR*", *BY_ENDING, ".json", *json_documents.LINES])
    rule = f"known are {known} (each also .gz, parquet aside), and folders of them"
    raise InputError(f"{shown(path)}: unknown kind of file; {rule}")


def _kind_of_folder(path: Path) -> str:
    """A database in several files is one; else every file is read for itself."""
    files = structure_files.files_of(path)
    if files and all(name_of(file).endswith(".parquet") for file in files):
        return "lemat_bulk" if all(is_lemat(parquet_columns(file)) for file in files) else "folder"
    is_alexandria = files and all(file.name.lower().endswith(json_documents.BZIP2) for file in files)
    return "alexandria" if is_alexandria else "folder"


def kind_of(path: Path) -> str | None:
    """The format of a file that is there; None for an unknown one.

    Raises:
        InputError: it is empty or a damaged gzip file.
    """
    name = name_of(path)
    if structure_files.is_structure(path):
        return "structure"
    if name.endswith(json_documents.BZIP2):
        return "alexandria"
    kind = next((kind for ending, kind in BY_ENDING.items() if name.endswith(ending)), None)
    if kind is None and not name.endswith((".json", *json_documents.LINES)):
        return None
    if not path.stat().st_size:
        raise InputError(f"{shown(path)} is empty; give a file with rows")
    if name.endswith(".parquet") and is_lemat(parquet_columns(path)):
        return "lemat_bulk"
    return kind or _json_kind(head_of(path).lstrip(), is_lines=name.endswith(json_documents.LINES))


def _json_kind(head: bytes, *, is_lines: bool) -> str:
    if not is_lines and ENTRIES.match(head):
        return "alexandria"
    if not is_lines:
        return "matbench" if SPLIT.match(head) else "pymatgen"
    try:
        row = parse_line(head.split(b"\n", 1)[0])
    except RowError:
        return "records"  # a first line that is not an object is not decisive; the reader rejects it by its number
    if "x-optimade" in row or {"type", "attributes"} <= row.keys():
        return "optimade"
    if is_lemat(row):
        return "lemat_bulk"
    is_pymatgen = "structure" in row or "sites" in row or "@class" in row
    return "pymatgen" if is_pymatgen else "records"


def until_cut_off(rows: Iterator[RawRow | Rejection], path: Path) -> Iterator[RawRow | Rejection]:
    """Rows up to where the file is cut off, then one `Rejection` for the rest."""
    n_rows = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except EOFError as error:
            detail = f"{error}; the rows before it were kept, copy it again"
            yield Rejection(file=shown(path.name), row=n_rows, reason="truncated_file", detail=detail)
            return
        except (OSError, zlib.error, ValueError, csv.Error, RecursionError) as error:
            detail = (
                f"{type(error).__name__}: {error!s:.300}; the rows before it were kept, nothing after it could be read"
            )
            yield Rejection(file=shown(path.name), row=n_rows, reason="unreadable_file", detail=detail)
            return
        n_rows += 1
        yield row


def read_any(path: Path) -> Iterator[RawRow | Rejection]:
    """Rows of a file or folder of any known format."""
    return until_cut_off(READERS[detect(path)](path), path)


def _read_folder(folder: Path) -> Iterator[RawRow | Rejection]:
    def reader_of(path: Path) -> Reader | None:
        kind = kind_of(path)
        return None if kind is None else lambda path: until_cut_off(_told(READERS[kind], path), path)

    return structure_files.read_folder(folder, reader_of)


def _told(reader: Reader, path: Path) -> Iterator[RawRow | Rejection]:
    """An unusable file of a folder is one row of the quarantine file."""
    try:
        yield from reader(path)
    except InputError as error:
        yield Rejection(file=shown(path), row=0, reason="unreadable_file", detail=str(error))


READERS: Final = MappingProxyType(
    {
        "structure": structure_files.read_structure,
        "folder": _read_folder,
        "records": json_documents.read_records,
        "cgcnn": published_datasets.read_cgcnn_folder,
        "csv": structure_files.read_csv,
        "matbench": published_datasets.read_matbench,
        "extxyz": structure_files.read_extended_xyz,
        "optimade": json_documents.read_documents,
        "pymatgen": json_documents.read_documents,
        "lemat_bulk": published_datasets.read_lemat_bulk,
        "alexandria": json_documents.read_alexandria,
    }
)
