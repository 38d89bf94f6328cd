"""Ions: which oxidation states occur, how to balance a formula, and which ions replace each other."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from itertools import combinations_with_replacement, product
from pathlib import Path

import numpy as np
import smact
from numpy.typing import NDArray
from pymatgen.core import Element, Species
from pymatgen.core.structure_prediction import substitution_probability
from smact.utils.oxidation import ICSD24OxStatesFilter

from matscout.crystal import ATOMIC_NUMBERS, SYMBOLS

CONSENSUS = 3  # least number of ICSD reports of an oxidation state; the default of smact.screening.smact_validity
LEAST_SHARE = (
    1.0  # least share of the element's reports, in percent; rarer states (Mo-, O2+) balance formulas that are not salts
)
LAST_METAL = 94  # plutonium; intermetallics of heavier elements are not well known
OXYGEN_IN_PAIRS = (-1, -0.5)  # of an atom in a peroxide and in a superoxide
UNITS_BALANCED = (
    12  # largest number of formula units among which charges of one element may differ: AgO is Ag+ and Ag3+
)
UNSEEN_LAMBDA = -5  # weight of a substitution that was never observed: pymatgen's default


@dataclass(frozen=True)
class IonTable:
    """Every ion that the ICSD reports, with the probability that one replaces another; then the neutral metals.

    Oxidation states are those of smact 4 (ICSD 2024) with at least `CONSENSUS` reports and
    `LEAST_SHARE`. Probabilities are Hautier et al., "Data mined ionic substitutions for the discovery
    of new compounds", Inorg. Chem. 50, 656 (2011), eq. 6, with pymatgen's lambda table; ions outside
    it have probability zero. A neutral metal (`Fe`) stands for an atom of an intermetallic compound.

    Attributes:
        names: n ions such as `Ti4+`, sorted by element and charge, then metals such as `Ti`.
        elements: n element symbols.
        charges: (n,) int64.
        electronegativities: (n,) float64, Pauling.
        commonness: (n,) float64, share of the element's ICSD reports, in percent.
        replacement: (n, n) float64, `[old, new]` = p(new | old).
    """

    names: tuple[str, ...]
    elements: tuple[str, ...]
    charges: NDArray[np.int64]
    electronegativities: NDArray[np.float64]
    commonness: NDArray[np.float64]
    replacement: NDArray[np.float64]

    @cached_property
    def ions_of(self) -> dict[str, list[int]]:
        """Rows of each element's ions."""
        rows: dict[str, list[int]] = {}
        for row in np.flatnonzero(self.charges):
            rows.setdefault(self.elements[row], []).append(int(row))
        return rows

    @cached_property
    def metals(self) -> dict[str, int]:
        """Row of each neutral metal."""
        return {self.elements[row]: int(row) for row in np.flatnonzero(self.charges == 0)}

    @cached_property
    def atomic_numbers(self) -> NDArray[np.int64]:
        """(n,) atomic number of each ion."""
        return np.array([ATOMIC_NUMBERS[element] for element in self.elements], dtype=np.int64)

    def balance(self, counts: Mapping[str, int]) -> tuple[int, ...] | None:
        """The most common charge-neutral choice of one ion an element, or None.

        Cations must be less electronegative than anions (the Pauling test of Davies et al.,
        "Computational screening of all stoichiometric inorganic materials", Chem 1, 617, 2016).
        The choice maximises the product of ICSD shares; of equal ones the first in table order wins.

        Returns:
            Rows of the table, in the order of `counts`.
        """
        if any(element not in self.ions_of for element in counts):
            return None
        return self._balance(tuple(counts.items()))

    def _balance(self, counts: tuple[tuple[str, int], ...]) -> tuple[int, ...] | None:
        options = np.array(list(product(*(self.ions_of[element] for element, _ in counts))), dtype=np.int64)
        numbers = np.array([number for _, number in counts], dtype=np.int64)
        neutral = (self.charges[options] * numbers).sum(axis=1) == 0
        options = options[neutral]
        options = options[self.is_ordered(options)]
        if not len(options):
            return None
        score = np.log(self.commonness[options]).sum(axis=1)
        return tuple(int(row) for row in options[np.argmax(score)])

    def can_balance(self, counts: Mapping[str, int]) -> bool | None:
        """Whether reported ions balance the formula, atoms of one cation in two oxidation states where they must.

        Pb3O4 does (2 Pb2+, Pb4+), and Fe7S8, Mn8Se9O, Na4Mn9O18. Cations are less electronegative than anions, and
        every anion has one state. The totals of each element are sets of integers, so nothing grows beyond a
        few thousand numbers.

        Returns:
            None if no ion of some element is reported, so that nothing can be said.
        """
        if any(element not in self.ions_of for element in counts):
            return None
        divisor = math.gcd(*counts.values())
        elements = sorted(counts, key=self._chi)
        numbers = [UNITS_BALANCED * counts[element] // divisor for element in elements]
        for cut in range(1, len(elements)):
            if self._chi(elements[cut - 1]) < self._chi(elements[cut]):
                parts = [
                    self._totals(element, number, is_cation=place < cut)
                    for place, (element, number) in enumerate(zip(elements, numbers, strict=True))
                ]
                if 0 in reduce(lambda sums, part: {a + b for a in sums for b in part}, parts, {0}):
                    return True
        return False

    def _chi(self, element: str) -> float:
        return float(self.electronegativities[self.ions_of[element][0]])

    def _totals(self, element: str, number: int, *, is_cation: bool) -> set[int]:
        """Charges that so many atoms of an element can have together."""
        charges = [int(self.charges[row]) for row in self.ions_of[element]]
        if not is_cation:
            states = [*(charge for charge in charges if charge < 0), *OXYGEN_IN_PAIRS * (element == "O")]
            return {round(charge * number) for charge in states}
        states = [charge for charge in charges if charge > 0]
        pairs = combinations_with_replacement(states, 2)
        return {first * part + second * (number - part) for first, second in pairs for part in range(number + 1)}

    def is_ordered(self, ions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether in each row of `ions`, (m, n_slots), every cation is less electronegative than every anion."""
        charges, chi = self.charges[ions], self.electronegativities[ions]
        highest_cation = np.where(charges > 0, chi, -np.inf).max(axis=1)
        lowest_anion = np.where(charges < 0, chi, np.inf).min(axis=1)
        return highest_cation < lowest_anion


@cache
def ion_table() -> IonTable:
    """The table of all ions, made once per process from smact's and pymatgen's data."""
    rows = sorted(
        (Element(element).Z, charge, element, share, smact.Element(element).pauling_eneg)
        for element, charge, share in _reported_ions()
    )
    metals = [(number, symbol) for number, symbol in enumerate(SYMBOLS[1 : LAST_METAL + 1], 1) if _is_metal(symbol)]
    rows += [(number, 0, symbol, 0.0, smact.Element(symbol).pauling_eneg) for number, symbol in metals]
    rows = [row for row in rows if row[-1] is not None]
    names = tuple(ion_name(element, charge) for _, charge, element, _, _ in rows)
    return IonTable(
        names,
        tuple(element for _, _, element, _, _ in rows),
        np.array([charge for _, charge, _, _, _ in rows], dtype=np.int64),
        np.array([chi for *_, chi in rows], dtype=np.float64),
        np.array([share for _, _, _, share, _ in rows]),
        _replacement_probabilities(names),
    )


def _is_metal(symbol: str) -> bool:
    return bool(Element(symbol).is_metal)


def ion_name(element: str, charge: int) -> str:
    """`Ti4+`, `Na+`, `O2-`: the spelling of pymatgen's `Species`; `Ti` for charge 0."""
    if charge == 0:
        return element
    magnitude = "" if abs(charge) == 1 else str(abs(charge))
    return f"{element}{magnitude}{'+' if charge > 0 else '-'}"


def _reported_ions() -> list[tuple[str, int, float]]:
    """(element, charge, percent of the element's reports) of every ion with enough reports."""
    reports = ICSD24OxStatesFilter().ox_states_df
    reports = reports[(reports["oxidation_state"] != 0) & (reports["results_count"] >= CONSENSUS)]
    totals = reports.groupby("element")["results_count"].transform("sum")
    shares = 100 * reports["results_count"] / totals
    reports, shares = reports[shares >= LEAST_SHARE], shares[shares >= LEAST_SHARE]
    return list(zip(reports["element"], reports["oxidation_state"].astype(int), shares, strict=True))


def _replacement_probabilities(names: tuple[str, ...]) -> NDArray[np.float64]:
    """p(new | old) = exp(lambda(old, new)) / sum over all mined ions, eq. 6 of Hautier et al.

    From pymatgen's table, read here: its `SubstitutionProbability` takes as long as ten thousand candidates.
    """
    table = json.loads((Path(substitution_probability.__file__).parent / "data" / "lambda.json").read_text())
    table = [row for row in table if "D1+" not in row]  # deuterium, as pymatgen leaves it out
    spelt = {ion: str(Species.from_str(ion)) for *pair, _ in table for ion in pair}
    mined = {name: row for row, name in enumerate(sorted(set(spelt.values())))}
    weights = np.full((len(mined), len(mined)), np.exp(UNSEEN_LAMBDA))
    for first, second, mined_lambda in table:
        one, other = mined[spelt[first]], mined[spelt[second]]
        weights[one, other] = weights[other, one] = np.exp(float(mined_lambda))
    conditional = weights / weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(names), len(names)))
    known = [row for row, name in enumerate(names) if name in mined]
    rows = [mined[names[row]] for row in known]
    matrix[np.ix_(known, known)] = conditional[np.ix_(rows, rows)]
    return matrix
