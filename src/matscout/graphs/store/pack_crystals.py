"""From a block of crystals to packed graphs, in one compiled loop."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from matscout.errors import InputError
from matscout.graphs.compiled import compiled
from matscout.graphs.neighbors.cell_checks import FINE, CellFault, cell_problem, fault_of, overlap_problem
from matscout.graphs.neighbors.neighbor_search import search
from matscout.graphs.store.crystal_block import CrystalBlock
from matscout.graphs.store.packed_graphs import PackedGraphs
from matscout.graphs.symmetry.asymmetric_unit import orbits_of
from matscout.params import Graphs


def pack_graphs(block: CrystalBlock, settings: Graphs) -> PackedGraphs:
    """Neighbour graphs of a block of crystals.

    Raises:
        InputError: a cell is flat, not finite, too large or has overlapping atoms; the message names its id.
    """
    packed, faults = pack_usable(block, settings)
    if faults:
        raise InputError(f"{block.ids[faults[0].row]}: {faults[0].detail}")
    return packed


def pack_usable(block: CrystalBlock, settings: Graphs) -> tuple[PackedGraphs, list[CellFault]]:
    """Neighbour graphs of the crystals that have one, in their order, and why the others have none."""
    symprec = settings.symprec if settings.asymmetric_unit else 0.0
    problems, values, arrays = _pack(
        block.lattices, block.offsets, block.numbers, block.frac_coords, settings.n_neighbors, symprec
    )
    packed = PackedGraphs(*arrays)
    broken = np.flatnonzero(problems != FINE)
    if not len(broken):
        return packed, []
    kept = np.concatenate([[True], problems == FINE])  # a broken crystal left no atoms behind
    faults = [fault_of(int(row), int(problems[row]), float(values[row])) for row in broken]
    return replace(packed, atom_offsets=packed.atom_offsets[kept]), faults


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
