"""The stage `featurize`: the curated table to a graph store on disk, in resumable shards.

The store holds memory-mapped arrays, an index, and a sidecar that guards them.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from matscout import columns
from matscout.curated_table import CuratedTable
from matscout.engine import parallel_map
from matscout.errors import StoreError
from matscout.files import atomic_path, sha256_of, write_json, write_parquet
from matscout.graphs.neighbor_search import TIE_TOLERANCE
from matscout.graphs.pack_crystals import ARRAYS, OFFSETS, CrystalBlock, PackedGraphs, join_offsets, pack_graphs
from matscout.params import Graphs
from matscout.resume.parts import Parts

_SHARD = 2048  # crystals; what a killed run loses at most per worker (under a second of work)
_SHARDS_PER_WORKER = 16  # starting a process costs as much as some ten shards


def build_store(materials: Path, directory: Path, settings: Graphs, *, workers: int) -> None:
    """Write the graph store of a curated table; the same bytes for any number of workers.

    Finished shards are kept in `.checkpoints/featurize/` until the store is complete, so that a killed run resumes. A
    change of table, settings or code starts over, and a damaged shard is made again.

    Args:
        materials: of the table, parquet.
        directory: of the store, replaced as a whole.
        settings: of the graphs.
        workers: processes at most.

    Raises:
        InputError: the table has no rows, an id twice, or a broken cell (the message names it).
    """
    materials, directory = Path(materials), Path(directory)
    block = CrystalBlock.from_table(CuratedTable(materials).crystals(), str(materials))
    firsts = range(0, len(block), _SHARD)
    described = {"format_version": FORMAT_VERSION, "settings": settings.model_dump(), "shard": _SHARD}
    with Parts.kept("featurize", settings=described, inputs=[materials], code=[__name__]) as parts:
        todo = [
            (block.part(first, min(first + _SHARD, len(block))), settings, parts.folder, _name(first))
            for first in firsts
            if parts.file(_name(first), "npz") is None
        ]
        useful = min(workers, -(-len(todo) // _SHARDS_PER_WORKER))
        parallel_map(_write_shard, todo, workers=useful, description="graphs", unit="shard")
        shards = [parts.written(_name(first), "npz") for first in firsts]
        with atomic_path(directory, mark=SIDECAR) as temporary:
            temporary.mkdir()
            counts = _merge(shards, temporary)
            write_index(temporary, np.array(block.ids, dtype=np.str_))
            write_sidecar(temporary, settings, counts)


def _name(first: int) -> str:
    """Name of the shard that begins with a row."""
    return f"{first:08d}"


def _write_shard(task: tuple[CrystalBlock, Graphs, Path, str]) -> None:
    block, settings, folder, name = task
    packed = pack_graphs(block, settings)
    Parts(folder).save_arrays(name, {array: getattr(packed, array) for array in ARRAYS})


def _merge(shards: list[Path], directory: Path) -> dict[str, int]:
    """Concatenate the shards, with one array of one shard in memory at a time; return the counts of the store."""
    offsets = {name: join_offsets([_read_array(shard, name) for shard in shards]) for name in OFFSETS}
    n_atoms, n_edges = int(offsets["atom_offsets"][-1]), int(offsets["edge_offsets"][-1])
    for name in ARRAYS:
        path = directory / f"{name}.npy"
        if name in OFFSETS:
            np.save(path, offsets[name])
        else:
            _concatenate(shards, name, path, n_edges if name in {"neighbors", "edge_vectors"} else n_atoms)
    return {"crystals": len(offsets["atom_offsets"]) - 1, "atoms": n_atoms, "edges": n_edges}


def _concatenate(shards: list[Path], name: str, path: Path, length: int) -> None:
    first = _read_array(shards[0], name)
    header = {"descr": dtype_to_descr(first.dtype), "fortran_order": False, "shape": (length, *first.shape[1:])}
    with path.open("wb") as stream:  # not a memory map: on a full disk, writing to one ends the process
        write_array_header_1_0(stream, header)
        for shard in shards:
            stream.write(_read_array(shard, name).tobytes())


def _read_array(path: Path, name: str) -> NDArray:
    with np.load(path) as arrays:
        return arrays[name]


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
    """Write `store.json`, which describes the other files; write those first.

    Args:
        directory: of the store.
        settings: of the graphs.
        counts: number of crystals, atoms and edges, by name.
    """
    files = {
        name: Described(bytes=(directory / name).stat().st_size, sha256=sha256_of(directory / name)) for name in FILES
    }
    sidecar = Sidecar(
        format_version=FORMAT_VERSION, tie_tolerance=TIE_TOLERANCE, settings=settings, counts=counts, files=files
    )
    write_json(directory / SIDECAR, sidecar.model_dump())


def open_files(directory: Path, *, verify: bool) -> tuple[NDArray[np.str_], PackedGraphs, Graphs]:
    """Open the files of a store.

    Args:
        directory: of the store.
        verify: check every file's SHA-256, not its size alone.

    Returns:
        Material ids, memory-mapped arrays and settings.

    Raises:
        StoreError: a file is missing, cut off, altered, or of another format version.
    """
    sidecar = _read_sidecar(directory)
    for name in FILES:
        _check_file(directory / name, sidecar.files[name], verify=verify)
    try:
        packed = PackedGraphs(**{name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in ARRAYS})
        ids = np.array(pq.read_table(directory / INDEX).column(columns.MATERIAL_ID).to_pylist(), dtype=np.str_)
    except (ValueError, OSError, KeyError) as error:
        raise _store_error(directory, f"a file cannot be read ({error})") from error
    _check_arrays(directory, packed, {**sidecar.counts, "ids": len(ids)})
    return ids, packed, sidecar.settings


def _read_sidecar(directory: Path) -> Sidecar:
    try:
        sidecar = Sidecar.model_validate_json((directory / SIDECAR).read_bytes())
    except FileNotFoundError as error:
        raise _store_error(directory, f"{SIDECAR} is missing") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "its JSON"
        raise _store_error(directory, f"{SIDECAR} cannot be read ({where}: {problem['msg']})") from error
    if sidecar.format_version != FORMAT_VERSION:
        raise _store_error(directory, f"its format version is {sidecar.format_version}, {FORMAT_VERSION} is read here")
    if sidecar.tie_tolerance != TIE_TOLERANCE:
        raise _store_error(directory, f"its tie tolerance is {sidecar.tie_tolerance} Å, {TIE_TOLERANCE} is used here")
    if missing := [name for name in FILES if name not in sidecar.files]:
        raise _store_error(directory, f"{SIDECAR} does not list {missing[0]}")
    return sidecar


def _check_file(path: Path, expected: Described, *, verify: bool) -> None:
    if not path.exists():
        raise _store_error(path.parent, f"{path.name} is missing")
    if (size := path.stat().st_size) != expected.bytes:
        raise _store_error(path.parent, f"{path.name} has {size} bytes, {SIDECAR} says {expected.bytes}")
    if verify and sha256_of(path) != expected.sha256:
        raise _store_error(path.parent, f"{path.name} does not match its SHA-256")


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
            raise _store_error(directory, f"{name} holds {length} entries, {SIDECAR} counts {wanted[name]}")
    for name, total in zip(OFFSETS, (n_atoms, n_edges), strict=True):
        offsets = getattr(packed, name)
        if offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 0).any():
            raise _store_error(directory, f"{name} do not ascend from 0 to {total}")


def _store_error(directory: Path, reason: str) -> StoreError:
    return StoreError(f"graph store {directory}: {reason}; run `dvc repro featurize` again (or `dvc checkout`)")
