"""One trial of a search: a training that is scored on the validation fold, and never reads the test fold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from matscout import columns
from matscout.errors import DivergedError
from matscout.training.dataset import Fold
from matscout.training.fitting import fit, prepared
from matscout.training.trainer import EpochRecord
from matscout.training.training import Tracker, Training, TrainingInputs

TENTHS = 10  # of a training: where trials of different length are compared
HELD = (columns.TRAIN, columns.VALIDATION)
WORST = 1e3  # in place of an error that is not finite


@dataclass(frozen=True)
class Outcome:
    """The result of a trial.

    Attributes:
        error: mean over the targets of MAE / mean absolute deviation of the validation labels; 1 = no better than a
            constant.
        mae: by target, in its unit, on the validation fold.
        ended: `complete`, `pruned` or `diverged`.
    """

    error: float
    mae: Mapping[str, float]
    ended: str


class _HopelessError(Exception):
    """Ends a trial before its last epoch."""


def run_trial(
    training: Training,
    inputs: TrainingInputs,
    tracker: Tracker,
    *,
    hopeless: Callable[[int, float], bool],
    tell: Callable[[Outcome], None],
) -> None:
    """Train and return the result; a killed trial resumes after its last whole epoch.

    Args:
        training: what to train.
        inputs: graphs, split and materials.
        tracker: where curves go.
        hopeless: (tenths of the training that are done, error there) -> whether to end it.
        tell: gets the outcome before the checkpoints go, so that a kill in between loses nothing.
    """
    seen: list[Outcome] = []
    with prepared(training, inputs, tracker, folds=HELD) as ready:
        epochs, deviations = training.member.training.epochs, mean_deviations(ready.folds[columns.VALIDATION])

        def watch(record: EpochRecord) -> None:
            mae = {target: record.validation[f"mae_{target}"] for target in deviations}
            seen.append(Outcome(_error(mae, deviations), mae, "complete"))
            tenths = TENTHS * (record.epoch + 1) // epochs
            begins = tenths > TENTHS * record.epoch // epochs
            if begins and hopeless(tenths, seen[-1].error) and record.epoch + 1 < epochs:
                raise _HopelessError

        ended = "complete"
        try:
            fit(ready, watch)
        except _HopelessError:
            ended = "pruned"
        except DivergedError:
            ended = "diverged"
        last = seen[-1] if seen else Outcome(WORST, {}, ended)
        outcome = Outcome(WORST if ended == "diverged" else last.error, last.mae, ended)
        figures = {f"validation_mae_{target}": error for target, error in outcome.mae.items()}
        ready.run.log(max(len(seen), 1), {"validation_error": outcome.error, **figures})
        tell(outcome)
        ready.checkpoints.delete()


def mean_deviations(fold: Fold) -> dict[str, float]:
    """By target, the mean absolute deviation of a fold's labels from their median: the error of a constant."""
    deviations = {}
    for target, labels in fold.labels.items():
        known = labels[~labels.isnan()].double().cpu().numpy()
        deviations[target] = float(np.abs(known - np.median(known)).mean()) if len(known) else np.nan
    return {target: deviation for target, deviation in deviations.items() if deviation > 0}


def _error(mae: Mapping[str, float], deviations: Mapping[str, float]) -> float:
    error = float(np.mean([mae[target] / deviation for target, deviation in deviations.items()]))
    return min(error, WORST) if np.isfinite(error) else WORST
