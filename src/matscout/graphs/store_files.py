"""The store on disk: memory-mapped arrays, an index, and a sidecar that guards them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.errors import StoreError
from matscout.files import sha256_of, write_json, write_parquet
from matscout.graphs.packed import ARRAYS, PackedGraphs
from matscout.graphs.shells import TIE_TOLERANCE
from matscout.params import Graphs

FORMAT_VERSION = 1
SIDECAR = "store.json"
INDEX = "index.parquet"
FILES = (INDEX, *(f"{name}.npy" for name in ARRAYS))


def write_sidecar(directory: Path, settings: Graphs, counts: dict[str, int]) -> None:
    """Write `store.json`: version, settings, counts, size and SHA-256 of every file."""
    described = {
        name: {"bytes": (directory / name).stat().st_size, "sha256": sha256_of(directory / name)} for name in FILES
    }
    write_json(
        directory / SIDECAR,
        {
            "format_version": FORMAT_VERSION,
            "tie_tolerance": TIE_TOLERANCE,
            "settings": settings.model_dump(),
            "counts": counts,
            "files": described,
        },
    )


def write_index(directory: Path, ids: NDArray[np.str_]) -> None:
    """Write `index.parquet`: the id of every row."""
    write_parquet(directory / INDEX, pd.DataFrame({columns.MATERIAL_ID: ids.astype(object)}))


def open_files(directory: Path, *, verify: bool) -> tuple[NDArray[np.str_], PackedGraphs, Graphs]:
    """Ids, memory-mapped arrays and settings of a store.

    Raises:
        StoreError: missing, cut off, altered, or of another format version.
    """
    sidecar = _read_sidecar(directory)
    for name in FILES:
        _check_file(directory / name, sidecar["files"][name], verify=verify)
    packed = PackedGraphs(**{name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in ARRAYS})
    ids = pd.read_parquet(directory / INDEX)[columns.MATERIAL_ID].to_numpy().astype(np.str_)
    counts = sidecar["counts"]
    found = {"crystals": len(ids), "atoms": int(packed.atom_offsets[-1]), "edges": int(packed.edge_offsets[-1])}
    for name, value in found.items():
        if counts[name] != value:
            raise _refuse(directory, f"{SIDECAR} counts {counts[name]} {name}, the arrays hold {value}")
    return ids, packed, Graphs(**sidecar["settings"])


def _read_sidecar(directory: Path) -> dict[str, Any]:
    path = directory / SIDECAR
    try:
        sidecar = json.loads(path.read_text())
        version, files = sidecar["format_version"], sidecar["files"]
    except FileNotFoundError as error:
        raise _refuse(directory, f"{SIDECAR} is missing") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _refuse(directory, f"{SIDECAR} cannot be read ({error})") from error
    if version != FORMAT_VERSION:
        raise _refuse(directory, f"its format version is {version}, this matscout reads {FORMAT_VERSION}")
    if missing := [name for name in FILES if name not in files]:
        raise _refuse(directory, f"{SIDECAR} does not list {missing[0]}")
    return sidecar


def _check_file(path: Path, expected: dict[str, Any], *, verify: bool) -> None:
    if not path.exists():
        raise _refuse(path.parent, f"{path.name} is missing")
    if (size := path.stat().st_size) != expected["bytes"]:
        raise _refuse(path.parent, f"{path.name} has {size} bytes, {SIDECAR} says {expected['bytes']}")
    if verify and sha256_of(path) != expected["sha256"]:
        raise _refuse(path.parent, f"{path.name} does not match its SHA-256")


def _refuse(directory: Path, reason: str) -> StoreError:
    return StoreError(f"graph store {directory}: {reason}; run `dvc repro featurize` again (or `dvc checkout`)")
