"""OQMD: labels of the REST answers joined with cells of the OPTIMADE answers (Saal et al., JOM 65, 1501, 2013).

The REST coordinates have three significant digits, which break symmetry, and OPTIMADE rounds labels: so
each gives what it has precisely. OPTIMADE's `id` is the label's `formationenergy_id`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from matscout import columns
from matscout.sources.fields import flag, make_crystal, number, required, to_fractional, whole_number
from matscout.sources.record import Record, RowError

NAME: Final = "oqmd"
FORMAT: Final = "oqmd_rest_optimade"
VOLUME_TOLERANCE: Final = 0.02  # relative: the two answers must describe the same cell
PSEUDOPOTENTIALS: Final = "PAW_PBE"  # of every calculation, says Saal et al. 2013; rows do not repeat it
HUBBARD_ELEMENTS: Final = frozenset({"V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu"})


def rows_of(page: Mapping[str, Any]) -> Iterator[Any]:
    """The labels of one page, each with its cell's attributes under `cell` (None where OPTIMADE has none)."""
    entries = (entry for entry in page["structures"]["data"] if isinstance(entry, Mapping))
    cells = {str(entry.get("id")): entry.get("attributes") for entry in entries}
    for label in page["labels"]["data"]:
        if not isinstance(label, Mapping):
            yield label
            continue
        yield {**label, "cell": cells.get(str(label.get("formationenergy_id")))}


def parse_row(row: Mapping[str, Any], source: str) -> Record:
    """One label with its cell as a record.

    Args:
        row: label and cell.
        source: name of the database.

    Returns:
        The record, in our units.

    Raises:
        RowError: no cell, an unusable one, one of another size than the label's, or a label that is no number.
    """
    if row.get("cell") is None:
        message = f"OPTIMADE has no structure {row.get('formationenergy_id')}; the label stands alone"
        raise RowError("structure_missing", message)
    cell = row["cell"]
    if not isinstance(cell, Mapping):
        raise RowError("structure_malformed", f"attributes = {cell!r:.60} must be an object")
    lattice = cell.get("lattice_vectors")
    species = cell.get("species_at_sites") or ()
    crystal = make_crystal(lattice, species, to_fractional(cell.get("cartesian_site_positions"), lattice))
    _check_same_cell(row, crystal.n_atoms, crystal.volume)
    elements = set(crystal.species)
    return Record(
        material_id=f"oqmd-{required(row, 'entry_id')}",
        source=source,
        functional="PBE",
        is_hubbard="O" in elements and bool(elements & HUBBARD_ELEMENTS),
        pseudopotentials=PSEUDOPOTENTIALS,
        energy_corrections=columns.UNCORRECTED,
        synthetic=bool(flag(row, "synthetic")),
        crystal=crystal,
        band_gap=number(row, "band_gap"),
        formation_energy_per_atom=number(row, "delta_e"),
        energy_above_hull=number(row, "stability"),
        bulk_modulus=None,
        shear_modulus=None,
        year=None,
    )


def _check_same_cell(row: Mapping[str, Any], n_atoms: int, volume: float) -> None:
    """`natoms` and `volume` (Å³ per cell) of the label against the cell."""
    expected = whole_number(row, "natoms")
    if expected is not None and expected != n_atoms:
        raise RowError("count_mismatch", f"the label says {expected} atoms, the cell holds {n_atoms}")
    stated = number(row, "volume")
    if stated and abs(stated / volume - 1) > VOLUME_TOLERANCE:
        message = f"the label says {stated:g} Å³, the cell spans {volume:g} Å³; they are not one material"
        raise RowError("cell_mismatch", message)
