"""Extended XYZ through ASE: one frame a material, labels in the comment line."""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ase.io import read as read_ase

from matscout.errors import InputError
from matscout.sources.importers.cells import from_ase
from matscout.sources.importers.opening import name_of, open_text
from matscout.sources.importers.raw import BadRow, RawRow


def read(path: Path) -> Iterator[RawRow | BadRow]:
    """Frames of the file, one at a time.

    Raises:
        InputError: a frame does not begin with its number of atoms, so that the next cannot be found.
    """
    stem = name_of(path).rsplit(".", 1)[0]
    with open_text(path) as stream:
        for number, frame in enumerate(_frames(stream, path)):
            yield _row(path, number, frame, f"{stem}-{number}")


def _frames(stream: IO[str], path: Path) -> Iterator[list[str]]:
    line_number = 0
    while first := stream.readline():
        line_number += 1
        if not first.strip():
            continue
        if not first.strip().isdigit():
            message = f"{path}, line {line_number}: {first.strip()!r:.60} where a number of atoms must stand"
            raise InputError(message)
        body = list(itertools.islice(stream, int(first) + 1))
        line_number += len(body)
        yield [first, *body]


def _row(path: Path, number: int, frame: list[str], default_id: str) -> RawRow | BadRow:
    missing = int(frame[0]) + 2 - len(frame)
    if missing:
        return BadRow(path.name, number, "", "truncated_file", f"the file ends {missing} lines before its last frame")
    try:
        atoms = read_ase(io.StringIO("".join(frame)), format="extxyz")
    except Exception as error:  # noqa: BLE001 - ASE leaks whatever its parts raise
        detail = f"ASE reads no frame: {type(error).__name__}: {error!s:.200}"
        return BadRow(path.name, number, "", "structure_malformed", detail)
    labels = dict(atoms.info) | (dict(atoms.calc.results) if atoms.calc else {})  # type: ignore[union-attr]
    return RawRow(path.name, number, labels, from_ase, atoms, default_id)
