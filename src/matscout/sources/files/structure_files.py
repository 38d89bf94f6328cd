"""Files of structures: one each (CIF, POSCAR), extended XYZ, CSV with a column of structures, and folders of files.

Extended XYZ is read by ASE: one frame a material, labels in the comment line. A CSV holds CIF text, as CDVAE's and
MP-20's do, or POSCAR or JSON.
"""

import csv
import io
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from matscout.crystal_checks import MAX_ATOMS_READ, Rejection
from matscout.errors import InputError
from matscout.sources.files.file_rows import RawRow, name_of, open_text, read_bytes, shown, stem_of
from matscout.sources.formats.crystal_parser import MAX_BYTES, from_ase, parse_text
from matscout.sources.record import RowError

ENDINGS: Final = (".cif", ".mcif", ".vasp", ".poscar", ".contcar")
VASP_NAMES: Final = ("poscar", "contcar")
UNTOLD: Final = ("readme", "license", "licence")  # files that describe a folder


def is_structure(path: Path) -> bool:
    """Whether the name is that of a CIF or POSCAR: by its ending, or as VASP names them."""
    name = name_of(path)
    return name.endswith(ENDINGS) or name.startswith(VASP_NAMES)


def read_structure(path: Path) -> Iterator[RawRow | Rejection]:
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


ISOTOPE: Final = re.compile(r"^(\s*)[DT](?=\s)")  # ASE does not know isotopes, which matscout reads as hydrogen
COUNT: Final = re.compile(r"[0-9]{1,9}")


def read_extended_xyz(path: Path) -> Iterator[RawRow | Rejection]:
    """Frames of the file, one at a time.

    Raises:
        InputError: the file does not begin with a number of atoms.
    """
    stem = shown(stem_of(path))
    with open_text(path) as stream:
        for number, frame in enumerate(_frames(stream, path)):
            if isinstance(frame, str):
                yield Rejection(file=shown(path.name), row=number, reason="unreadable_file", detail=frame)
                return
            yield _row(path, number, frame, f"{stem}-{number}")


def _frames(stream: IO[str], path: Path) -> Iterator[list[str] | str]:
    """The lines of each frame; a text where the next frame cannot be found, in place of the one before it.

    A line that begins no frame is one atom too many, or one too few counted: that frame is not kept.
    """
    line_number = 0
    frame: list[str] = []
    while first := stream.readline():
        line_number += 1
        if not first.strip():
            continue
        if not COUNT.fullmatch(first.strip()):
            message = f"line {line_number}: {first.strip()!r:.60} where a number of atoms is expected"
            if not frame:
                raise InputError(f"{shown(path)}, {message}")
            yield f"{message}; the frames before the last one were kept"
            return
        if frame:
            yield frame
        n_lines = int(first) + 1
        kept = list(itertools.islice(stream, min(n_lines, MAX_ATOMS_READ + 2)))
        line_number += len(kept) + sum(1 for _ in itertools.islice(stream, n_lines - len(kept)))
        frame = [first, *kept]
    if frame:
        yield frame


def _row(path: Path, number: int, frame: list[str], default_id: str) -> RawRow | Rejection:
    from ase.io import read as read_ase  # imported here, because it loads much of scipy and no other format needs it

    name, n_atoms = shown(path.name), int(frame[0])
    if n_atoms > MAX_ATOMS_READ:
        return Rejection(
            file=name, row=number, reason="too_many_atoms", detail=f"{n_atoms} atoms; at most {MAX_ATOMS_READ} are read"
        )
    if missing := n_atoms + 2 - len(frame):
        return Rejection(
            file=name,
            row=number,
            reason="truncated_file",
            detail=f"the file ends {missing} lines before its last frame",
        )
    properties = re.search(r"(?i)\bproperties=\"?([^\s\"]*)", frame[1])
    if properties and not re.search(r"(^|:)pos:R:3", properties[1]):  # ASE would put every atom at the origin
        detail = f"Properties={properties[1]:.60} holds no pos:R:3; write Cartesian positions in Å"
        return Rejection(file=name, row=number, reason="coordinates_missing", detail=detail)
    try:
        frame = [*frame[:2], *(ISOTOPE.sub(r"\1H", line) for line in frame[2:])]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about keys that it stores elsewhere, which are not read here
            atoms = read_ase(io.StringIO("".join(frame)), format="extxyz")
    except Exception as error:  # noqa: BLE001 - ASE leaks whatever its parts raise
        detail = f"ASE reads no frame: {type(error).__name__}: {error!s:.200}"
        return Rejection(file=name, row=number, reason="structure_malformed", detail=detail)
    labels = dict(atoms.info) | (dict(atoms.calc.results) if atoms.calc else {})  # type: ignore[union-attr]
    plain = {
        key: value.item() if hasattr(value, "item") and value.ndim == 0 else value for key, value in labels.items()
    }
    return RawRow(name, number, plain, from_ase, atoms, default_id)


CELL_COLUMNS: Final = ("cif", "structure", "poscar", "atoms")
SEPARATORS: Final = ",;\t"
MAX_FIELD: Final = 1 << 24  # characters: the CIF of a large cell is longer than csv's default of 131,072


def read_csv(path: Path) -> Iterator[RawRow | Rejection]:
    """Rows of the file; every other column is a field. Columns are separated by comma, semicolon or tab.

    Raises:
        InputError: the header has no column of structures.
    """
    csv.field_size_limit(MAX_FIELD)
    name, stem = shown(path.name), shown(stem_of(path))
    with open_text(path) as stream:
        reader = csv.DictReader(stream, delimiter=_separator(stream))
        header = [str(column).strip() for column in reader.fieldnames or ()]
        reader.fieldnames = header
        cell = cell_column(header)
        if cell is None:
            rule = f"one must be {CELL_COLUMNS[0]!r} and hold CIF text (or {', '.join(CELL_COLUMNS[1:])})"
            raise InputError(f"{shown(path)} has the columns {header[:20]}; {rule}")
        for number, row in enumerate(reader):
            if row.get(cell) is None or None in row:
                detail = (
                    f"{sum(value is not None for value in row.values())} fields where the header names {len(header)}"
                )
                yield Rejection(
                    file=name,
                    row=number,
                    material_id=row.get("material_id") or "",
                    reason="count_mismatch",
                    detail=detail,
                )
                continue
            yield RawRow(name, number, row, parse_text, row[cell], f"{stem}-{number}")


def cell_column(header: list[str]) -> str | None:
    """The column of structures: of a usual name, else the first whose name holds one, such as `CIF (VESTA)`."""
    exact = next((column for column in CELL_COLUMNS if column in header), None)
    return exact or next((column for column in header if re.search("|".join(CELL_COLUMNS), column.lower())), None)


def _separator(stream: IO[str]) -> str:
    """The one that occurs most often in the header."""
    header = stream.readline()
    stream.seek(0)
    return max(SEPARATORS, key=header.count)
