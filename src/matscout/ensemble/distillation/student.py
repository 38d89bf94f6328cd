"""A distilled member beside the ensemble that taught it; see `distill`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from matscout.ensemble.distributions.temperature import Temperature
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.ensemble.single_member import NoReference, of_one
from matscout.errors import StoreError
from matscout.files import write_json
from matscout.models.saved_member import LoadedMember, load_member

TEACHER_FILE: Final = "teacher.json"


@dataclass(frozen=True)
class Teacher:
    """What stands in `teacher.json`.

    Attributes:
        members: of the ensemble, SHA-256 of each one's weights.
        temperatures: of the student's distributions by target, so that they are as wide as the ensemble's.
        differences: mean absolute difference of the student's point estimates from the ensemble's by target, in the
            target's unit, on crystals that it did not learn.
        crystals: how many were asked for, how many taught, and how many were not, by reason.
    """

    members: Mapping[str, str]
    temperatures: Mapping[str, float]
    differences: Mapping[str, float]
    crystals: Mapping[str, int]

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read back.

        Raises:
            StoreError: missing, cut off, or of other keys.
        """
        again = f"run `dvc repro distill@{path.parent.name}`, or fetch it (dvc pull)"
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise StoreError(f"{path} not found; {again}") from error
        except (TypeError, ValueError) as error:
            raise StoreError(f"{path} is not what `distill` writes ({error}); {again}") from error


def student(predictor: EnsemblePredictor, directory: Path) -> EnsemblePredictor:
    """The distilled member in a folder in place of the ensemble `predictor`; its intervals are not calibrated.

    Raises:
        StoreError: it is missing or broken, or other members taught it.
    """
    teacher = Teacher.load(Path(directory) / TEACHER_FILE)
    member = load_member(directory)
    _check(predictor, member, teacher)
    targets = {
        target: of_one(fitted, member.name, Temperature(teacher.temperatures[target], 0.0))
        for target, fitted in predictor.calibration.targets.items()
    }
    return predictor.only(member, targets, NoReference())


def _check(predictor: EnsemblePredictor, member: LoadedMember, teacher: Teacher) -> None:
    """Refuse another ensemble's student; one's own has the ensemble's targets and graphs."""
    taught_by, ours = dict(teacher.members), dict(predictor.calibration.members)
    if taught_by != ours:
        differing = sorted(n for n in {*taught_by, *ours} if taught_by.get(n) != ours.get(n))
        raise StoreError(
            f"{member.name!r} was taught by another ensemble (its member(s) {', '.join(differing)} differ); "
            f"run `dvc repro distill@{member.name}`"
        )
