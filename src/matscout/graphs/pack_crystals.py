"""From a block of crystals to packed graphs, in one compiled loop.

A block holds many crystals as a few flat arrays and is sent to a worker. The worker returns packed graphs: many graphs
as a few flat arrays, which are stored, memory-mapped and cut into batches.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import ATOMIC_NUMBERS, Crystal
from matscout.crystal_checks import Rejection, find_malformed
from matscout.errors import InputError
from matscout.graphs.compiled import compiled
from matscout.graphs.neighbor_search import FINE, cell_problem, overlap_problem, rejection_of, search
from matscout.graphs.symmetry import orbits_of
from matscout.params import Graphs


@dataclass(frozen=True)
class PackedGraphs:
    """Neighbour graphs of many crystals; atoms are orbits where the asymmetric unit is used.

    Attributes:
        atom_offsets: (n_crystals + 1,) int64, where each crystal's atoms begin and end.
        atomic_numbers: (n_atoms,) uint8.
        multiplicity: (n_atoms,) uint16, atoms of the primitive cell that this one stands for.
        edge_offsets: (n_atoms + 1,) int64, where each atom's edges begin and end.
        neighbors: (n_edges,) uint16, atom *within the crystal* that an edge ends at.
        edge_vectors: (n_edges, 3) float32, Å, sorted by length for each centre.
    """

    atom_offsets: NDArray[np.int64]
    atomic_numbers: NDArray[np.uint8]
    multiplicity: NDArray[np.uint16]
    edge_offsets: NDArray[np.int64]
    neighbors: NDArray[np.uint16]
    edge_vectors: NDArray[np.float32]

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Concatenate one or more parts."""
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
        for name in OFFSETS:
            joined[name] = join_offsets([getattr(part, name) for part in parts])
        return cls(**joined)


ARRAYS = tuple(field.name for field in fields(PackedGraphs))
OFFSETS = ("atom_offsets", "edge_offsets")


def join_offsets(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Offsets of concatenated arrays."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate([np.diff(part) for part in parts]))])


@dataclass(frozen=True)
class CrystalBlock:
    """Crystals, packed.

    Attributes:
        ids: n_crystals names.
        lattices: (n_crystals, 3, 3) float64, Å.
        offsets: (n_crystals + 1,) int64, where each crystal's atoms begin and end.
        numbers: (n_atoms,) uint8.
        frac_coords: (n_atoms, 3) float64.
    """

    ids: tuple[str, ...]
    lattices: NDArray[np.float64]
    offsets: NDArray[np.int64]
    numbers: NDArray[np.uint8]
    frac_coords: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, first: int, last: int) -> Self:
        """The crystals `first` to `last` (exclusive), copied so that pickling sends no more."""
        begin, end = self.offsets[first], self.offsets[last]
        return type(self)(
            self.ids[first:last],
            self.lattices[first:last].copy(),
            self.offsets[first : last + 1] - begin,
            self.numbers[begin:end].copy(),
            self.frac_coords[begin:end].copy(),
        )

    @classmethod
    def from_crystals(cls, ids: Sequence[str], crystals: Sequence[Crystal]) -> Self:
        """Pack crystals that are in memory.

        Args:
            ids: n material ids.
            crystals: n cells, Å.

        Returns:
            The block, in their order.

        Raises:
            InputError: ids and crystals differ in number, or a species is no element.
        """
        if len(ids) != len(crystals):
            raise InputError(f"{len(ids)} ids for {len(crystals)} crystals; give one id per crystal")
        numbers = [_numbers(name, crystal.species) for name, crystal in zip(ids, crystals, strict=True)]
        return cls(
            tuple(ids),
            np.array([crystal.lattice for crystal in crystals], dtype=np.float64).reshape(-1, 3, 3),
            _offsets([len(n) for n in numbers]),
            np.concatenate([*numbers, np.zeros(0, np.uint8)]),
            np.concatenate([*(crystal.frac_coords for crystal in crystals), np.zeros((0, 3))]),
        )

    @classmethod
    def from_table(cls, table: pa.Table, source: str) -> Self:
        """Pack the curated table's columns material_id, lattice, species and frac_coords.

        Args:
            table: with those columns.
            source: the file's name, for messages.

        Returns:
            The block, in the order of the table.

        Raises:
            InputError: a species is no element, or a row's lists do not fit each other.
        """
        flat = {name: table[name].combine_chunks() for name in (columns.LATTICE, columns.SPECIES, columns.FRAC_COORDS)}
        ids = tuple(table[columns.MATERIAL_ID].to_pylist())
        n_atoms = flat[columns.SPECIES].value_lengths().to_numpy(zero_copy_only=False)
        _check_lengths(ids, n_atoms, flat, source)
        symbols = flat[columns.SPECIES].flatten().dictionary_encode()
        known = np.array([ATOMIC_NUMBERS.get(symbol, 0) for symbol in symbols.dictionary.to_pylist()], dtype=np.uint8)
        numbers = known[symbols.indices.to_numpy(zero_copy_only=False)] if len(symbols) else np.zeros(0, np.uint8)
        offsets = _offsets(n_atoms)
        if (numbers == 0).any():
            atom = int(np.argmin(numbers))
            name = ids[int(np.searchsorted(offsets, atom, side="right")) - 1]
            raise InputError(f"{source}: {name} holds {symbols[atom].as_py()!r}, which is no element; fix or drop it")
        lattices = flat[columns.LATTICE].flatten().to_numpy(zero_copy_only=False)
        coords = flat[columns.FRAC_COORDS].flatten().to_numpy(zero_copy_only=False)
        return cls(ids, lattices.reshape(-1, 3, 3), offsets, numbers, coords.reshape(-1, 3))


