"""Candidates as records: the card of their provenance, and OPTIMADE entries.

The card says what a candidate was made from and what predicted it. Entries are one JSON object per line, for any server
or client that reads the standard.
"""

import datetime as dt
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from math import gcd
from pathlib import Path
from typing import Any, Final

import pandas as pd

from matscout import __version__, columns, layout
from matscout.crystal import Crystal
from matscout.curated_table import CuratedTable
from matscout.files import sha256_of
from matscout.sources.snapshots.snapshot_files import read_manifest

UNRELAXED_NOTE: Final = "predicted, not computed: the cell is scaled to a plausible volume and not relaxed"
RELAXED_NOTE: Final = "predicted, not computed by DFT: the cell is relaxed by the potential under `relaxed_by`"
MAGNETIC: Final = frozenset({"V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Ru", "Os", "Ir", "Eu", "Gd", "Tb", "Dy", "U"})
LIGANDS: Final = frozenset({"O", "F", "S", "Cl", "Se", "Br", "Te", "I", "N", "P", "As"})


@dataclass(frozen=True)
class Origins:
    """The files behind a candidate's predictions.

    Attributes:
        members: folder of members.
        ensemble: folder of the calibration.
        materials: curated table.
        raw: folder of snapshots.
    """

    members: Path = layout.MEMBERS
    ensemble: Path = layout.ENSEMBLE
    materials: Path = layout.MATERIALS
    raw: Path = layout.RAW

    def read(self, ranked: Path) -> "Evidence":
        """Hashes, licences and the source of each parent; what is absent is left out of the cards."""
        cards = sorted(self.members.glob("*/member.json"))
        hashes = {card.parent.name: json.loads(card.read_text())["weights_sha256"] for card in cards}
        files = {"ranked": ranked, "materials": self.materials, "calibration": self.ensemble / "calibration.json"}
        manifests = [read_manifest(path.parent) for path in sorted(self.raw.glob("*/manifest.json"))]
        return Evidence(
            weights=hashes,
            files={name: sha256_of(path) for name, path in files.items() if path.is_file()},
            terms={m.source: {"licence": m.licence, "citation": m.citation} for m in manifests},
            sources=CuratedTable(self.materials).sources() if self.materials.is_file() else {},
            goal=_goal(ranked),
        )


@dataclass(frozen=True)
class Evidence:
    """The content of the files of `Origins`.

    Attributes:
        weights: SHA-256 of each member's weights.
        files: SHA-256 of tables and calibration.
        terms: licence and citation by source.
        sources: source by material id.
        goal: name and definition of the goal of the ranking; empty if unknown.
    """

    weights: dict[str, str]
    files: dict[str, str]
    terms: dict[str, dict[str, str]]
    sources: dict[str, str]
    goal: dict[str, Any]


