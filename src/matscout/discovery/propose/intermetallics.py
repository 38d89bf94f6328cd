"""Intermetallics: compounds of metals alone, whose elements give way to similar metals.

Charges don't balance in a metal, so neither the probabilities of ionic substitution nor the charge gate can judge.
What is judged instead is likeness to the parent: metals replace each other where size and electronegativity are close
(Hume-Rothery's 15 % and Darken and Gurry's 0.4, "Physical Chemistry of Metals", McGraw-Hill 1953, ch. 4) and structures
last where the electrons per atom do (Hume-Rothery, J. Inst. Met. 35, 295, 1926).
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from matscout import params
from matscout.discovery.propose.crystal_templates import Template
from matscout.discovery.propose.gates import (
    ELECTRON_COUNT,
    GENERATED,
    REPEATED_ELEMENT,
    UNCHANGED,
    Attrition,
    pass_in_turn,
)
from matscout.discovery.propose.oxidation_states import IonTable
from matscout.discovery.propose.parent_crystals import Parent

SIZE = 0.15  # largest relative difference of radii: Hume-Rothery's rule
ELECTRONEGATIVITY = 0.4  # largest difference, Pauling: Darken and Gurry's rule
ELECTRONS_PER_ATOM = 0.25  # largest change of the mean count: electron compounds follow it


def metallic_parents(
    table: IonTable, templates: Sequence[Template | None], settings: params.Candidates, attrition: Attrition
) -> list[Parent]:
    """The small enough templates that hold metals alone, with the neutral metal on each slot."""
    parents = [
        Parent(template, tuple(table.metals[element] for element in template.elements))
        for template in templates
        if template is not None
        and template.n_atoms <= settings.max_atoms
        and all(element in table.metals for element in template.elements)
    ]
    attrition.add_parents({"parents_of_metals_alone": len(parents)})
    return parents


def metal_substitutions(
    table: IonTable,
    metals: Sequence[int],
    ratios: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    volumes: NDArray[np.float64],
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """All replacements of a compound's metals by similar ones, an element at a time or several at once.

    Args:
        table: ions and metals.
        metals: row of each slot's metal in the known compound.
        ratios: (n_slots,) atoms of each slot in the formula.
        allowed: (n,) rows that a candidate may hold.
        volumes: (n,) atomic volumes of metals in compounds, Å³; their cube roots are compared as sizes.

    Returns:
        (m, n_slots) rows of the table, and how many each gate turned away.
    """
    old = np.asarray(metals, dtype=np.int64)
    choices = [similar_metals(table, metal, allowed, volumes) for metal in old]
    filled = np.stack(np.meshgrid(*choices, indexing="ij"), axis=-1).reshape(-1, len(old))
    counts = valence_electrons(table)
    change = ((counts[filled] - counts[old]) * ratios).sum(axis=1) / ratios.sum()
    elements = np.sort(table.atomic_numbers[filled], axis=1)
    passed, turned_away = pass_in_turn(
        {
            UNCHANGED: np.any(filled != old, axis=1),
            REPEATED_ELEMENT: np.all(np.diff(elements, axis=1) > 0, axis=1),
            ELECTRON_COUNT: np.abs(change) <= ELECTRONS_PER_ATOM,
        }
    )
    return filled[passed], {GENERATED: len(filled), **turned_away}


def similar_metals(
    table: IonTable, metal: np.int64, allowed: NDArray[np.bool_], volumes: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Rows of the metals that may stand for `metal`, itself among them where it is allowed."""
    sizes = np.cbrt(volumes)
    is_close = (
        (table.charges == 0)
        & (np.abs(sizes / sizes[metal] - 1) <= SIZE)  # False for an unknown volume
        & (np.abs(table.electronegativities - table.electronegativities[metal]) <= ELECTRONEGATIVITY)
    )
    is_close[metal] = True
    return np.flatnonzero(is_close & allowed)


def valence_electrons(table: IonTable) -> NDArray[np.float64]:
    """(n,) outer electrons: the group, less ten behind the transition metals; 3 in the f block."""
    return np.array([_outer_electrons(element) for element in table.elements])


@cache
def _outer_electrons(symbol: str) -> float:
    element = Element(symbol)
    if element.is_lanthanoid or element.is_actinoid:
        return 3.0
    return float(element.group - 10 if element.group > 11 else element.group)
