"""Files of one structure each, and folders of files of every kind."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from matscout.crystal_checks import Rejection
from matscout.errors import InputError
from matscout.sources.files.file_opening import name_of, read_bytes, shown, stem_of
from matscout.sources.files.raw_row import RawRow
from matscout.sources.formats.crystal_parser import MAX_BYTES, parse_text
from matscout.sources.record import RowError

ENDINGS: Final = (".cif", ".mcif", ".vasp", ".poscar", ".contcar")
VASP_NAMES: Final = ("poscar", "contcar")
UNTOLD: Final = ("readme", "license", "licence")  # files that explain a folder


def is_structure(path: Path) -> bool:
    """Whether the name is that of a CIF or POSCAR: by its ending, or as VASP names them."""
    name = name_of(path)
    return name.endswith(ENDINGS) or name.startswith(VASP_NAMES)


def read(path: Path) -> Iterator[RawRow | Rejection]:
    """The one structure of a file."""
    yield row_of(path, shown(path), plain_name(path))


def row_of(path: Path, file: str, name: str) -> RawRow | Rejection:
    """The row of a file of one structure; its text is read, not yet parsed."""
    try:
        content = read_bytes(path, MAX_BYTES)
    except InputError as error:
        return Rejection(file=file, row=0, material_id=name, reason="damaged_file", detail=str(error))
    except OSError as error:
        return Rejection(
            file=file,
            row=0,
            material_id=name,
            reason="unreadable_file",
            detail=f"{error.strerror or error}; let this user read it",
        )
    return RawRow(file, 0, {}, parse_text, content, name)


def plain_name(path: Path) -> str:
    """A structure's name: the file's without its ending; `POSCAR.GaAs` and `CONTCAR` keep theirs."""
    name = name_of(path)
    bare = path.name[: len(name)]
    known = (*ENDINGS, ".json", ".xyz", ".extxyz")
    return shown(stem_of(path) if name.endswith(known) else bare)


def unique_names(files: Iterable[Path]) -> list[str]:
    """A unique name for each file, as short as possible, with folders in front where needed."""
    paths = list(files)
    names = [plain_name(path) for path in paths]
    depth = [1 if name.lower() not in VASP_NAMES else 2 for name in names]
    with_ending = [False] * len(paths)
    for _ in range(2 + max((len(path.parts) for path in paths), default=0)):
        told = [
            _told(path, name, n, ending) for path, name, n, ending in zip(paths, names, depth, with_ending, strict=True)
        ]
        counts = Counter(told)
        again = [row for row, name in enumerate(told) if counts[name] > 1]
        if not again:
            break
        for row in again:
            same = {paths[other] for other in again if told[other] == told[row]} - {paths[row]}
            if any(other.parent == paths[row].parent for other in same):
                with_ending[row] = True  # a.cif and a.vasp
            elif same:
                depth[row] += 1
    return told if paths else []


def _told(path: Path, name: str, depth: int, with_ending: bool) -> str:
    parents = [part for part in path.parts[:-1] if part not in {"/", ".", ".."}]
    front = parents[len(parents) - (depth - 1) :] if depth > 1 else []
    return "/".join(shown(part) for part in [*front, shown(path.name) if with_ending else name])


def read_folder(
    folder: Path, reader_of: Callable[[Path], "Callable[[Path], Iterator[RawRow | Rejection]] | None"]
) -> Iterator[RawRow | Rejection]:
    """Every file of a folder and those below it, by name; whatever is not a structure is reported as skipped.

    Args:
        folder: where to look; names that begin with a dot and files such as README are left aside.
        reader_of: the reader of a file, None for an unknown kind.
    """
    files = files_of(folder)
    below = [path.relative_to(folder) for path in files]
    structures = [path for path in below if is_structure(path)]
    names = dict(zip(structures, _names_below(structures), strict=True))
    for path, place in zip(files, below, strict=True):
        if place in names:
            yield row_of(path, shown(path), names[place])
            continue
        try:
            reader = reader_of(path)
        except (InputError, RowError, OSError) as error:
            yield Rejection(file=shown(path), row=0, reason="unreadable_file", detail=str(error))
            continue
        if reader is None:
            yield Rejection(
                file=shown(path),
                row=0,
                reason="passed_over",
                detail="no kind of file that holds crystals; move it elsewhere",
            )
            continue
        yield from _of_file(path, place, reader)


def _names_below(structures: list[Path]) -> list[str]:
    """Names with the folders below the one given; with the ending where two would be one."""
    names = [(place.parent / plain_name(place)).as_posix() for place in structures]
    counts = Counter(names)
    return [
        shown(place.as_posix()) if counts[name] > 1 else shown(name)
        for place, name in zip(structures, names, strict=True)
    ]


def _of_file(
    path: Path, place: Path, reader: Callable[[Path], Iterator[RawRow | Rejection]]
) -> Iterator[RawRow | Rejection]:
    """The rows of a file that holds several, its place in their names."""
    front = "" if place.parent == Path() else f"{shown(place.parent.as_posix())}/"
    for row in reader(path):
        if isinstance(row, Rejection):
            yield replace(row, file=shown(path))
        else:
            yield RawRow(shown(path), row.number, row.fields, row.parse_cell, row.cell, f"{front}{row.default_id}")


def files_of(folder: Path) -> list[Path]:
    """Every file of a folder and those below it, by name, except hidden ones and those that explain the folder."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_aside(path.relative_to(folder))]


def _is_aside(place: Path) -> bool:
    return any(part.startswith(".") for part in place.parts) or place.name.lower().startswith(UNTOLD)