def provenance_card(
    row: dict[str, Any], evidence: Evidence, relaxation: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The card of one candidate, as JSON: what to know before computing it, its origin, and the predictions.

    Args:
        row: row of the ranking.
        evidence: hashes and licences.
        relaxation: summary of the stage `relax`; None = nothing was relaxed.
    """
    is_relaxed = relaxation is not None and bool(pd.notna(row.get("potential_energy_after")))
    parent = str(row[columns.PARENT_ID])
    source = evidence.sources.get(parent, "")
    votes: dict[str, dict[str, Any]] = {}
    for name, value in row.items():
        target, separator, member = str(name).partition("__")
        if separator:
            votes.setdefault(member, {})[target] = plain(value)
    crystal = {name + end for name in columns.CRYSTAL for end in ("", "_before")}
    predicted = {n: plain(v) for n, v in row.items() if n not in crystal and "__" not in str(n)}
    missing = str(row.get(columns.MISSING_REFERENCES) or "")
    return {
        "formula": str(row.get(columns.FORMULA) or ""),
        "goal": evidence.goal,
        "stability_judged": plain(row.get(columns.STABILITY_JUDGED)),
        "stability_remark": str(row.get(columns.STABILITY_REMARK) or ""),
        "missing_references": [name for name in missing.split(",") if name],
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "warnings": warnings_of(row[columns.SPECIES]),
        "candidate": predicted,
        "parent": {"id": parent, "source": source, **evidence.terms.get(source, {})},
        "members": votes,
        "weights_sha256": evidence.weights,
        "files_sha256": evidence.files,
        "units": {name: unit for name, unit in columns.UNITS.items() if name in predicted},
        "matscout": __version__,
        "relaxed_by": dict(relaxation["potential"]) if relaxation is not None and is_relaxed else None,
        "energy_judged_by": dict(relaxation["judge"]) if relaxation is not None and is_relaxed else None,
        "note": RELAXED_NOTE if is_relaxed else UNRELAXED_NOTE,
    }


def warnings_of(species: Iterable[str]) -> list[str]:
    """Warnings about what the inputs do not cover."""
    symbols = set(species)
    found = []
    if symbols & MAGNETIC and symbols & LIGANDS:
        metals = ", ".join(sorted(symbols & MAGNETIC))
        found.append(
            f"magnetic order: the inputs start ferromagnetic, and compounds of {metals} are often antiferromagnetic, "
            "which may lie tens of meV/atom lower and change the gap; compare both (pymatgen: "
            "MagneticStructureEnumerator)"
        )
    return found


def _goal(ranked: Path) -> dict[str, Any]:
    summary = Path(ranked).parent / "summary.json"
    if not summary.is_file():
        return {}
    content = json.loads(summary.read_text())
    return {"name": content.get("goal", ""), **content.get("goal_definition", {})}


API_VERSION = "1.1.0"
PREFIX = "_matscout_"  # of the properties that the standard does not define
PROPERTIES = (
    columns.BAND_GAP,
    columns.FORMATION_ENERGY,
    columns.ENERGY_ABOVE_HULL,
    columns.GOAL_PROBABILITY,
    columns.RANK,
    columns.PARENT_ID,
    columns.PARENT_IS_EXPERIMENTAL,
    columns.SUBSTITUTION,
)
# When a candidate was proposed depends on no clock here; the standard asks for a date and allows null.
LAST_MODIFIED = None


def structure_lines(ranked: pd.DataFrame) -> Iterator[str]:
    """A header line, then one `structures` entry a candidate, as the OPTIMADE specification 1.1 defines it."""
    yield json.dumps({"x-optimade": {"meta": {"api_version": API_VERSION}}}, sort_keys=True)
    for row in ranked.to_dict("records"):
        yield json.dumps(structure_entry(row), sort_keys=True)


def structure_entry(row: dict[str, Any]) -> dict[str, Any]:
    """The entry of one candidate."""
    crystal = Crystal.from_row(row)
    counts = dict(sorted(crystal.element_counts.items()))
    divisor = reduce(gcd, counts.values())
    attributes = {
        "last_modified": LAST_MODIFIED,
        "elements": list(counts),
        "nelements": len(counts),
        "elements_ratios": _ratios(list(counts.values())),
        "chemical_formula_descriptive": "".join(f"{e}{_amount(n)}" for e, n in counts.items()),
        "chemical_formula_reduced": "".join(f"{e}{_amount(n // divisor)}" for e, n in counts.items()),
        "chemical_formula_anonymous": _anonymous(counts, divisor),
        "dimension_types": [1, 1, 1],
        "nperiodic_dimensions": 3,
        "lattice_vectors": crystal.lattice.tolist(),
        "cartesian_site_positions": (crystal.frac_coords @ crystal.lattice).tolist(),
        "nsites": crystal.n_atoms,
        "species": [{"name": e, "chemical_symbols": [e], "concentration": [1.0]} for e in counts],
        "species_at_sites": list(crystal.species),
        "structure_features": [],
    }
    for name in PROPERTIES:
        if name in row:
            attributes[f"{PREFIX}{name}"] = plain(row[name])
    return {"type": "structures", "id": row[columns.CANDIDATE_ID], "attributes": attributes}


def _ratios(numbers: list[int]) -> list[float]:
    return [number / sum(numbers) for number in numbers]


def _anonymous(counts: dict[str, int], divisor: int) -> str:
    amounts = sorted((number // divisor for number in counts.values()), reverse=True)
    return "".join(f"{chr(ord('A') + i)}{_amount(number)}" for i, number in enumerate(amounts))


def _amount(number: int) -> str:
    return "" if number == 1 else str(number)


def plain(value: Any) -> Any:
    """A numpy scalar as a Python one, and what is not finite as None: neither is JSON."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
