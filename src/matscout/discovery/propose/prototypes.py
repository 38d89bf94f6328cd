"""Prototype decoration: known arrangements of atoms, filled with ions that occur nowhere near them yet."""

from collections.abc import Sequence
from functools import cache
from string import ascii_uppercase

import numpy as np
from numpy.typing import NDArray

from matscout.crystal import Crystal
from matscout.discovery.propose.crystal_templates import Template, make_template, pymatgen_prototypes
from matscout.discovery.propose.gates import GENERATED, ionic_gates, pass_in_turn
from matscout.discovery.propose.oxidation_states import IonTable
from matscout.discovery.propose.parent_crystals import Parent

COMMON_SHARE = 10.0  # percent of an element's ICSD reports: smact's "medium" commonality


@cache
def aflow_templates() -> tuple[Template, ...]:
    """Pymatgen's 288 prototypes of Mehl et al., "The AFLOW library", Comput. Mater. Sci. 136, S1 (2017)."""
    templates = []
    for entry in pymatgen_prototypes().AFLOW_PROTOTYPE_LIBRARY:
        crystal = Crystal.from_structure(entry["snl"].structure)
        template = make_template(f"aflow-prototype:{entry['tags']['aflow']}", crystal)
        if template is not None:
            templates.append(template)
    return tuple(sorted(templates, key=lambda template: template.parent_id))


def distinct_prototypes(table: IonTable, parents: Sequence[Parent]) -> list[Parent]:
    """The first parent of each prototype."""
    first: dict[tuple[object, ...], Parent] = {}
    for parent in parents:
        first.setdefault(prototype_key(table, parent)[0], parent)
    return list(first.values())


def prototype_key(table: IonTable, parent: Parent) -> tuple[tuple[object, ...], NDArray[np.int64]]:
    """What isostructural compounds share: label, ratios and charges of the slots, and the slots in that order."""
    template, charges = parent.template, table.charges[list(parent.ions)]
    order = np.lexsort((template.ratios, charges))
    names = [""] * template.n_slots
    for letter, slot in zip(ascii_uppercase, order, strict=False):
        names[slot] = letter
    return (template.label(names), tuple(template.ratios[order]), tuple(charges[order])), order


def decorations(
    table: IonTable,
    ions: Sequence[int],
    ratios: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Random fillings of a prototype with common ions, cations where cations were and anions where anions.

    Returns:
        (m, n_slots) distinct rows of the table in lexicographic order, m <= n_draws, and how many each
        gate turned away.
    """
    old = np.asarray(ions, dtype=np.int64)
    common = allowed & (table.commonness >= COMMON_SHARE)
    drawn = np.empty((n_draws, len(old)), dtype=np.int64)
    for slot, ion in enumerate(old):
        options = np.flatnonzero(common & (np.sign(table.charges) == np.sign(table.charges[ion])))
        if not len(options):
            return np.empty((0, len(old)), dtype=np.int64), {}
        drawn[:, slot] = rng.choice(options, n_draws)
    filled = np.unique(drawn, axis=0)
    passed, counts = pass_in_turn(ionic_gates(table, filled, old, ratios))
    return filled[passed], {GENERATED: len(filled), **counts}
