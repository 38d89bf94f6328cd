"""The stage `featurize`: the curated table to a graph store, in resumable shards."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from matscout import columns
from matscout.engine import parallel_map
from matscout.errors import InputError
from matscout.files import atomic_path
from matscout.graphs.store.crystal_block import CrystalBlock
from matscout.graphs.store.pack_crystals import pack_graphs
from matscout.graphs.store.packed_graphs import ARRAYS, OFFSETS, join_offsets
from matscout.graphs.store.store_files import FORMAT_VERSION, SIDECAR, write_index, write_sidecar
from matscout.params import Graphs
from matscout.resume.parts import Parts

_SHARD = 2048  # crystals; what a killed run loses at most per worker (under a second of work)
_SHARDS_PER_WORKER = 16  # starting a process costs as much as some ten shards


def build_store(materials: Path, directory: Path, settings: Graphs, *, workers: int) -> None:
    """Write the graph store of a curated table; the same bytes for any number of workers.

    Finished shards wait in `.checkpoints/featurize/` until the store is whole, so that a killed run goes on where it
    was; another table, other settings or other code start clean. A shard that a disk cut off or changed is made again.

    Raises:
        InputError: the table has no rows, an id twice, or a broken cell (the message names it).
    """
    materials, directory = Path(materials), Path(directory)
    block = _read_block(materials)
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


def _name(first: int) -> str:
    """Name of the shard that begins with a row."""
    return f"{first:08d}"


def _write_shard(task: tuple[CrystalBlock, Graphs, Path, str]) -> None:
    block, settings, folder, name = task
    packed = pack_graphs(block, settings)
    Parts(folder).save_arrays(name, {array: getattr(packed, array) for array in ARRAYS})


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


def _read_array(path: Path, name: str) -> NDArray:
    with np.load(path) as arrays:
        return arrays[name]
