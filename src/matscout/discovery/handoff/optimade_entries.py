"""Candidates as OPTIMADE entries, one JSON object a line, for any server or client that reads the standard."""

import json
import math
from collections.abc import Iterator
from functools import reduce
from math import gcd
from typing import Any

import pandas as pd

from matscout import columns
from matscout.crystal import Crystal

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
