"""One member of a calibrated ensemble on its own, for a first look at many crystals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from matscout.ensemble.calibration.target_calibration import TargetCalibration, Tuning
from matscout.ensemble.distributions.combination import Combination
from matscout.ensemble.distributions.temperature import Temperature
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.errors import InputError


@dataclass(frozen=True)
class NoReference:
    """Stands in for the training set: no distance is computed, every crystal counts as a usual one."""

    def distance(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) ones."""
        return np.ones(len(embeddings))

    def is_far(self, distance: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) False: not known."""
        return np.zeros(len(distance), dtype=bool)

    def is_known(self, formulas: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) False: not known."""
        return np.zeros(len(formulas), dtype=bool)


def alone(predictor: EnsemblePredictor, name: str, *, stretch: float) -> EnsemblePredictor:
    """The member `name` as an ensemble of one, with `stretch` times the ensemble's temperature.

    A member alone does not show how far the others disagree with it, so its spread has to be widened before
    something that is unlikely by it is given up. Its intervals are not calibrated.

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
    """A target's calibration for the member `name` alone at this temperature."""
    before = fitted.tuning
    combination = Combination("mean", {name: 1.0}, before.combination.validation_mae, None)
    return replace(fitted, tuning=Tuning(combination, temperature, before.scale_power))
