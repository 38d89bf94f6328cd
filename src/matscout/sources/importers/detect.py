"""Which format a file has: by its name, then by its first bytes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Final

from matscout.errors import InputError
from matscout.sources.importers import cgcnn, extxyz, matbench, optimade, pymatgen_json, records, table
from matscout.sources.importers.opening import head_of, name_of
from matscout.sources.importers.raw import BadRow, RawRow

READERS: Final = MappingProxyType(
    {
        "records": records.read,
        "cgcnn": cgcnn.read,
        "csv": table.read,
        "matbench": matbench.read,
        "extxyz": extxyz.read,
        "optimade": optimade.read,
        "pymatgen": pymatgen_json.read,
    }
)
BY_ENDING: Final = MappingProxyType({".parquet": "records", ".csv": "csv", ".xyz": "extxyz", ".extxyz": "extxyz"})
SPLIT_KEYS: Final = (b'"columns"', b'"index"', b'"data"')

Reader = Callable[[Path], Iterator[RawRow | BadRow]]


def detect(path: Path) -> str:
    """Name of the format of `path`, one of `READERS`.

    Raises:
        InputError: the path does not exist, holds nothing, or is of no known format.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; set databases.<name>.path to a file or a CGCNN folder")
    if path.is_dir():
        if (path / cgcnn.LABEL_FILE).is_file():
            return "cgcnn"
        raise InputError(f"the folder {path} has no {cgcnn.LABEL_FILE}; a CGCNN folder holds it beside its *.cif")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty; give a file with rows")
    name = name_of(path)
    for ending, kind in BY_ENDING.items():
        if name.endswith(ending):
            return kind
    head = head_of(path).lstrip()
    if name.endswith(".jsonl") or (name.endswith(".json") and head):
        return _json_kind(head, is_lines=name.endswith(".jsonl"))
    known = ", ".join([*BY_ENDING, ".json", ".jsonl", f"a folder with {cgcnn.LABEL_FILE}"])
    raise InputError(f"{path}: unknown format; known are {known} (each also .gz, parquet aside)")


def _json_kind(head: bytes, *, is_lines: bool) -> str:
    first_line = head.split(b"\n", 1)[0]
    if is_lines:
        try:
            row = json.loads(first_line)
        except ValueError:
            row = {}  # a first line that is no JSON says nothing; the reader will reject it by its number
        if "x-optimade" in row or {"type", "attributes"} <= row.keys():
            return "optimade"
        is_pymatgen = "structure" in row or "sites" in row or "@class" in row
        return "pymatgen" if is_pymatgen else "records"
    is_frame = head.startswith(b"{") and any(head[1:].lstrip().startswith(key) for key in SPLIT_KEYS)
    return "matbench" if is_frame else "pymatgen"
