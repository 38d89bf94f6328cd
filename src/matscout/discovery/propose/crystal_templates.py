"""Templates: crystals whose species have become slots that other elements may fill.

Parents are curated crystals whose charges balance, as templates with an ion on each slot.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import moyopy
import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice
from pymatgen.util.coord import pbc_shortest_vectors

from matscout import params
from matscout.crystal import Crystal
from matscout.discovery.known_materials import KnownMaterials
from matscout.discovery.propose.gates import Attrition
from matscout.engine import parallel_stream

if TYPE_CHECKING:  # workers that look for duplicates need no table of ions
    from matscout.discovery.propose.oxidation_states import IonTable

SYMPREC = 0.1  # Å, as in curation: a child inherits the idealised symmetry of its parent


@dataclass(frozen=True)
class Template:
    """A primitive cell with `n_slots` kinds of site.

    Filling slots with distinct elements keeps the space group and the Wyckoff orbits, so a child needs
    no symmetry search of its own.

    Attributes:
        parent_id: material or prototype it was made from.
        lattice: (3, 3) float64, rows, Å, primitive and LLL-reduced.
        frac_coords: (n_atoms, 3) float64.
        slot_of_atom: (n_atoms,) int64.
        elements: n_slots element symbols of the parent.
        space_group: international number at `SYMPREC`.
        pearson: Pearson symbol, such as `cF8`.
        orbits: (slot, Wyckoff letter) of each orbit.
        distances: (n_slots, n_slots) float64, shortest distance between atoms of two slots, Å.
    """

    parent_id: str
    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    slot_of_atom: NDArray[np.int64]
    elements: tuple[str, ...]
    space_group: int
    pearson: str
    orbits: tuple[tuple[int, str], ...]
    distances: NDArray[np.float64]

    @property
    def n_atoms(self) -> int:
        """Atoms in the primitive cell."""
        return len(self.slot_of_atom)

    @property
    def n_slots(self) -> int:
        """Kinds of site: elements of the parent."""
        return len(self.elements)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(n_slots,) atoms of each slot in the primitive cell."""
        return np.bincount(self.slot_of_atom, minlength=self.n_slots)

    @cached_property
    def ratios(self) -> NDArray[np.int64]:
        """(n_slots,) atoms of each slot in the reduced formula."""
        return self.counts // np.gcd.reduce(self.counts)

    @cached_property
    def volume(self) -> float:
        """Volume of the primitive cell, Å³."""
        return float(abs(np.linalg.det(self.lattice)))

    def fill(self, elements: Sequence[str], volume_scale: float = 1.0) -> Crystal:
        """The crystal with `elements[slot]` on each slot and its volume scaled isotropically."""
        species = tuple(elements[int(slot)] for slot in self.slot_of_atom)
        return Crystal(self.lattice * np.cbrt(volume_scale), species, self.frac_coords)

    def label(self, elements: Sequence[str]) -> str:
        """Pearson symbol, space group and canonical Wyckoff letters in the order of the elements' symbols.

        Hicks et al., "AFLOW-XtalFinder", npj Comput. Mater. 7, 30 (2021), as pymatgen canonicalises it.
        Two fillings of one formula with the same label are the same protostructure. The elements count by their
        alphabetical order alone, so that a template has few labels; they are remembered.
        """
        symbols = sorted(set(elements))
        order = tuple(symbols.index(element) for element in elements)
        if order not in self._labels:
            self._labels[order] = self._label(elements)
        return self._labels[order]

    @cached_property
    def _labels(self) -> dict[tuple[int, ...], str]:
        return {}

    def _label(self, elements: Sequence[str]) -> str:
        letters: dict[str, list[str]] = {element: [] for element in sorted(elements)}
        for slot, letter in self.orbits:
            letters[elements[slot]].append(letter)
        parts = ("".join(f"{found.count(x)}{x}" for x in sorted(set(found))) for found in letters.values())
        return f"{self.pearson}_{self.space_group}_{_canonical_wyckoffs('_'.join(parts), self.space_group)}"


def make_template(parent_id: str, crystal: Crystal) -> Template | None:
    """Find the primitive cell, symmetry and slots of a crystal; None if the symmetry search fails."""
    elements = tuple(sorted(set(crystal.species)))
    slots = [elements.index(symbol) for symbol in crystal.species]
    _silence_moyo()
    try:
        data = moyopy.MoyoDataset(
            moyopy.Cell(crystal.lattice.tolist(), crystal.frac_coords.tolist(), slots), symprec=SYMPREC
        )
    except (ValueError, RuntimeError):
        return None
    cell = data.prim_std_cell
    lattice, frac_coords = _reduce(np.array(cell.basis), np.array(cell.positions))
    slot_of_atom = np.array(cell.numbers, dtype=np.int64)
    return Template(
        parent_id,
        lattice,
        frac_coords,
        slot_of_atom,
        elements,
        data.number,
        data.pearson_symbol,
        tuple((slots[orbit], data.wyckoffs[orbit]) for orbit in sorted(set(data.orbits))),
        _shortest_distances(lattice, frac_coords, slot_of_atom),
    )


def make_templates(crystals: Sequence[tuple[str, Crystal]]) -> list[Template | None]:
    """`make_template` for a chunk of ids and crystals: the unit of work of one process."""
    return [make_template(material_id, crystal) for material_id, crystal in crystals]


