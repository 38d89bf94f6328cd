"""Novelty: is a candidate already in the curated set, or the same as an earlier candidate?"""

from collections.abc import Sequence
from dataclasses import dataclass

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from matscout.crystal import Crystal
from matscout.discovery.gates import DUPLICATE, IN_CURATED, POLYMORPHS
from matscout.discovery.templates import make_template

MOST_STRUCTURES = 4  # of one formula: a shortlist of fifty arrangements of one compound helps nobody


@dataclass(frozen=True)
class FormulaGroup:
    """All structures of one formula that have to be told apart.

    Attributes:
        known: curated crystals.
        accepted: candidates accepted before, primitive.
        accepted_labels: their protostructure labels.
        candidates: new ones in order of preference, primitive.
        labels: their protostructure labels.
    """

    known: tuple[Crystal, ...]
    accepted: tuple[Crystal, ...]
    accepted_labels: tuple[str, ...]
    candidates: tuple[Crystal, ...]
    labels: tuple[str, ...]


def judge(group: FormulaGroup) -> list[str | None]:
    """For each candidate of the group the gate that turns it away, or None.

    Equal protostructure labels are the same structure; where labels differ, pymatgen's
    `StructureMatcher` decides, since slightly distorted copies lose their label.
    """
    known, known_labels = _reduce_known(group.known)
    accepted = [crystal.to_structure() for crystal in group.accepted]
    accepted_labels = list(group.accepted_labels)
    verdicts: list[str | None] = []
    for crystal, label in zip(group.candidates, group.labels, strict=True):
        structure = crystal.to_structure()
        if len(accepted) >= MOST_STRUCTURES:
            verdicts.append(POLYMORPHS)
        elif label in known_labels or _matches(structure, known):
            verdicts.append(IN_CURATED)
        elif label in accepted_labels or _matches(structure, accepted):
            verdicts.append(DUPLICATE)
        else:
            verdicts.append(None)
            accepted.append(structure)
            accepted_labels.append(label)
    return verdicts


def judge_all(groups: Sequence[FormulaGroup]) -> list[list[str | None]]:
    """`judge` for a chunk of groups: the unit of work of one process."""
    return [judge(group) for group in groups]


def _matches(structure: Structure, others: Sequence[Structure]) -> bool:
    # tolerances as in curation, but space groups are not compared: a slight distortion is not news
    matcher = StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5.0, primitive_cell=False, attempt_supercell=False)
    return any(
        len(other) == len(structure) and matcher.fit(structure, other, symmetric=True, skip_structure_reduction=True)
        for other in others
    )


def _reduce_known(crystals: Sequence[Crystal]) -> tuple[list[Structure], set[str]]:
    structures, labels = [], set()
    for crystal in crystals:
        template = make_template("known", crystal)
        if template is None:
            structures.append(crystal.to_structure().get_primitive_structure())
            continue
        structures.append(template.fill(template.elements).to_structure())
        labels.add(template.label(template.elements))
    return structures, labels
