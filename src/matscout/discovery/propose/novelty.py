"""Novelty: is a candidate already in the curated set, or the same as an earlier candidate?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.structure_matcher import StructureMatcher

from matscout.crystal import Crystal
from matscout.discovery.propose.crystal_templates import make_template
from matscout.discovery.propose.gates import DUPLICATE, IN_CURATED, POLYMORPHS

MOST_STRUCTURES = 4  # structures per formula: fifty arrangements of one compound would be a useless shortlist
LENGTH_TOLERANCE, SITE_TOLERANCE, ANGLE_TOLERANCE = (
    0.2,
    0.3,
    5.0,
)  # tolerances of the matcher, as in curation; -, -, degrees
ROUNDING = 1e-6  # tolerances of lengths and angles, not stricter than those of the matcher


@dataclass(frozen=True)
class FormulaGroup:
    """All structures of one formula that have to be distinguished.

    Attributes:
        known: curated crystals, as in the table.
        reduced: curated crystals, primitive, whose templates have been made.
        reduced_labels: their protostructure labels.
        accepted: candidates accepted before, primitive.
        accepted_labels: their protostructure labels.
        candidates: new ones in order of preference, primitive.
        labels: their protostructure labels.
    """

    known: tuple[Crystal, ...]
    reduced: tuple[Crystal, ...]
    reduced_labels: tuple[str, ...]
    accepted: tuple[Crystal, ...]
    accepted_labels: tuple[str, ...]
    candidates: tuple[Crystal, ...]
    labels: tuple[str, ...]


def judge(group: FormulaGroup) -> list[str | None]:
    """For each candidate of the group the gate that rejects it, or None.

    Equal protostructure labels mean the same structure; if labels differ, pymatgen's
    `StructureMatcher` decides, since slightly distorted copies lose their label.
    """
    known, known_labels = _reduce_known(group.known)
    known, known_labels = [*group.reduced, *known], known_labels.union(group.reduced_labels)
    accepted = list(group.accepted)
    accepted_labels = list(group.accepted_labels)
    verdicts: list[str | None] = []
    for crystal, label in zip(group.candidates, group.labels, strict=True):
        if len(accepted) >= MOST_STRUCTURES:
            verdicts.append(POLYMORPHS)
        elif label in known_labels or first_match(crystal, known) is not None:
            verdicts.append(IN_CURATED)
        elif label in accepted_labels or first_match(crystal, accepted) is not None:
            verdicts.append(DUPLICATE)
        else:
            verdicts.append(None)
            accepted.append(crystal)
            accepted_labels.append(label)
    return verdicts


def judge_all(groups: Sequence[FormulaGroup]) -> list[list[str | None]]:
    """`judge` for a chunk of groups: the unit of work of one process."""
    return [judge(group) for group in groups]


def lattices_may_match(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Whether some basis of the first lattice, at equal volume, has the second's lengths and angles within tolerance.

    The matcher checks the same before it compares atoms, and rejects most pairs of one formula there. This check is ten
    times as fast.

    Args:
        first: (3, 3) rows are lattice vectors, Å.
        second: likewise; both primitive, with as many atoms.
    """
    scaled = first * np.cbrt(abs(np.linalg.det(second) / np.linalg.det(first)))
    wanted = np.sqrt(np.square(second).sum(axis=1))
    longest = wanted.max() * (1 + LENGTH_TOLERANCE + ROUNDING)
    reach = np.floor(np.sqrt(np.square(np.linalg.inv(scaled)).sum(axis=0)) * longest).astype(np.int64)
    steps = np.indices(2 * reach + 1).reshape(3, -1).T - reach  # (n, 3): every lattice point of that length, and more
    vectors = steps @ scaled
    lengths = np.sqrt(np.square(vectors).sum(axis=1))
    stretch = lengths[:, None] / wanted
    limit = 1 + LENGTH_TOLERANCE + ROUNDING
    like = [np.flatnonzero((column < limit) & (column * limit > 1)) for column in stretch.T]
    units = vectors / np.where(lengths > 0, lengths, 1)[:, None]
    cosines = (second @ second.T) / np.outer(wanted, wanted)

    def angles_fit(one: int, other: int) -> NDArray[np.bool_]:
        found = np.degrees(np.arccos(np.clip(units[like[one]] @ units[like[other]].T, -1, 1)))
        return np.abs(found - np.degrees(np.arccos(cosines[one, other]))) <= ANGLE_TOLERANCE + ROUNDING

    fits = angles_fit(0, 1)[:, :, None] & angles_fit(1, 2)[None, :, :] & angles_fit(0, 2)[:, None, :]
    triples = np.argwhere(fits)
    bases = np.stack([steps[like[row]][triples[:, row]] for row in range(3)], axis=1)
    return bool((np.abs(np.abs(np.linalg.det(bases)) - 1) < 0.5).any())


def first_match(crystal: Crystal, others: Sequence[Crystal]) -> int | None:
    """Place of the first of the other crystals that is the same structure, volume aside; all are primitive."""
    likely = [
        place
        for place, other in enumerate(others)
        if other.n_atoms == crystal.n_atoms and lattices_may_match(crystal.lattice, other.lattice)
    ]
    if not likely:
        return None
    # unlike in curation, space groups are not compared: a slightly distorted copy is not new
    matcher = StructureMatcher(
        ltol=LENGTH_TOLERANCE, stol=SITE_TOLERANCE, angle_tol=ANGLE_TOLERANCE, primitive_cell=False
    )
    structure = crystal.to_structure()
    for place in likely:
        against = others[place].to_structure()
        if all(  # the comparison is directional; `symmetric=True` tries the second direction even where the first fails
            matcher.fit(*pair, skip_structure_reduction=True) for pair in ((structure, against), (against, structure))
        ):
            return place
    return None


def primitive_cell(crystal: Crystal) -> Crystal:
    """The primitive, reduced cell, as `first_match` wants it."""
    template = make_template("known", crystal)
    if template is None:
        return Crystal.from_structure(crystal.to_structure().get_primitive_structure())
    return template.fill(template.elements)


def _reduce_known(crystals: Sequence[Crystal]) -> tuple[list[Crystal], set[str]]:
    reduced, labels = [], set()
    for crystal in crystals:
        template = make_template("known", crystal)
        if template is None:
            reduced.append(Crystal.from_structure(crystal.to_structure().get_primitive_structure()))
            continue
        reduced.append(template.fill(template.elements))
        labels.add(template.label(template.elements))
    return reduced, labels