def _reduce(lattice: NDArray[np.float64], frac_coords: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    reduced = Lattice(lattice).get_lll_reduced_lattice().matrix
    cartesian = frac_coords @ lattice
    return np.array(reduced), np.mod(cartesian @ np.linalg.inv(reduced), 1.0)


@cache
def _canonical_wyckoffs(letters: str, space_group: int) -> str:
    """Wyckoff letters by element, for the choice of origin that all cells of a prototype share."""
    return pymatgen_prototypes().canonicalize_element_wyckoffs(letters, space_group)


@cache
def pymatgen_prototypes() -> Any:
    """The module `pymatgen.analysis.prototypes`, without its bibliography.

    On import it parses the 288 BibTeX entries of its AFLOW prototypes to check their form, which takes several times as
    long as everything used here. For this import alone the check is skipped.
    """
    from pymatgen.util import provenance  # heavy: only where a prototype is looked up

    check = provenance.is_valid_bibtex
    provenance.is_valid_bibtex = lambda _: True
    try:
        return import_module("pymatgen.analysis.prototypes")
    finally:
        provenance.is_valid_bibtex = check


@cache
def _silence_moyo() -> None:
    """Its warning about cells that are not primitive applies to every second database row and is harmless here."""
    logging.getLogger("moyo").setLevel(logging.ERROR)


def _shortest_distances(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], slot_of_atom: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n_slots, n_slots) over all periodic images; an atom and its own image count."""
    _, squared = pbc_shortest_vectors(Lattice(lattice), frac_coords, frac_coords, return_d2=True)
    between = np.sqrt(squared)
    np.fill_diagonal(between, np.linalg.norm(lattice, axis=1).min())  # LLL: close to the shortest lattice vector
    n_slots = int(slot_of_atom.max()) + 1
    shortest = np.full((n_slots, n_slots), np.inf)
    np.minimum.at(shortest, (slot_of_atom[:, None], slot_of_atom[None, :]), between)
    return shortest


BLOCK = 10_000  # parents read before checking whether there are enough
CHUNK = 500  # crystals a task
PARALLEL_FROM = 3_000  # crystals: for fewer, starting processes takes longer than the work
LARGEST_CELL = 4  # times max_atoms: a conventional cell holds up to four primitive ones


@dataclass(frozen=True)
class Parent:
    """A template and the row of the ion on each of its slots."""

    template: Template
    ions: tuple[int, ...]


def template_blocks(
    curated: KnownMaterials,
    settings: params.Candidates,
    attrition: Attrition,
    rng: np.random.Generator,
    *,
    workers: int,
) -> Iterator[Iterator[list[Template | None]]]:
    """Make templates from the curated crystals of usable size, in random order, block by block, in chunks.

    Chunks come while later ones are being made: use up those of one block before the next.

    Args:
        curated: the known crystals.
        settings: the limits of size.
        attrition: counts the parents and those of another size.
        rng: draws the order.
        workers: processes at most.

    Yields:
        For each block an iterator over chunks; None stands for a crystal without symmetry.
    """
    rows = rng.permutation(curated.parents)
    for start in range(0, len(rows), BLOCK):
        usable = [row for row in rows[start : start + BLOCK] if _has_usable_size(curated.species[row], settings)]
        attrition.add_parents({"parents": len(rows[start : start + BLOCK])})
        attrition.add_parents({"parents_of_another_size": len(rows[start : start + BLOCK]) - len(usable)})
        chunks = [
            [(curated.ids[row], curated.crystal(row)) for row in usable[i : i + CHUNK]]
            for i in range(0, len(usable), CHUNK)
        ]
        processes = workers if len(usable) >= PARALLEL_FROM else 1
        yield parallel_stream(make_templates, chunks, workers=processes, description="templates from known crystals")


def balanced(
    table: "IonTable",
    templates: Sequence[Template | None],
    settings: params.Candidates,
    attrition: Attrition,
    prefix: str,
) -> list[Parent]:
    """Keep the templates that are small enough and charge-neutral with one ion an element.

    Args:
        table: the ions.
        templates: templates of known crystals or prototypes; None if a crystal has no symmetry.
        settings: the largest number of atoms.
        attrition: counts what is dropped, and why.
        prefix: prefix of the names of these counts.

    Returns:
        The templates with an ion on each slot.
    """
    symmetric = [template for template in templates if template is not None]
    small = [template for template in symmetric if template.n_atoms <= settings.max_atoms]
    parents = []
    for template in small:
        ions = table.balance(dict(zip(template.elements, template.ratios.tolist(), strict=True)))
        if ions is not None:
            parents.append(Parent(template, ions))
    attrition.add_parents(
        {
            f"{prefix}_without_symmetry": len(templates) - len(symmetric),
            f"{prefix}_with_too_many_atoms": len(symmetric) - len(small),
            f"{prefix}_not_charge_neutral": len(small) - len(parents),
        }
    )
    return parents


def _has_usable_size(species: Sequence[str], settings: params.Candidates) -> bool:
    n_elements = len(set(species))
    return 2 <= n_elements <= settings.max_elements and len(species) <= LARGEST_CELL * settings.max_atoms
