"""Materials Project: summary documents, with thermo documents of the GGA hull and run types, to records.

Rows are the raw JSON of `mp-api` (Jain et al., APL Mater. 1, 011002, 2013); no document models, whose
fields depend on each page's first row.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
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
FUNCTIONAL: Final = "PBE"
RUN_TYPES: Final = MappingProxyType({"GGA": FUNCTIONAL, "PBE": FUNCTIONAL, "PBESOL": "PBEsol", "R2SCAN": "r2SCAN"})
GAP_ORIGINS: Final = ("band_gap", "electronic_structure", "structure")  # the first that a document names counts
BESIDE: Final = ("thermo", "core")  # documents of other collections that a page holds beside its summaries
THERMO_LABELS: Final = ("formation_energy_per_atom", "energy_above_hull")


def rows_of(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The summary documents of one page, each with its documents of other collections (if the page has any).

    The default hull of the summary mixes r2SCAN with GGA; a page with thermo documents of the type
    `GGA_GGA+U` takes all energies from those, and none where a material has none. `core` documents hold the
    run type, and with it the functional, of each calculation that a summary names as an origin.
    """
    beside = {
        name: {normalise_id(document.get("material_id")): document for document in page[name] or ()}
        for name in BESIDE
        if name in page
    }
    for document in page["data"]:
        if isinstance(document, Mapping):
            key = normalise_id(document.get("material_id"))
            yield {**document, **{name: found.get(key, {}) for name, found in beside.items()}}
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

    Every label is PBE's: a gap of another functional is withheld, and its functional stated. A row that has neither a
    PBE energy nor a PBE gap is rejected.

    Args:
        row: of the summaries.
        source: name of the database.

    Returns:
        The record, in our units.

    Raises:
        RowError: it holds no usable identifier or structure, a label is no number, or all are of another functional.
    """
    crystal = parse_pymatgen(required(row, "structure"))
    energies = row.get("thermo", row)
    gap_functional = _gap_functional(row)
    if not energies and gap_functional not in {None, FUNCTIONAL}:
        detail = f"only {gap_functional} calculations back it (no GGA(+U) energy); their labels are on another scale"
        raise RowError("other_functional", detail)
    theoretical = flag(row, "theoretical")
    return Record(
        material_id=normalise_id(required(row, "material_id")),
        source=source,
        functional=FUNCTIONAL,
        is_hubbard=_is_hubbard(crystal, energies.get("energy_type")),
        pseudopotentials=PSEUDOPOTENTIALS,
        energy_corrections=str(row.get(columns.ENERGY_CORRECTIONS) or columns.MP2020),  # the service's, since 2021
        synthetic=bool(flag(row, "synthetic")),
        crystal=crystal,
        band_gap=number(row, "band_gap") if gap_functional in {None, FUNCTIONAL} else None,
        **{label: number(energies, label) for label in THERMO_LABELS},  # type: ignore[arg-type]
        bulk_modulus=_vrh(row, "bulk_modulus"),
        shear_modulus=_vrh(row, "shear_modulus"),
        year=year_of(row, "year"),
        is_experimental=None if theoretical is None else not theoretical,
        band_gap_functional=gap_functional if row.get("band_gap") is not None else None,
        ytterbium_potential=_ytterbium_potential(crystal, row),
    )


def _gap_functional(row: Mapping[str, Any]) -> str | None:
    """By the run type of the calculation that the gap comes from; None where the page holds no run types."""
    run_types = (row.get("core") or {}).get("run_types") or {}
    origins = {origin.get("name"): origin.get("task_id") for origin in row.get("origins") or ()}
    tasks = {normalise_id(task): str(run_type) for task, run_type in run_types.items()}
    for name in GAP_ORIGINS:
        if (run_type := tasks.get(normalise_id(origins.get(name)))) is not None:
            plain = run_type.removesuffix("+U")
            return RUN_TYPES.get(plain.upper(), plain)
    return None


def _ytterbium_potential(crystal: Crystal, row: Mapping[str, Any]) -> str | None:
    """All compounds of Yb were computed anew in 2023; rows without a thermo document beside them are older."""
    if "Yb" not in crystal.species:
        return None
    return columns.YB_3 if "thermo" in row else columns.YB_2


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
