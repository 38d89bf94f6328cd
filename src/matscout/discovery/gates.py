"""Gates that a candidate passes, and the count of those that each turns away."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from matscout.discovery.ions import IonTable

GENERATED = "generated"
UNCHANGED = "unchanged"
CHARGE = "not_charge_neutral"
REPEATED_ELEMENT = "element_on_two_slots"
ELECTRONEGATIVITY = "electronegativity_order"
VOLUME = "insane_volume"
CONTACT = "atoms_too_close"
IN_CURATED = "in_curated_set"
DUPLICATE = "duplicate_of_a_candidate"
POLYMORPHS = "enough_structures_of_this_formula"
NOT_NEEDED = "passed_but_not_needed"


class Attrition:
    """Counts by gate, in the order in which gates first turned something away."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, counts: Mapping[str, int]) -> None:
        """Add counts by gate."""
        for gate, number in counts.items():
            self._counts[gate] = self._counts.get(gate, 0) + int(number)

    def as_dict(self) -> dict[str, int]:
        """Counts by gate."""
        return dict(self._counts)

    def __str__(self) -> str:
        return ", ".join(f"{gate} {number:,}" for gate, number in self._counts.items()) or "nothing was tried"


def pass_in_turn(gates: Mapping[str, NDArray[np.bool_]]) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which rows pass every gate, and how many each gate turns away that the ones before let through."""
    passed = np.ones(len(next(iter(gates.values()))), dtype=bool)
    counts = {}
    for gate, mask in gates.items():
        counts[gate] = int((passed & ~mask).sum())
        passed &= mask
    return passed, counts


def ionic_gates(
    table: IonTable, filled: NDArray[np.int64], old: NDArray[np.int64], ratios: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Gates on the ions alone, for fillings (m, n_slots) of a compound with ions `old`.

    Args:
        table: the ions.
        filled: rows of the table, one filling a row.
        old: (n_slots,) the known compound's ions.
        ratios: (n_slots,) atoms of each slot in the formula.
    """
    elements = np.sort(table.atomic_numbers[filled], axis=1)
    return {
        UNCHANGED: (filled != old).any(axis=1),
        CHARGE: (table.charges[filled] * ratios).sum(axis=1) == 0,
        REPEATED_ELEMENT: (np.diff(elements, axis=1) > 0).all(axis=1),
        ELECTRONEGATIVITY: table.is_ordered(filled),
    }
