"""Structures that a user drops into a folder: they join the candidates, or are left out with a reason."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from smact.metallicity import metallicity_score
from smact.screening import smact_validity

from matscout.crystal import Crystal
from matscout.discovery.known_materials import formula_key
from matscout.discovery.propose.crystal_templates import Template, make_template
from matscout.discovery.propose.gates import CHARGE, CONTACT, VOLUME
from matscout.discovery.propose.ionic_volumes import CLOSEST_CONTACT, SCALE_RANGE, contact_ratio
from matscout.discovery.propose.oxidation_states import ion_table
from matscout.discovery.propose.select_new import Known
from matscout.errors import InputError
from matscout.sources.files.named_structures import USER_SOURCE, has_structures, read_structures
from matscout.sources.record import Record, Rejection

GIVEN = "given"
MOST_ELEMENTS = 6  # smact tries every combination of their states
METALLIC = 0.7  # smact's score of a metal, between 0 and 1


@dataclass(frozen=True)
class UserCandidate:
    """One structure of the folder, as given (not rescaled)."""

    name: str
    crystal: Crystal
    space_group: int


def read_user_files(folder: Path, known: Known, *, workers: int) -> tuple[list[UserCandidate], list[Rejection]]:
    """Structures of a folder that pass the gates, and why others do not; none for an empty folder.

    The gates are those of proposed candidates, with limits that do not need a parent: ions must balance
    (mixed valence is allowed; metals pass by smact's measure), atoms must touch and not overlap.
    What passes is remembered in `known.users`.

    Raises:
        InputError: the folder does not exist.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; it may be empty, but it must exist (git checkout -- {folder})")
    found: list[UserCandidate] = []
    files: list[Record] = []
    labels: list[str] = []
    rejections: list[Rejection] = []
    for item in read_structures([folder]) if has_structures(folder) else ():
        if isinstance(item, Rejection):
            rejections.append(item)
            continue
        template = make_template(item.material_id, item.crystal)
        if template is None:
            detail = "no space group could be found; check the coordinates"
            rejections.append(_reject(item, "without_symmetry", detail))
            continue
        if fault := _fault(item.crystal.reduced_formula, template):
            rejections.append(_reject(item, *fault))
            continue
        found.append(UserCandidate(item.material_id, item.crystal, template.space_group))
        files.append(item)
        labels.append(template.label(template.elements))
    keys = [formula_key(candidate.crystal.species) for candidate in found]
    structures = [(candidate.crystal, label) for candidate, label in zip(found, labels, strict=True)]
    verdicts = known.judge(keys, structures, {}, workers=workers)
    new = []
    for candidate, key, structure, verdict, file in zip(found, keys, structures, verdicts, files, strict=True):
        if verdict is not None:
            rejections.append(_reject(file, verdict, "the same structure is there already"))
            continue
        known.users.setdefault(key, []).append(structure)
        new.append(candidate)
    return new, rejections


def user_summary(users: list[UserCandidate], left_out: list[Rejection]) -> dict[str, object]:
    """Counts by gate, and each file that was left out."""
    counts = Counter(rejection.reason for rejection in left_out)
    return {
        "user_files": {GIVEN: len(users) + len(left_out), **dict(sorted(counts.items()))},
        "user_files_left_out": [asdict(rejection) for rejection in left_out],
    }


def _fault(formula: str, template: Template) -> tuple[str, str] | None:
    """Gate and reason of the first rule that the structure breaks."""
    closest = contact_ratio(template)  # NaN with a light noble gas, for which no bond length is known
    if closest < CLOSEST_CONTACT:
        rule = f"below {CLOSEST_CONTACT:g} typical bond lengths"
        return CONTACT, f"two atoms at {closest:.2f} typical bond lengths: {rule}; relax the cell first"
    if closest**3 > SCALE_RANGE[1]:
        rule = f"more than {SCALE_RANGE[1]:g} times the volume at which its closest atoms would touch"
        return VOLUME, f"no atoms nearer than {closest:.2f} typical bond lengths: {rule}; relax the cell first"
    return _charge_fault(formula, template)


def _charge_fault(formula: str, template: Template) -> tuple[str, str] | None:
    """Why the formula is neither an element, an alloy, a metal by smact's measure nor a neutral compound."""
    table = ion_table()
    if len(template.elements) == 1 or all(element in table.metals for element in template.elements):
        return None
    counts = {element: int(count) for element, count in zip(template.elements, template.counts, strict=True)}
    balance = table.can_balance(counts)
    if balance is None:
        unknown = ", ".join(element for element in template.elements if element not in table.ions_of)
        return CHARGE, f"{formula}: no oxidation state of {unknown} is reported, so charges cannot be balanced"
    is_rare = len(counts) <= MOST_ELEMENTS and smact_validity(formula)  # states too rare for the table of ions
    if balance or is_rare or metallicity_score(formula) >= METALLIC:
        return None
    rule = "no reported oxidation states balance, cations less electronegative than anions, mixed valence included"
    return CHARGE, f"{formula}: {rule}; and its score as a metal is below {METALLIC:g}. Check the formula"


def _reject(record: Record, reason: str, detail: str) -> Rejection:
    return Rejection(USER_SOURCE, record.material_id, record.file, record.row, reason, detail)
