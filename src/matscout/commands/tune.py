"""`matscout tune`: a recorded search for training settings that suit your data, scored on the validation fold alone.

Trials are proposed by Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 24, 2546 (2011)); the first
has the current values. A trial that is worse than the median of the others at the same share of its training stops. A
trial never reads the test fold. The study is in `.checkpoints/tune/<member>/`, under a key of parameters, code and
inputs: a killed search resumes, a changed one starts from the beginning. Proposals depend only on the seed and the
earlier trials, so that a killed search gives the same result as an uninterrupted one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from matscout import columns
from matscout.errors import DivergedError, ParameterError
from matscout.files import sha256_of_json
from matscout.params import Params, check_params
from matscout.progress import progress
from matscout.training.checkpoints import open_checkpoints
from matscout.training.dataset import Fold
from matscout.training.fitting import fit, prepared
from matscout.training.trainer import EpochRecord
from matscout.training.training import Tracker, Training, TrainingInputs, member_training

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


DIGITS = 3  # digits of a proposed number; more would be unreadable and change nothing
PATIENCE = {
    "n_startup_trials": 4,
    "n_warmup_steps": 3,
}  # complete trials before any is stopped; tenths of each trial before it may be stopped
RANDOM_TRIALS = 6  # random trials before the estimator proposes
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Knob:
    """A parameter that is searched.

    Attributes:
        path: its key in `params.yaml`.
        value: its current value.
        choices: the values that may be proposed.
    """

    path: str
    value: float
    choices: BaseDistribution


@dataclass(frozen=True)
class Trial:
    """A finished trial: proposed values by path, error, errors by target, and how it ended."""

    number: int
    proposed: Mapping[str, Any]
    error: float
    mae: Mapping[str, float]
    ended: str


def knobs_of(name: str, params: Params) -> dict[str, Knob]:
    """Every parameter that can be searched for a member, around its current value."""
    block = f"finetuned.{name}.member" if name in params.finetuned else f"members.{name}"
    recipe, training = params.model, params.ensembled[name].training
    return {
        "lr": _number("model.lr", recipe.lr, 8.0),
        "lr_scale": _number(f"{block}.training.lr_scale", training.lr_scale, 8.0),
        "batch_size": _one_of("model.batch_size", recipe.batch_size, [2.0**n for n in (-2, -1, 0, 1, 2)]),
        "weight_decay": _any_of("model.weight_decay", recipe.weight_decay, (0.0, 1e-4, 1e-3, 1e-2, 1e-1)),
        "averaging": _any_of("model.averaging", recipe.averaging, (0.9, 0.97, 0.99, 0.997)),
        "warmup": _any_of("model.warmup", recipe.warmup, (0.05, 0.1, 0.2, 0.3)),
        "grad_clip": _number("model.grad_clip", recipe.grad_clip, 10.0),
        "epochs": _one_of(f"{block}.training.epochs", training.epochs, (0.5, 0.75, 1.0, 1.5, 2.0)),
    }


DEFAULT_KNOBS = ("lr", "batch_size", "weight_decay", "averaging", "epochs")


def tune(
    name: str,
    params: Params,
    *,
    n_trials: int,
    over: Sequence[str],
    seed: int,
    inputs: TrainingInputs,
    tracker: Callable[[str, str], Tracker],
    say: Callable[[str], None],
) -> list[Trial]:
    """Search until the study holds `n_trials` finished trials.

    Args:
        name: key of `members` or `finetuned`.
        params: all parameters.
        n_trials: finished ones, those of earlier calls included.
        over: names of knobs.
        seed: seed of the proposals.
        inputs: graphs, split and materials.
        tracker: (title of the search, name of a trial) -> the tracker of the trial.
        say: called with one line per finished trial.

    Returns:
        All finished trials, best first.

    Raises:
        ParameterError: no such member or knob.
        TrainingError: as for `train_member`, or another process searches for this member.
    """
    member_training(name, params)  # rejects an unknown member
    knobs = knobs_of(name, params)
    if unknown := sorted(set(over) - set(knobs)):
        raise ParameterError(f"--over {unknown[0]} is not a parameter to search; choose from {', '.join(knobs)}")
    searched = {knob.path: knob for key, knob in knobs.items() if key in over}
    key = study_key(name, params, searched, seed, inputs.hashes())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with open_checkpoints(f"tune/{name}", key) as store, _bar(name, n_trials) as bar:
        study = _open_study(store.directory / "study.db")
        while (n_done := len(_finished(study))) < n_trials:
            bar.n = n_done
            bar.refresh()
            trial = _next_trial(study, searched, seed)
            training = _training(name, params, trial.params)
            _run(study, trial, training, inputs, tracker(f"tune {name} {key[:7]}", f"trial {n_done + 1}"))
            say(_line(_trials(study)[-1], n_trials))
        bar.n = n_done
        return sorted(_trials(study), key=lambda trial: (trial.ended != "complete", trial.error, trial.number))


def experiment_command(best: Mapping[str, Any]) -> str:
    """The command that trains with these values."""
    return " ".join(["dvc exp run", *(f"-S {path}={value}" for path, value in best.items())])


def study_key(name: str, params: Params, searched: Mapping[str, Knob], seed: int, hashes: Mapping[str, str]) -> str:
    """Hash everything that the trials of a study have in common.

    Args:
        name: name of the member.
        params: all parameters.
        searched: the parameters that are searched, by path.
        seed: seed of the proposals.
        hashes: hashes of code and inputs, by name.

    Returns:
        SHA-256, as hex.
    """
    tree = params.model_dump(mode="json")
    own = {key: tree[key] for key in ("targets", "model", "compute")} | {"member": tree["members"].get(name)}
    space = {path: optuna.distributions.distribution_to_json(knob.choices) for path, knob in searched.items()}
    return sha256_of_json([name, own, tree["finetuned"].get(name), space, seed, dict(hashes)])


def _bar(name: str, n_trials: int) -> Any:
    return progress(description=f"tune {name}", total=n_trials, unit="trial")


def _open_study(path: Path) -> optuna.Study:
    study = optuna.create_study(
        storage=f"sqlite:///{path}",
        study_name="tune",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(**PATIENCE),
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # left by a killed search; the same values are proposed again
    return study


def _next_trial(study: optuna.Study, searched: Mapping[str, Knob], seed: int) -> optuna.Trial:
    n_done = len(_finished(study))
    study.sampler = optuna.samplers.TPESampler(seed=seed + n_done, n_startup_trials=RANDOM_TRIALS)
    if n_done == 0 and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.enqueue_trial({path: knob.value for path, knob in searched.items()})
    return study.ask({path: knob.choices for path, knob in searched.items()})


def _run(
    study: optuna.Study, trial: optuna.Trial, training: Training, inputs: TrainingInputs, tracker: Tracker
) -> None:
    def hopeless(tenths: int, error: float) -> bool:
        trial.report(error, tenths)
        return trial.should_prune()

    def tell(outcome: Outcome) -> None:
        trial.set_user_attr("mae", dict(outcome.mae))
        trial.set_user_attr("ended", outcome.ended)
        trial.set_user_attr("error", outcome.error)
        if outcome.ended == "complete":
            study.tell(trial, outcome.error)
        else:
            study.tell(trial, state=TrialState.PRUNED)

    run_trial(training, inputs, tracker, hopeless=hopeless, tell=tell)


def _training(name: str, params: Params, values: Mapping[str, Any]) -> Training:
    """The member's training with a trial's values, under a name of its own."""
    tree = params.model_dump(mode="json")
    for path, value in values.items():
        *parents, last = path.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        node[last] = _rounded(value)
    return replace(member_training(name, check_params(tree)), name=f"tune/{name}")


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=DONE)


def _trials(study: optuna.Study) -> list[Trial]:
    """The finished trials, numbered in their order, because a kill leaves gaps in Optuna's own numbers."""
    return [
        Trial(
            number,
            {path: _rounded(value) for path, value in trial.params.items()},
            trial.user_attrs["error"],
            trial.user_attrs["mae"],
            trial.user_attrs["ended"],
        )
        for number, trial in enumerate(_finished(study), 1)
    ]


def _line(trial: Trial, n_trials: int) -> str:
    values = ", ".join(f"{path.rsplit('.', 1)[-1]} {json.dumps(value)}" for path, value in trial.proposed.items())
    return f"trial {trial.number}/{n_trials} {trial.ended:8} validation error {trial.error:.4f}: {values}"


def _number(path: str, value: float, factor: float) -> Knob:
    return Knob(path, value, FloatDistribution(value / factor, value * factor, log=True))


def _one_of(path: str, value: int, factors: Sequence[float]) -> Knob:
    choices = sorted({max(1, round(value * factor)) for factor in factors})
    return Knob(path, value, CategoricalDistribution(choices))


def _any_of(path: str, value: float, choices: Sequence[float]) -> Knob:
    return Knob(path, value, CategoricalDistribution(sorted({value, *choices})))


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
