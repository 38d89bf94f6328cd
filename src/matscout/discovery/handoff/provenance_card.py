"""Provenance: what a candidate was made from and what predicted it, in one card."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from matscout import __version__, columns
from matscout.discovery.handoff.optimade_entries import plain
from matscout.files import sha256_of
from matscout.sources.snapshots.manifest import read_manifest

UNRELAXED_NOTE: Final = "predicted, not computed: the cell is scaled to a plausible volume and not relaxed"
RELAXED_NOTE: Final = "predicted, not computed by DFT: the cell is relaxed by the potential under `relaxed_by`"


@dataclass(frozen=True)
class Origins:
    """Where the files lie that a candidate's numbers come from.

    Attributes:
        members: folder of members.
        ensemble: folder of the calibration.
        materials: curated table.
        raw: folder of snapshots.
    """

    members: Path = Path("data/members")
    ensemble: Path = Path("data/ensemble")
    materials: Path = Path("data/curated/materials.parquet")
    raw: Path = Path("data/raw")

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
            sources=_sources(self.materials) if self.materials.is_file() else {},
        )


@dataclass(frozen=True)
class Evidence:
    """What `Origins.read` found.

    Attributes:
        weights: SHA-256 of each member's weights.
        files: SHA-256 of tables and calibration.
        terms: licence and citation by source.
        sources: source by material id.
    """

    weights: dict[str, str]
    files: dict[str, str]
    terms: dict[str, dict[str, str]]
    sources: dict[str, str]


def provenance_card(
    row: dict[str, Any], evidence: Evidence, relaxation: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The card of one candidate, as JSON: what it is, where it comes from, who predicted what.

    Args:
        row: of the ranking.
        evidence: hashes and licences.
        relaxation: summary of the stage `relax`; null = nothing was relaxed.
    """
    is_relaxed = relaxation is not None and row.get("potential_energy_after") is not None
    parent = str(row[columns.PARENT_ID])
    source = evidence.sources.get(parent, "")
    votes: dict[str, dict[str, Any]] = {}
    for name, value in row.items():
        target, separator, member = str(name).partition("__")
        if separator:
            votes.setdefault(member, {})[target] = plain(value)
    crystal = {name + end for name in columns.CRYSTAL for end in ("", "_before")}
    predicted = {n: plain(v) for n, v in row.items() if n not in crystal and "__" not in str(n)}
    return {
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


def _sources(materials: Path) -> dict[str, str]:
    table = pq.read_table(materials, columns=[columns.MATERIAL_ID, columns.SOURCE]).to_pydict()
    return dict(zip(table[columns.MATERIAL_ID], table[columns.SOURCE], strict=True))
