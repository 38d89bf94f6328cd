"""Extended XYZ through ASE: one frame a material, labels in the comment line."""

import io
import itertools
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from matscout.errors import InputError
from matscout.sources.fields import MAX_ATOMS
from matscout.sources.files.file_opening import open_text, shown, stem_of
from matscout.sources.files.raw_row import BadRow, RawRow
from matscout.sources.formats.crystal_parser import from_ase

ISOTOPE: Final = re.compile(r"^(\s*)[DT](?=\s)")  # ASE knows no isotopes; everywhere else they are hydrogen
COUNT: Final = re.compile(r"[0-9]{1,9}")


def read(path: Path) -> Iterator[RawRow | BadRow]:
    """Frames of the file, one at a time.

    Raises:
        InputError: the file does not begin with a number of atoms.
    """
    stem = shown(stem_of(path))
    with open_text(path) as stream:
        for number, frame in enumerate(_frames(stream, path)):
            if isinstance(frame, str):
                yield BadRow(shown(path.name), number, "", "unreadable_file", frame)
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
            message = f"line {line_number}: {first.strip()!r:.60} where a number of atoms must stand"
            if not frame:
                raise InputError(f"{shown(path)}, {message}")
            yield f"{message}; the frames before the last one were kept"
            return
        if frame:
            yield frame
        n_lines = int(first) + 1
        kept = list(itertools.islice(stream, min(n_lines, MAX_ATOMS + 2)))
        line_number += len(kept) + sum(1 for _ in itertools.islice(stream, n_lines - len(kept)))
        frame = [first, *kept]
    if frame:
        yield frame


def _row(path: Path, number: int, frame: list[str], default_id: str) -> RawRow | BadRow:
    from ase.io import read as read_ase  # loads half of scipy: no other format needs it

    name, n_atoms = shown(path.name), int(frame[0])
    if n_atoms > MAX_ATOMS:
        return BadRow(name, number, "", "too_many_atoms", f"{n_atoms} atoms; at most {MAX_ATOMS} are read")
    if missing := n_atoms + 2 - len(frame):
        return BadRow(name, number, "", "truncated_file", f"the file ends {missing} lines before its last frame")
    properties = re.search(r"(?i)\bproperties=\"?([^\s\"]*)", frame[1])
    if properties and not re.search(r"(^|:)pos:R:3", properties[1]):  # ASE would put every atom at the origin
        detail = f"Properties={properties[1]:.60} holds no pos:R:3; write Cartesian positions in Å"
        return BadRow(name, number, "", "coordinates_missing", detail)
    try:
        frame = [*frame[:2], *(ISOTOPE.sub(r"\1H", line) for line in frame[2:])]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of keys that it keeps in other places: nothing here reads them
            atoms = read_ase(io.StringIO("".join(frame)), format="extxyz")
    except Exception as error:  # noqa: BLE001 - ASE leaks whatever its parts raise
        detail = f"ASE reads no frame: {type(error).__name__}: {error!s:.200}"
        return BadRow(name, number, "", "structure_malformed", detail)
    labels = dict(atoms.info) | (dict(atoms.calc.results) if atoms.calc else {})  # type: ignore[union-attr]
    plain = {
        key: value.item() if hasattr(value, "item") and value.ndim == 0 else value for key, value in labels.items()
    }
    return RawRow(name, number, plain, from_ase, atoms, default_id)
