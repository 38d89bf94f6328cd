"""Materials Project: summary documents (and thermo documents of the GGA hull) to records.

Rows are the raw JSON of `mp-api` (Jain et al., APL Mater. 1, 011002, 2013); no document models, whose
fields depend on each page's first row.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from emmet.core.mpid import AlphaID

from matscout import columns
from matscout.crystal import Crystal
from matscout.sources.fields import flag, number, required, to_number, year_of
from matscout.sources.formats.crystal_parser import parse_pymatgen
from matscout.sources.record import Record, RowError

NAME: Final = "materials_project"
FORMAT: Final = "materials_project_summary"
PSEUDOPOTENTIALS: Final = "PAW_PBE"  # of every calculation, says Jain et al. 2013; rows do not repeat it
# Elements that the Materials Project computes with a Hubbard U beside oxygen or fluorine.
HUBBARD_ELEMENTS: Final = frozenset({"V", "Cr", "Mn", "Fe", "Co", "Ni", "Mo", "W"})
HUBBARD_ANIONS: Final = frozenset({"O", "F"})
PLAIN_ID: Final = re.compile(r"(mp|mvc)-\d+")
THERMO_LABELS: Final = ("formation_energy_per_atom", "energy_above_hull")


def rows_of(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The summary documents of one page, each with its thermo document (if the page has any) under `thermo`.

    The default hull of the summary mixes r2SCAN with GGA; a page with thermo documents of the type
    `GGA_GGA+U` takes all energies from those, and none where a material has none.
    """
    thermo = {normalise_id(document.get("material_id")): document for document in page.get("thermo") or ()}
    for document in page["data"]:
        if "thermo" in page and isinstance(document, Mapping):
            yield {**document, "thermo": thermo.get(normalise_id(document.get("material_id")), {})}
        else:
            yield document


def normalise_id(value: Any) -> str:
    """`mp-149` for `mp-149`, `mp-aaaaaaft` and the like; what is no identifier is returned as text."""
    text = str(value)
    if PLAIN_ID.fullmatch(text):
        return text
    try:
        return str(AlphaID(text).string)
    except (ValueError, TypeError, KeyError, AttributeError):
        return text


def parse_row(row: Mapping[str, Any], source: str) -> Record:
    """One summary document as a record.

    Raises:
        RowError: it holds no usable identifier or structure, or a label is no number.
    """
    crystal = parse_pymatgen(required(row, "structure"))
    energies = row.get("thermo", row)
    return Record(
        material_id=normalise_id(required(row, "material_id")),
        source=source,
        functional="PBE",
        is_hubbard=_is_hubbard(crystal, energies.get("energy_type")),
        pseudopotentials=PSEUDOPOTENTIALS,
        energy_corrections=str(row.get(columns.ENERGY_CORRECTIONS) or columns.MP2020),  # the service's, since 2021
        synthetic=bool(flag(row, "synthetic")),
        crystal=crystal,
        band_gap=number(row, "band_gap"),
        **{label: number(energies, label) for label in THERMO_LABELS},  # type: ignore[arg-type]
        bulk_modulus=_vrh(row, "bulk_modulus"),
        shear_modulus=_vrh(row, "shear_modulus"),
        year=year_of(row, "year"),
    )


def _is_hubbard(crystal: Crystal, energy_type: Any) -> bool:
    """As the thermo document says, else by the Materials Project's rule."""
    if energy_type in {"GGA", "GGA+U"}:
        return energy_type == "GGA+U"
    elements = set(crystal.species)
    return bool(elements & HUBBARD_ANIONS) and bool(elements & HUBBARD_ELEMENTS)


def _vrh(row: Mapping[str, Any], key: str) -> float | None:
    """Voigt-Reuss-Hill average of `{voigt, reuss, vrh}`, GPa."""
    averages = row.get(key)
    if averages is None:
        return None
    if not isinstance(averages, Mapping):
        raise RowError("not_a_number", f"{key} = {averages!r:.80} must be {{voigt, reuss, vrh}} or null")
    return to_number(averages.get("vrh"), f"{key}.vrh")
