"""Ionic substitution: likely replacements of a known compound's ions that stay charge-neutral."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from matscout.discovery.propose.gates import GENERATED, ionic_gates, pass_in_turn
from matscout.discovery.propose.oxidation_states import IonTable


def substitutions(
    table: IonTable, ions: Sequence[int], ratios: NDArray[np.int64], allowed: NDArray[np.bool_], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], dict[str, int]]:
    """All replacements of a compound's ions with joint probability of at least `threshold`.

    Hautier et al., Inorg. Chem. 50, 656 (2011): the joint probability is the product over ions of
    p(new | old), where an ion may stay what it is. An ion that their table does not know stays and
    counts as one. Kept are fillings that pass `gates.ionic_gates`.

    Args:
        table: the ions.
        ions: row of each slot's ion in the known compound.
        ratios: (n_slots,) atoms of each slot in the formula.
        allowed: (n_ions,) ions that a candidate may hold.
        threshold: lowest joint probability.

    Returns:
        (m, n_slots) rows of the table, (m,) their joint probabilities, and how many each gate turned away.
    """
    old = np.asarray(ions, dtype=np.int64)
    choices = [_options(table, ion, allowed) for ion in old]
    best = [probabilities.max(initial=0.0) for _, probabilities in choices]
    filled = np.empty((1, 0), dtype=np.int64)
    joint = np.ones(1)
    for slot, (options, probabilities) in enumerate(choices):
        ahead = float(np.prod(best[slot + 1 :]))
        joint = joint[:, None] * probabilities[None, :]
        rows, columns = np.nonzero(joint * ahead >= threshold)
        filled = np.column_stack([filled[rows], options[columns]])
        joint = joint[rows, columns]
    passed, counts = pass_in_turn(ionic_gates(table, filled, old, ratios))
    return filled[passed], joint[passed], {GENERATED: len(filled), **counts}


def joint_probability(table: IonTable, old: Sequence[int], new: NDArray[np.int64]) -> NDArray[np.float64]:
    """(m,) product over slots of p(new | old) for fillings (m, n_slots); an unknown ion that stays counts as one."""
    old_ions = np.asarray(old, dtype=np.int64)
    probabilities = table.replacement[old_ions[None, :], new]
    is_unknown = table.replacement[old_ions].sum(axis=1) == 0
    stays = is_unknown[None, :] & (new == old_ions[None, :])
    return np.where(stays, 1.0, probabilities).prod(axis=1)


def _options(table: IonTable, ion: np.int64, allowed: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    row = table.replacement[ion]
    if not row.any():
        stays = np.array([ion])[allowed[[ion]]]
        return stays, np.ones(len(stays))
    options = np.flatnonzero((row > 0) & allowed)
    return options, row[options]
