"""From the members' outputs on the validation fold to the ensemble's calibration."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.ensemble.calibration.prediction_table import strata
from matscout.ensemble.calibration.target_calibration import LabelledRows, TargetCalibration, fit_target, tune
from matscout.ensemble.distributions.combination import Method
from matscout.ensemble.distributions.mixture import TargetOutputs
from matscout.ensemble.fold_labels import labels_of
from matscout.errors import InputError
from matscout.models.families.registry import FAMILIES
from matscout.params import Target


def metal_target_of(targets: Mapping[str, Target]) -> str | None:
    """The first target whose values of exactly zero have a probability of their own: they are metals."""
    return next((name for name, target in targets.items() if FAMILIES[target.head].HAS_MASS_AT_ZERO), None)


def fit_targets(
    outputs: Mapping[str, TargetOutputs],
    validation: pd.DataFrame,
    targets: Mapping[str, Target],
    *,
    method: Method,
    drop_factor: float | None,
) -> dict[str, TargetCalibration]:
    """Calibrate every target on its labelled validation rows.

    Args:
        outputs: of the members by target, for the rows of `validation`.
        validation: see `fold_labels.read_folds`.
        targets: by name.
        method: of combining the members.
        drop_factor: see `Combination`.

    Raises:
        InputError: a target has no label in the validation fold.
    """
    stratum, possible = _strata(outputs, validation, targets, method=method, drop_factor=drop_factor)
    fitted = {}
    for name, target in targets.items():
        known, truth = _labelled(validation, name, target)
        rows = LabelledRows(
            truth=truth[known],
            strata=stratum[known],
            possible_strata=possible,
            sources=validation[columns.SOURCE].to_numpy(str)[known],
            groups=validation[columns.DUPLICATE_GROUP].to_numpy(str)[known],
        )
        fitted[name] = fit_target(
            outputs[name].take(known),
            rows,
            method=method,
            drop_factor=drop_factor,
            lower_bound=FAMILIES[target.head].LOWER_BOUND,
        )
    return fitted


def _strata(
    outputs: Mapping[str, TargetOutputs],
    validation: pd.DataFrame,
    targets: Mapping[str, Target],
    *,
    method: Method,
    drop_factor: float | None,
) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    name = metal_target_of(targets)
    if name is None:
        return strata(None, {}, len(validation))
    known, truth = _labelled(validation, name, targets[name])
    tuning = tune(outputs[name].take(known), truth[known], method=method, drop_factor=drop_factor)
    return strata(name, {name: tuning.mixture(outputs[name])}, len(validation))


def _labelled(validation: pd.DataFrame, name: str, target: Target) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    truth = labels_of(validation, target)
    known = np.isfinite(truth)
    if not known.any():
        raise InputError(
            f"no validation row has a label for {name!r} ({target.label}): the ensemble cannot be calibrated; "
            "raise split.validation, give more rows, or remove the target"
        )
    return known, truth
