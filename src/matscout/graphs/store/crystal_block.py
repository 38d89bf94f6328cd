"""Many crystals as a few flat arrays: what goes to a worker and what comes back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import ATOMIC_NUMBERS, Crystal
from matscout.errors import InputError
from matscout.graphs.neighbors.cell_checks import CellFault


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
        """From crystals in memory.

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
        """From the curated table's columns material_id, lattice, species, frac_coords.

        Args:
            table: with those columns.
            source: the file's name, for messages.

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


def whole_crystals(crystals: Sequence[Crystal]) -> tuple[list[int], list[CellFault]]:
    """Rows of the crystals that a block can hold, and what is wrong with the others."""
    kept, faults = [], []
    for row, crystal in enumerate(crystals):
        if unknown := [symbol for symbol in crystal.species if symbol not in ATOMIC_NUMBERS]:
            detail = f"species {unknown[0]!r} is no element; use symbols from H to Og"
            faults.append(CellFault(row, "unknown_element", detail))
        elif crystal.lattice.shape != (3, 3) or crystal.frac_coords.shape != (crystal.n_atoms, 3):
            shapes = f"lattice {crystal.lattice.shape}, frac_coords {crystal.frac_coords.shape}"
            detail = f"{shapes}: expected (3, 3) and ({crystal.n_atoms}, 3); the row is cut off"
            faults.append(CellFault(row, "shapes_disagree", detail))
        else:
            kept.append(row)
    return kept, faults


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
