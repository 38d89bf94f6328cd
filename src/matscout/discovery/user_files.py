"""Structures that a user drops into a folder: they join the candidates, or are left out with a reason."""

from dataclasses import asdict, dataclass
from pathlib import Path

from matscout.crystal import Crystal
from matscout.discovery.curated import formula_key
from matscout.discovery.selection import Known
from matscout.discovery.templates import make_template
from matscout.errors import InputError
from matscout.sources.record import Rejection
from matscout.sources.structure_files import USER_SOURCE, read_structures

CLOSEST_ATOMS = 0.6  # Å: below it the file holds no crystal (H-H in H2 is 0.74)


@dataclass(frozen=True)
class UserCandidate:
    """One structure of the folder, as given (not rescaled)."""

    name: str
    crystal: Crystal
    space_group: int


def read_user_files(folder: Path, known: Known, *, workers: int) -> tuple[list[UserCandidate], list[Rejection]]:
    """Structures of a folder that are whole, physical and not in the curated set, and why others are not.

    Raises:
        InputError: the folder does not exist or holds no structure file.
    """
    if not folder.is_dir():
        raise InputError(f"candidates.user_files = {str(folder)!r} is no folder; give one with CIF or POSCAR files")
    found: list[UserCandidate] = []
    labels: list[str] = []
    rejections: list[Rejection] = []
    for item in read_structures([folder]):
        if isinstance(item, Rejection):
            rejections.append(item)
            continue
        template = make_template(item.material_id, item.crystal)
        if template is None or template.distances.min() < CLOSEST_ATOMS:
            rejections.append(_reject(item.material_id, folder, "overlapping_atoms", f"closer than {CLOSEST_ATOMS} Å"))
            continue
        found.append(UserCandidate(item.material_id, item.crystal, template.space_group))
        labels.append(template.label(template.elements))
    keys = [formula_key(candidate.crystal.species) for candidate in found]
    verdicts = known.judge(keys, [candidate.crystal for candidate in found], labels, workers=workers)
    for candidate, verdict in zip(found, verdicts, strict=True):
        if verdict is not None:
            rejections.append(_reject(candidate.name, folder, verdict, "the same structure is there already"))
    new = [candidate for candidate, verdict in zip(found, verdicts, strict=True) if verdict is None]
    return new, rejections


def rejection_rows(rejections: list[Rejection]) -> list[dict[str, object]]:
    """Rejections as JSON rows, in order."""
    return [asdict(rejection) for rejection in rejections]


def _reject(name: str, folder: Path, reason: str, detail: str) -> Rejection:
    return Rejection(USER_SOURCE, name, str(folder / name), 0, reason, detail)
