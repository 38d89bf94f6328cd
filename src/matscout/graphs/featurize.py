"""The stage `featurize`: the curated table to a graph store, in resumable shards."""

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from matscout import columns
from matscout.engine import parallel_map
from matscout.errors import InputError
from matscout.files import atomic_path, sha256_of, sha256_of_json
from matscout.graphs.blocks import CrystalBlock
from matscout.graphs.packing import ARRAYS, OFFSETS, PackedGraphs, pack_graphs
from matscout.graphs.store_files import FORMAT_VERSION, write_index, write_sidecar
from matscout.params import Graphs

_SHARD = 1024  # crystals; a shard is what a killed run loses at most per worker


def build_store(materials: Path, directory: Path, settings: Graphs, *, workers: int) -> None:
    """Write the graph store of a curated table; the same bytes for any number of workers.

    Finished shards stay in `.checkpoints/featurize/<fingerprint>/` until the store is whole, so a
    killed run goes on where it was; another table, other settings or other code start clean.

    Raises:
        InputError: the table has no rows, an id twice, or a broken cell (the message names it).
    """
    materials, directory = Path(materials), Path(directory)
    block = _read_block(materials)
    shards = _shard_directory(materials, settings)
    firsts = range(0, len(block), _SHARD)
    paths = [shards / f"{first:08d}.npz" for first in firsts]
    todo = [
        (block.part(first, min(first + _SHARD, len(block))), settings, path)
        for first, path in zip(firsts, paths, strict=True)
        if not path.exists()
    ]
    parallel_map(_write_shard, todo, workers=workers, description="graphs", unit="shard")
    with atomic_path(directory) as temporary:
        temporary.mkdir()
        _merge(paths, temporary, np.array(block.ids, dtype=np.str_), settings)
    shutil.rmtree(shards)


def _read_block(materials: Path) -> CrystalBlock:
    names = [columns.MATERIAL_ID, columns.LATTICE, columns.SPECIES, columns.FRAC_COORDS]
    block = CrystalBlock.from_table(pq.read_table(materials, columns=names), str(materials))
    if len(block) == 0:
        raise InputError(f"{materials} has no rows; look into quarantine.parquet beside it for the reasons")
    ids, counts = np.unique(np.array(block.ids), return_counts=True)
    if counts.max() > 1:
        raise InputError(
            f"{materials}: material_id {ids[counts.argmax()]} occurs {counts.max()} times; it must be unique"
        )
    return block


def _shard_directory(materials: Path, settings: Graphs) -> Path:
    """Where finished shards wait; DVC_ROOT, so that an experiment in a copy finds them too."""
    fingerprint = sha256_of_json(
        {
            "format_version": FORMAT_VERSION,
            "settings": settings.model_dump(),
            "materials": sha256_of(materials),
            "code": sha256_of(Path(__file__).parent),
        }
    )
    path = Path(os.environ.get("DVC_ROOT", ".")) / ".checkpoints" / "featurize" / fingerprint[:16]
    path.mkdir(parents=True, exist_ok=True)
    return path


def _write_shard(task: tuple[CrystalBlock, Graphs, Path]) -> None:
    block, settings, path = task
    packed = pack_graphs(block, settings)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{name: getattr(packed, name) for name in ARRAYS})


def _merge(shards: list[Path], directory: Path, ids: NDArray[np.str_], settings: Graphs) -> None:
    """Concatenate shards array by array, one shard in memory at a time."""
    counts = {}
    for name in ARRAYS:
        parts = [_read_array(path, name) for path in shards] if name in OFFSETS else None
        if parts is not None:
            joined = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part) for part in parts]))])
            np.save(directory / f"{name}.npy", joined)
            counts[name] = int(joined[-1])
    sizes = {"atom_offsets": len(ids), "whole_cell": len(ids), "atomic_numbers": counts["atom_offsets"]}
    sizes |= {
        "multiplicity": counts["atom_offsets"],
        "neighbors": counts["edge_offsets"],
        "edge_vectors": counts["edge_offsets"],
    }
    n_whole = 0
    for name in ARRAYS:
        if name in OFFSETS:
            continue
        first = 0
        for path in shards:
            part = _read_array(path, name)
            if first == 0:
                out = open_memmap(
                    directory / f"{name}.npy", mode="w+", dtype=part.dtype, shape=(sizes[name], *part.shape[1:])
                )
            out[first : first + len(part)] = part
            first += len(part)
            n_whole += int(part.sum()) if name == "whole_cell" else 0
        out.flush()
    write_index(directory, ids)
    write_sidecar(
        directory,
        settings,
        {"crystals": len(ids), "atoms": counts["atom_offsets"], "edges": counts["edge_offsets"], "whole_cell": n_whole},
    )


def _read_array(path: Path, name: str) -> NDArray:
    with np.load(path) as arrays:
        return arrays[name]
