"""Read a user's files as named crystals, for `matscout predict`, `screen` and `data/own_candidates/`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from matscout.crystal_checks import Rejection
from matscout.errors import InputError
from matscout.params import FileImport
from matscout.sources.files.file_rows import RawRow, shown
from matscout.sources.files.import_file import detect, import_file, to_record
from matscout.sources.files.structure_files import files_of, unique_names
from matscout.sources.formats.crystal_parser import MAX_BYTES, parse_text
from matscout.sources.record import Record

USER_SOURCE: Final = "user"
AS_WRITTEN: Final = FileImport(format="auto", columns={}, units={}, functional="PBE")


def read_structures(paths: Sequence[Path]) -> Iterator[Record | Rejection]:
    """Every crystal of the given files and folders, in their order; the files of a folder by name.

    Each has a unique name: that of its file, without the ending, and with as many folders in front as make it unique; a
    row has its id. Whatever is not a usable crystal is a `Rejection`, including other files of a folder.

    Args:
        paths: files and folders.

    Yields:
        A record, or why the crystal is rejected.

    Raises:
        InputError: a path does not exist, is of an unknown kind, or cannot be read as a whole.
    """
    paths = [Path(path) for path in paths]
    kinds = [detect(path) for path in paths]  # checked before any is read, so that a misspelt path fails at once
    single = [path for path, kind in zip(paths, kinds, strict=True) if kind == "structure"]
    names = iter(unique_names(single))
    taken: dict[str, str] = {}  # file by name
    for path, kind in zip(paths, kinds, strict=True):
        name = next(names) if kind == "structure" else None
        is_empty = True
        for item in import_file(path, AS_WRITTEN, USER_SOURCE):
            is_empty = False
            yield _named(item, name, taken)
        if is_empty:
            raise InputError(f"{shown(path)} holds no structure; give a CIF, a POSCAR, or a folder of them")


def read_text(content: Any, name: str, *, most: int = MAX_BYTES) -> Record | Rejection:
    """The crystal of a text, such as one that was posted; it is read like the file of that name.

    Args:
        content: the text; anything else is rejected.
        name: name of the crystal.
        most: characters; a longer text is rejected unread.

    Returns:
        A record, or why the text is rejected.
    """
    if not isinstance(content, str | bytes):
        row = Rejection(
            file=name, row=0, material_id=name, reason="no_text", detail=f"{content!r:.40} is not structure text"
        )
    elif len(content) > most:
        row = Rejection(
            file=name,
            row=0,
            material_id=name,
            reason="too_large",
            detail=f"{len(content)} characters; at most {most} are taken",
        )
    else:
        row = RawRow(name, 0, {}, parse_text, content, name)
    return to_record(row, AS_WRITTEN, USER_SOURCE)


def has_structures(folder: Path) -> bool:
    """Whether the folder, or one below it, holds more than hidden files and a README."""
    return bool(files_of(folder))


def _named(item: Record | Rejection, name: str | None, taken: dict[str, str]) -> Record | Rejection:
    """The item under its name; a name that another file has taken is preceded by its file."""
    item = item if name is None else replace(item, material_id=name)
    if isinstance(item, Rejection):
        return item
    if taken.get(item.material_id, item.file) != item.file:
        item = replace(item, material_id=f"{item.file}:{item.material_id}")
    if item.material_id in taken:
        detail = "that file was given already, or has the name in an earlier row; rename one"
        return Rejection(
            source=USER_SOURCE,
            material_id=item.material_id,
            file=item.file,
            row=item.row,
            reason="duplicate_id",
            detail=detail,
        )
    taken[item.material_id] = item.file
    return item
