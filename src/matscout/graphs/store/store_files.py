"""The store on disk: memory-mapped arrays, an index, and a sidecar that guards them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from matscout import columns
from matscout.errors import StoreError
from matscout.files import sha256_of, write_json, write_parquet
from matscout.graphs.neighbors.neighbor_shells import TIE_TOLERANCE
from matscout.graphs.store.packed_graphs import ARRAYS, OFFSETS, PackedGraphs
from matscout.params import Graphs

FORMAT_VERSION = 1
SIDECAR = "store.json"
INDEX = "index.parquet"
FILES = (INDEX, *(f"{name}.npy" for name in ARRAYS))


class Described(BaseModel):
    """Size and hash of one file."""

    bytes: int
    sha256: str


class Sidecar(BaseModel):
    """`store.json`: what the store holds and how it was built."""

    model_config = ConfigDict(extra="forbid")

    format_version: int
    tie_tolerance: float
    settings: Graphs
    counts: dict[str, int]
    files: dict[str, Described]


def write_index(directory: Path, ids: NDArray[np.str_]) -> None:
    """Write `index.parquet`: the id of every row."""
    write_parquet(directory / INDEX, pa.table({columns.MATERIAL_ID: pa.array(ids.tolist(), pa.large_string())}))


def write_sidecar(directory: Path, settings: Graphs, counts: dict[str, int]) -> None:
    """Write `store.json`; the other files are there."""
    files = {
        name: Described(bytes=(directory / name).stat().st_size, sha256=sha256_of(directory / name)) for name in FILES
    }
    sidecar = Sidecar(
        format_version=FORMAT_VERSION, tie_tolerance=TIE_TOLERANCE, settings=settings, counts=counts, files=files
    )
    write_json(directory / SIDECAR, sidecar.model_dump())


def open_files(directory: Path, *, verify: bool) -> tuple[NDArray[np.str_], PackedGraphs, Graphs]:
    """Ids, memory-mapped arrays and settings of a store.

    Raises:
        StoreError: missing, cut off, altered, or of another format version.
    """
    sidecar = _read_sidecar(directory)
    for name in FILES:
        _check_file(directory / name, sidecar.files[name], verify=verify)
    try:
        packed = PackedGraphs(**{name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in ARRAYS})
        ids = np.array(pq.read_table(directory / INDEX).column(columns.MATERIAL_ID).to_pylist(), dtype=np.str_)
    except (ValueError, OSError, KeyError) as error:
        raise _refuse(directory, f"a file cannot be read ({error})") from error
    _check_arrays(directory, packed, {**sidecar.counts, "ids": len(ids)})
    return ids, packed, sidecar.settings


def _read_sidecar(directory: Path) -> Sidecar:
    try:
        sidecar = Sidecar.model_validate_json((directory / SIDECAR).read_bytes())
    except FileNotFoundError as error:
        raise _refuse(directory, f"{SIDECAR} is missing") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "its JSON"
        raise _refuse(directory, f"{SIDECAR} cannot be read ({where}: {problem['msg']})") from error
    if sidecar.format_version != FORMAT_VERSION:
        raise _refuse(directory, f"its format version is {sidecar.format_version}, {FORMAT_VERSION} is read here")
    if sidecar.tie_tolerance != TIE_TOLERANCE:
        raise _refuse(directory, f"its tie tolerance is {sidecar.tie_tolerance} Å, {TIE_TOLERANCE} is used here")
    if missing := [name for name in FILES if name not in sidecar.files]:
        raise _refuse(directory, f"{SIDECAR} does not list {missing[0]}")
    return sidecar


def _check_file(path: Path, expected: Described, *, verify: bool) -> None:
    if not path.exists():
        raise _refuse(path.parent, f"{path.name} is missing")
    if (size := path.stat().st_size) != expected.bytes:
        raise _refuse(path.parent, f"{path.name} has {size} bytes, {SIDECAR} says {expected.bytes}")
    if verify and sha256_of(path) != expected.sha256:
        raise _refuse(path.parent, f"{path.name} does not match its SHA-256")


def _check_arrays(directory: Path, packed: PackedGraphs, counts: dict[str, int]) -> None:
    """Lengths and offsets agree, so that compiled code never reads past an array."""
    n_crystals, n_atoms, n_edges = (counts.get(name, -1) for name in ("crystals", "atoms", "edges"))
    lengths = {name: len(getattr(packed, name)) for name in ARRAYS} | {"ids": counts["ids"]}
    wanted = {
        "ids": n_crystals,
        "atom_offsets": n_crystals + 1,
        "atomic_numbers": n_atoms,
        "multiplicity": n_atoms,
        "edge_offsets": n_atoms + 1,
        "neighbors": n_edges,
        "edge_vectors": n_edges,
    }
    for name, length in lengths.items():
        if length != wanted[name]:
            raise _refuse(directory, f"{name} holds {length} entries, {SIDECAR} counts {wanted[name]}")
    for name, total in zip(OFFSETS, (n_atoms, n_edges), strict=True):
        offsets = getattr(packed, name)
        if offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 0).any():
            raise _refuse(directory, f"{name} do not ascend from 0 to {total}")


def _refuse(directory: Path, reason: str) -> StoreError:
    return StoreError(f"graph store {directory}: {reason}; run `dvc repro featurize` again (or `dvc checkout`)")
