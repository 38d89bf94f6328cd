"""A single member of a calibrated ensemble, or one distilled from it, for the first step of a cascade."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.calibration.target_calibration import TargetCalibration, Tuning
from matscout.ensemble.combination import Combination
from matscout.ensemble.mixture import Temperature
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.errors import InputError, StoreError
from matscout.files import write_json
from matscout.models.saved_member import LoadedMember, load_member


@dataclass(frozen=True)
class NoReference:
    """Replaces the training set: no distance is computed, and no crystal counts as far."""

    def distance(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) ones."""
        return np.ones(len(embeddings))

    def is_far(self, distance: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) False, because it is unknown."""
        return np.zeros(len(distance), dtype=bool)

    def is_known(self, formulas: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) False, because it is unknown."""
        return np.zeros(len(formulas), dtype=bool)


def alone(predictor: EnsemblePredictor, name: str, *, stretch: float) -> EnsemblePredictor:
    """One member as an ensemble of one, with wider distributions.

    A single member does not show how far the others disagree with it, so its spread is widened before a candidate
    is dropped as unlikely. Its intervals are not calibrated.

    Args:
        predictor: the ensemble.
        name: name of the member.
        stretch: factor on the ensemble's temperature.

    Returns:
        A predictor of this member alone.

    Raises:
        InputError: the ensemble has no such member.
    """
    members = [member for member in predictor.members if member.name == name]
    if not members:
        known = [member.name for member in predictor.members]
        raise InputError(
            f"the ensemble has no member {name!r}; choose one of {known}, or distill one (docs/guides/cascade.md)"
        )
    targets = {}
    for target, fitted in predictor.calibration.targets.items():
        before = fitted.tuning.temperature
        targets[target] = of_one(fitted, name, Temperature(stretch * before.value, before.distance_exponent))
    return predictor.only(members[0], targets, NoReference())


def of_one(fitted: TargetCalibration, name: str, temperature: Temperature) -> TargetCalibration:
    """A target's calibration for one member alone.

    Args:
        fitted: the ensemble's.
        name: name of the member, which gets all the weight.
        temperature: temperature of its distributions.

    Returns:
        The calibration; its conformal quantiles are still the ensemble's.
    """
    before = fitted.tuning
    combination = Combination("mean", {name: 1.0}, before.combination.validation_mae, None)
    return replace(fitted, tuning=Tuning(combination, temperature, before.scale_power))


TEACHER_FILE: Final = "teacher.json"


@dataclass(frozen=True)
class Teacher:
    """The content of `teacher.json`.

    Attributes:
        members: members of the ensemble, SHA-256 of each one's weights.
        temperatures: temperatures of the student's distributions by target, so that they are as wide as the ensemble's.
        differences: mean absolute difference of the student's point estimates from the ensemble's by target, in the
            target's unit, on crystals that it did not learn.
        crystals: how many were requested, used in training, and left out, by reason.
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
        """Read back what `save` wrote.

        Args:
            path: path of `teacher.json`.

        Returns:
            The content of the file.

        Raises:
            StoreError: the file is missing, cut off, or has other keys.
        """
        again = f"run `dvc repro distill@{path.parent.name}`, or fetch it (dvc pull)"
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError as error:
            raise StoreError(f"{path} not found; {again}") from error
        except (TypeError, ValueError) as error:
            raise StoreError(f"{path} is not what `distill` writes ({error}); {again}") from error


def student(predictor: EnsemblePredictor, directory: Path) -> EnsemblePredictor:
    """The distilled member in a folder instead of the ensemble `predictor`; its intervals are not calibrated.

    Raises:
        StoreError: it is missing or broken, or was trained on other members.
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
    """Reject a student of another ensemble; this ensemble's student has its targets and graphs."""
    taught_by, ours = dict(teacher.members), dict(predictor.calibration.members)
    if taught_by != ours:
        differing = sorted(n for n in {*taught_by, *ours} if taught_by.get(n) != ours.get(n))
        raise StoreError(
            f"{member.name!r} was trained on another ensemble (its member(s) {', '.join(differing)} differ); "
            f"run `dvc repro distill@{member.name}`"
        )
