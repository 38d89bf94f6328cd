"""The stage `featurize`: the curated table to a graph store, in resumable shards."""

import logging
import os
import shutil
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import pyarrow.parquet as pq
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from matscout import columns
from matscout.engine import parallel_map
from matscout.errors import InputError
from matscout.files import atomic_path, sha256_of, sha256_of_json
from matscout.graphs.store.crystal_block import CrystalBlock
from matscout.graphs.store.pack_crystals import pack_graphs
from matscout.graphs.store.packed_graphs import ARRAYS, OFFSETS, join_offsets
from matscout.graphs.store.store_files import FORMAT_VERSION, SIDECAR, write_index, write_sidecar
from matscout.params import Graphs

_SHARD = 2048  # crystals; what a killed run loses at most per worker (under a second of work)
_SHARDS_PER_WORKER = 16  # starting a process costs as much as some ten shards

_LOG = logging.getLogger(__name__)


def build_store(materials: Path, directory: Path, settings: Graphs, *, workers: int) -> None:
    """Write the graph store of a curated table; the same bytes for any number of workers.

    Finished shards stay in `.checkpoints/featurize/<fingerprint>/` until the store is whole, so a
    killed run goes on where it was; another table, other settings or other code start clean. A shard that
    a disk cut off or changed (its checksums differ) is made again.

    Raises:
        InputError: the table has no rows, an id twice, or a broken cell (the message names it).
    """
    materials, directory = Path(materials), Path(directory)
    block = _read_block(materials)
    waiting = _shard_directory(materials, settings)
    firsts = range(0, len(block), _SHARD)
    shards = [waiting / f"{first:08d}.npz" for first in firsts]
    todo = [
        (block.part(first, min(first + _SHARD, len(block))), settings, shard)
        for first, shard in zip(firsts, shards, strict=True)
        if not _is_whole(shard)
    ]
    useful = min(workers, -(-len(todo) // _SHARDS_PER_WORKER))
    parallel_map(_write_shard, todo, workers=useful, description="graphs", unit="shard")
    with atomic_path(directory, mark=SIDECAR) as temporary:
        temporary.mkdir()
        counts = _merge(shards, temporary)
        write_index(temporary, np.array(block.ids, dtype=np.str_))
        write_sidecar(temporary, settings, counts)
    shutil.rmtree(waiting)


def _read_block(materials: Path) -> CrystalBlock:
    names = [columns.MATERIAL_ID, columns.LATTICE, columns.SPECIES, columns.FRAC_COORDS]
    table = pq.read_table(materials, columns=names)
    if table.num_rows == 0:
        raise InputError(f"{materials} has no rows; look into quarantine.parquet beside it for the reasons")
    block = CrystalBlock.from_table(table, str(materials))
    ids, counts = np.unique(np.array(block.ids), return_counts=True)
    if (most := counts.max()) > 1:
        raise InputError(f"{materials}: material_id {ids[counts.argmax()]} occurs {most} times; it must be unique")
    return block


def _shard_directory(materials: Path, settings: Graphs) -> Path:
    """Where finished shards wait: under the main repository, which an experiment's copy shares."""
    fingerprint = sha256_of_json(
        {
            "format_version": FORMAT_VERSION,
            "settings": settings.model_dump(),
            "materials": sha256_of(materials),
            "code": sha256_of(Path(__file__).parents[1]),
        }
    )
    root = Path(os.environ.get("DVC_ROOT", ".")).resolve()  # a worker of a cluster has another working directory
    path = root / ".checkpoints" / "featurize" / fingerprint[:16]
    path.mkdir(parents=True, exist_ok=True)
    return path


def _write_shard(task: tuple[CrystalBlock, Graphs, Path]) -> None:
    block, settings, path = task
    packed = pack_graphs(block, settings)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{name: getattr(packed, name) for name in ARRAYS})


def _merge(shards: list[Path], directory: Path) -> dict[str, int]:
    """Lay the shards one after the other, one array of one shard in memory at a time; the store's counts."""
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


def _is_whole(shard: Path) -> bool:
    """Whether a shard is there with the content that was written (zip keeps a CRC-32 of every array)."""
    if not shard.exists():
        return False
    try:
        with ZipFile(shard) as arrays:
            if arrays.testzip() is None and set(arrays.namelist()) == {f"{name}.npy" for name in ARRAYS}:
                return True
    except (BadZipFile, EOFError, OSError, RuntimeError, ValueError):  # what zipfile says of changed headers
        pass
    _LOG.warning("%s was cut off or changed on disk (its checksum differs): it is made again", shard)
    return False


def _read_array(path: Path, name: str) -> NDArray:
    with np.load(path) as arrays:
        return arrays[name]