def whole_crystals(crystals: Sequence[Crystal]) -> tuple[list[int], list[Rejection]]:
    """Rows of the crystals that a block can hold, and the rejections of the others."""
    found = [find_malformed(crystal) for crystal in crystals]
    rejections = [replace(malformed, row=row) for row, malformed in enumerate(found) if malformed is not None]
    return [row for row, malformed in enumerate(found) if malformed is None], rejections


def _numbers(name: str, species: Iterable[str]) -> NDArray[np.uint8]:
    try:
        return np.array([ATOMIC_NUMBERS[symbol] for symbol in species], dtype=np.uint8)
    except KeyError as error:
        raise InputError(f"{name} holds {error.args[0]!r}, which is no element; fix or drop it") from error


def _offsets(counts: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(counts, dtype=np.int64))])


def _check_lengths(
    ids: Sequence[str], n_atoms: NDArray[np.int64], flat: Mapping[str, pa.ListArray], source: str
) -> None:
    for name, wanted in ((columns.LATTICE, np.full(len(ids), 9)), (columns.FRAC_COORDS, 3 * n_atoms)):
        given = flat[name].value_lengths().to_numpy(zero_copy_only=False)
        if (wrong := np.flatnonzero(given != wanted)).size:
            row = int(wrong[0])
            raise InputError(
                f"{source}: {ids[row]} has {given[row]} numbers in {name}, {wanted[row]} are needed "
                f"for {n_atoms[row]} atoms; fix or drop it"
            )


def pack_graphs(block: CrystalBlock, settings: Graphs) -> PackedGraphs:
    """Neighbour graphs of a block of crystals.

    Args:
        block: the crystals.
        settings: of the graphs.

    Returns:
        Their graphs, in the block's order.

    Raises:
        InputError: a cell is flat, not finite, too large or has overlapping atoms; the message names its id.
    """
    packed, rejections = pack_usable(block, settings)
    if rejections:
        raise InputError(f"{block.ids[rejections[0].row]}: {rejections[0].detail}")
    return packed


