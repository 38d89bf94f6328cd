"""Cells in the notations of files, as crystals."""

import io
import warnings
from typing import Any

import numpy as np
from pymatgen.core import Structure
from pymatgen.io.cif import CifParser

from matscout.crystal import Crystal
from matscout.sources.materials_project import parse_structure
from matscout.sources.record import RowError
from matscout.sources.rows import make_crystal, to_fractional

MIN_ATOM_DISTANCE = 1e-4  # Å: two sites this close are one site written twice


def from_cif(text: str) -> Crystal:
    """The first block of a CIF; partial occupancies are refused."""
    if not text.strip():
        raise RowError("empty_file", "the CIF holds nothing")
    try:
        with warnings.catch_warnings():
            # pymatgen warns of rounded coordinates and of absent symbols, which it mends.
            warnings.simplefilter("ignore")
            parser = CifParser(io.StringIO(text), site_tolerance=MIN_ATOM_DISTANCE)
            structures = parser.parse_structures(primitive=False, check_occu=False, on_error="raise")
    except Exception as error:  # pymatgen leaks whatever its parts raise
        raise RowError("structure_malformed", f"no readable CIF: {type(error).__name__}: {error!s:.200}") from error
    return from_structure(structures[0])


def from_structure(structure: Structure) -> Crystal:
    """A pymatgen Structure."""
    try:
        crystal = Crystal.from_structure(structure)
    except (ValueError, AttributeError) as error:
        raise RowError("disordered", str(error)) from error
    return make_crystal(crystal.lattice, crystal.species, crystal.frac_coords)


def from_pymatgen(document: Any) -> Crystal:
    """A pymatgen Structure dict, or one inside a ComputedStructureEntry's."""
    if isinstance(document, dict) and "structure" in document:
        document = document["structure"]
    return parse_structure(document)


def from_optimade(attributes: dict[str, Any]) -> Crystal:
    """The attributes of an OPTIMADE structure: vectors and Cartesian positions in Å."""
    lattice = attributes.get("lattice_vectors")
    names = attributes.get("species_at_sites") or ()
    symbols = _symbols_of(attributes.get("species") or ())
    frac_coords = to_fractional(attributes.get("cartesian_site_positions"), lattice)
    return make_crystal(lattice, [str(symbols.get(name, name)) for name in names], frac_coords)


def _symbols_of(species: Any) -> dict[str, str]:
    """Element by species name; a species of several elements is disorder."""
    symbols = {}
    for entry in species:
        if len(entry["chemical_symbols"]) != 1:
            detail = f"species {entry['name']!r} mixes {entry['chemical_symbols']}; give an ordered cell"
            raise RowError("disordered", detail)
        symbols[entry["name"]] = entry["chemical_symbols"][0]
    return symbols


def from_ase(atoms: Any) -> Crystal:
    """An ASE Atoms object; it must be periodic in three directions."""
    if not np.all(atoms.pbc):
        raise RowError("not_periodic", f"pbc = {atoms.pbc.tolist()}; matscout needs crystals")
    if not atoms.cell.volume:
        raise RowError("zero_volume", "no Lattice is given, or it spans no volume")
    return make_crystal(np.array(atoms.cell), atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False))
