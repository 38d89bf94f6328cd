"""Gates that a candidate must pass, and how many candidates each rejects."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the report names the gates, and needs no table of ions
    from matscout.discovery.propose.oxidation_states import IonTable

GENERATED = "generated"
UNCHANGED = "unchanged"
CHARGE = "not_charge_neutral"
REPEATED_ELEMENT = "element_on_two_slots"
ELECTRONEGATIVITY = "electronegativity_order"
ELECTRON_COUNT = "electrons_per_atom"
VOLUME = "insane_volume"
CONTACT = "atoms_too_close"
IN_CURATED = "in_curated_set"
DUPLICATE = "duplicate_of_a_candidate"
POLYMORPHS = "enough_structures_of_this_formula"
NOT_NEEDED = "passed_but_not_needed"


class Attrition:
    """Counts by gate, in the order in which gates first rejected something; intermetallics are counted separately."""

    def __init__(self) -> None:
        self._parents: dict[str, int] = {}
        self._salts: dict[str, int] = {}
        self._metals: dict[str, int] = {}

    def add(self, counts: Mapping[str, int], *, metals: bool = False) -> None:
        """Add counts of candidates by gate."""
        _add(self._metals if metals else self._salts, counts)

    def add_parents(self, counts: Mapping[str, int]) -> None:
        """Add counts of parents: how many were tried, and why some cannot be used."""
        _add(self._parents, counts)

    def of_candidates(self, *, metals: bool = False) -> dict[str, int]:
        """Candidates generated and rejected, by gate: of the ionic routes, or of intermetallics."""
        return dict(self._metals if metals else self._salts)

    def of_parents(self) -> dict[str, int]:
        """Parents tried and left out, by reason."""
        return dict(self._parents)

    def __str__(self) -> str:
        metals = {f"intermetallics: {gate}": number for gate, number in self._metals.items()}
        counts = {**self._parents, **self._salts, **metals}
        return ", ".join(f"{gate} {number:,}" for gate, number in counts.items()) or "nothing was tried"


def _add(total: dict[str, int], counts: Mapping[str, int]) -> None:
    for gate, number in counts.items():
        total[gate] = total.get(gate, 0) + int(number)


def pass_in_turn(gates: Mapping[str, NDArray[np.bool_]]) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which rows pass every gate, and how many of those that pass the earlier gates each gate rejects."""
    passed = np.ones(len(next(iter(gates.values()))), dtype=bool)
    counts = {}
    for gate, mask in gates.items():
        counts[gate] = int((passed & ~mask).sum())
        passed &= mask
    return passed, counts


def ionic_gates(
    table: "IonTable", filled: NDArray[np.int64], old: NDArray[np.int64], ratios: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Gates on the ions alone, for fillings of a compound.

    Args:
        table: the ions.
        filled: (m, n_slots) rows of the table, one filling per row.
        old: (n_slots,) the known compound's ions, rows of the table.
        ratios: (n_slots,) atoms of each slot in the formula.

    Returns:
        By gate, in the order in which they count: (m,) whether a filling passes.
    """
    elements = np.sort(table.atomic_numbers[filled], axis=1)
    return {
        UNCHANGED: np.any(filled != old, axis=1),
        CHARGE: np.sum(table.charges[filled] * ratios, axis=1) == 0,
        REPEATED_ELEMENT: np.all(np.diff(elements, axis=1) > 0, axis=1),
        ELECTRONEGATIVITY: table.is_ordered(filled),
    }