def pack_usable(block: CrystalBlock, settings: Graphs) -> tuple[PackedGraphs, list[Rejection]]:
    """Neighbour graphs of the usable crystals, in their order, and the rejections of the others."""
    symprec = settings.symprec if settings.asymmetric_unit else 0.0
    problems, values, arrays = _pack(
        block.lattices, block.offsets, block.numbers, block.frac_coords, settings.n_neighbors, symprec
    )
    packed = PackedGraphs(*arrays)
    broken = np.flatnonzero(problems != FINE)
    if not len(broken):
        return packed, []
    kept = np.concatenate([[True], problems == FINE])  # a broken crystal left no atoms behind
    rejections = [rejection_of(int(row), int(problems[row]), float(values[row])) for row in broken]
    return replace(packed, atom_offsets=packed.atom_offsets[kept]), rejections


@compiled
def _pack(
    lattices: NDArray[np.float64],
    offsets: NDArray[np.int64],
    numbers: NDArray[np.uint8],
    frac_coords: NDArray[np.float64],
    n_neighbors: int,
    symprec: float,
) -> tuple[NDArray[np.int8], NDArray[np.float64], tuple[NDArray, ...]]:
    """(n_crystals,) problem of each cell (`FINE` if none) and its value, and the arrays of `PackedGraphs`.

    A broken cell has no atoms there. `symprec` = 0 keeps every atom.
    """
    atom_offsets = np.zeros(len(lattices) + 1, np.int64)
    atomic_numbers = np.empty(len(numbers), np.uint8)
    multiplicity = np.empty(len(numbers), np.uint16)
    edge_offsets = np.zeros(len(numbers) + 1, np.int64)
    neighbors = np.empty(len(numbers) * (n_neighbors + 8) + 1, np.uint16)
    vectors = np.empty((len(neighbors), 3), np.float32)
    problems, values = np.zeros(len(lattices), np.int8), np.zeros(len(lattices))
    n_atoms, n_edges = 0, 0
    for row in range(len(lattices)):
        atom_offsets[row + 1] = n_atoms
        frac = frac_coords[offsets[row] : offsets[row + 1]]
        species = numbers[offsets[row] : offsets[row + 1]]
        problem, value = cell_problem(lattices[row], frac)
        if problem != FINE:
            problems[row], values[row] = problem, value
            continue
        atoms, orbit_of_atom, sizes = _orbits(lattices[row], frac, species, symprec)
        counts, found, edges = search(lattices[row], frac, atoms, n_neighbors)
        problem, value = overlap_problem(counts, edges)
        if problem != FINE:
            problems[row], values[row] = problem, value
            continue
        for orbit in range(len(atoms)):
            atomic_numbers[n_atoms] = species[atoms[orbit]]
            multiplicity[n_atoms] = sizes[orbit]
            n_atoms += 1
            edge_offsets[n_atoms] = edge_offsets[n_atoms - 1] + counts[orbit]
        atom_offsets[row + 1] = n_atoms
        if n_edges + len(found) > len(neighbors):
            spare = len(neighbors) + len(found)
            neighbors = np.concatenate((neighbors, np.empty(spare, np.uint16)))
            vectors = np.concatenate((vectors, np.empty((spare, 3), np.float32)))
        for edge in range(len(found)):
            neighbors[n_edges] = orbit_of_atom[found[edge]]
            vectors[n_edges] = edges[edge]
            n_edges += 1
    arrays = (
        atom_offsets,
        atomic_numbers[:n_atoms].copy(),
        multiplicity[:n_atoms].copy(),
        edge_offsets[: n_atoms + 1].copy(),
        neighbors[:n_edges].copy(),
        vectors[:n_edges].copy(),
    )
    return problems, values, arrays


@compiled
def _orbits(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], numbers: NDArray[np.uint8], symprec: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Representatives, orbit of each atom, multiplicity; each atom for itself where `symprec` is 0."""
    if symprec > 0.0:
        return orbits_of(lattice, frac_coords, numbers, symprec)
    atoms = np.arange(len(numbers))
    return atoms, atoms.copy(), np.ones(len(numbers), np.int64)
