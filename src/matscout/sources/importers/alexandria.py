"""Alexandria: pymatgen entries in `{"entries": [...]}`, plain, gzip or bzip2, as its pages offer them for download.

Files are named after the functional: `alexandria_000.json.bz2` (PBE), `alexandria_ps_000` (PBEsol),
`alexandria_scan_000` (SCAN). Its OPTIMADE answers need no reader of their own.
"""

import bz2
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from matscout.sources.importers.json_stream import JsonStream
from matscout.sources.importers.opening import open_text, shown, stem_of
from matscout.sources.importers.raw import BadRow, RawRow
from matscout.sources.structures import parse_document

ENDINGS: Final = (".json.bz2", ".bz2")
BY_NAME: Final = {"_ps_": "PBEsol", "pbesol": "PBEsol", "scan": "SCAN"}  # else the functional of params.yaml
LABELS: Final = {
    "mat_id": "material_id",
    "e_form": "formation_energy_per_atom",
    "e_above_hull": "energy_above_hull",
    "band_gap_ind": "band_gap",  # the fundamental gap; band_gap_dir is the direct one
}


def read(path: Path) -> Iterator[RawRow | BadRow]:
    """Every entry of the file, or of all such files of a folder."""
    files = sorted(p for p in path.rglob("*.json*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        name = shown(file.name)
        functional = next((found for part, found in BY_NAME.items() if part in file.name.lower()), None)
        for number, entry in enumerate(_entries(file)):
            if not isinstance(entry, dict) or not isinstance(entry.get("structure"), dict):
                detail = f"{entry!r:.60} where an entry with a structure must stand"
                yield BadRow(name, number, "", "structure_malformed", detail)
                continue
            data = entry["data"] if isinstance(entry.get("data"), dict) else {}
            fields = {
                LABELS.get(str(key), str(key)): value for key, value in data.items() if not isinstance(value, dict)
            }
            fields.setdefault("material_id", entry.get("entry_id"))
            if functional is not None:
                fields["functional"] = functional
            yield RawRow(name, number, fields, parse_document, entry["structure"], f"{shown(stem_of(file))}-{number}")


def _entries(path: Path) -> Iterator[object]:
    with _open(path) as text:
        stream = JsonStream(text)
        for key in stream.keys():  # noqa: SIM118 - no dict
            if key == "entries":
                yield from stream.items()
            else:
                stream.value()


@contextmanager
def _open(path: Path) -> Iterator[IO[str]]:
    if path.name.lower().endswith(ENDINGS):
        with bz2.open(path, "rb") as stream, io.TextIOWrapper(stream, encoding="utf-8") as text:  # type: ignore[arg-type]
            yield text
    else:
        with open_text(path) as text:
            yield text
