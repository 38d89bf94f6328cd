"""`matscout tune`: a search that is recorded, goes on when killed, and never reads the test fold."""

import itertools
import os
from functools import partial

import pandas as pd
import pytest
import torch
from tiny_training import MEMBER, kill_self, tiny_params, write_tiny_inputs

from matscout import columns, files
from matscout.errors import ParameterError, TrainingError
from matscout.params import check_params
from matscout.training import train_member
from matscout.training.trainer import Trainer
from matscout.training.training import TrainingInputs, member_training

pytest.importorskip("optuna", reason="optuna is not installed; matscout tune needs it")
from matscout.commands import tune as search

# mlflow 3.17.2 and optuna use what their SQLAlchemy deprecates
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
OVER = ("lr", "averaging", "epochs")
N_TRIALS = 3


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_tiny_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    return tmp_path / "root"


def untracked(title, trial):
    return train_member.UNTRACKED


def searched(inputs, *, n_trials=N_TRIALS, over=OVER, params=None, said=None, tracker=untracked):
    how = {"n_trials": n_trials, "over": over, "seed": 5, "tracker": tracker}
    say = (said if said is not None else []).append
    return search.tune(MEMBER, params or tiny_params(), inputs=TrainingInputs(**inputs), say=say, **how)


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """An uninterrupted search of three trials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("whole")))
        return searched(inputs)


def test_the_first_trial_has_the_present_values_and_the_best_comes_first(whole):
    by_number = sorted(whole, key=lambda found: found.number)
    assert [found.number for found in by_number] == [1, 2, 3]
    assert by_number[0].proposed == {"model.lr": 0.01, "model.averaging": 0.99, f"members.{MEMBER}.training.epochs": 4}
    assert whole[0].error == min(found.error for found in whole)
    assert len({tuple(found.proposed.items()) for found in whole}) == N_TRIALS


def test_the_error_is_that_of_the_training_on_validation_rows(whole, inputs, tmp_path):
    """A trial is the training that `train_member` does, measured in mean absolute deviations."""
    first = next(found for found in whole if found.number == 1)
    train_member.train_member(MEMBER, params=tiny_params(), destination=tmp_path / "member", **inputs)
    last = pd.read_parquet(tmp_path / "member" / "history.parquet").iloc[-1]
    assert first.mae == pytest.approx({target: last[f"mae_{target}"] for target in first.mae})
    table = pd.read_parquet(inputs["materials"]).merge(pd.read_parquet(inputs["split"]), on="material_id")
    rows = table[(table["fold"] == "validation") & ~table["synthetic"]]
    ratios = []
    for target, column in (("formation_energy_per_atom", "formation_energy_aligned"), ("band_gap", "band_gap")):
        labels = rows[column].dropna()
        ratios.append(first.mae[target] / (labels - labels.median()).abs().mean())
    assert first.error == pytest.approx(sum(ratios) / 2, rel=1e-5)


def test_the_test_fold_is_never_read(whole, inputs, tmp_path):
    """Without any test row, and with nonsense in their place, the search is the same."""
    split = pd.read_parquet(inputs["split"])
    gone = split.assign(fold=split["fold"].replace({columns.TEST: columns.UNUSED}))
    files.write_parquet(tmp_path / "split.parquet", gone)
    assert searched({**inputs, "split": tmp_path / "split.parquet"}) == whole


def test_it_says_each_trial_and_more_trials_go_on_from_those_before(whole, inputs):
    said = []
    assert searched(inputs, n_trials=2, said=said) == [found for found in whole if found.number < 3]
    assert searched(inputs, said=said) == whole
    assert [line.split(" ")[1] for line in said] == ["1/2", "2/2", "3/3"]
    assert searched(inputs, said=said) == whole  # nothing is left to do
    assert len(said) == N_TRIALS


def search_and_die(inputs, root, epoch):
    """Body of a child process: killed in some epoch of the whole search."""
    os.environ["DVC_ROOT"] = str(root)
    torch.set_num_threads(1)
    run_epoch, calls = Trainer._run_epoch, itertools.count(1)

    def killed(self, *args):
        if next(calls) == epoch:
            kill_self()
        return run_epoch(self, *args)

    Trainer._run_epoch = killed
    searched(inputs)


@pytest.mark.parametrize("epoch", [2, 6])
def test_killed_it_goes_on_and_ends_like_one_that_was_not(epoch, processes, whole, inputs, root, monkeypatch):
    process = processes.Process(target=search_and_die, args=(inputs, root, epoch))
    process.start()
    process.join()
    assert process.exitcode == -9
    begun, run_epoch = [], Trainer._run_epoch
    monkeypatch.setattr(Trainer, "_run_epoch", lambda self, e, *a: begun.append(e) or run_epoch(self, e, *a))
    assert searched(inputs) == whole
    total = sum(found.proposed[f"members.{MEMBER}.training.epochs"] for found in whole)
    assert len(begun) == total - (epoch - 1)  # what was trained before the kill is not trained again
    kept = root / ".checkpoints" / "tune" / MEMBER
    assert [path for path in kept.iterdir() if path.is_dir() and not (path / "study.db").exists()] == []


def test_a_changed_parameter_starts_another_study(inputs, whole):
    searched(inputs, n_trials=1)
    again = searched(inputs, n_trials=1, params=tiny_params(model__grad_clip=0.5))
    assert again[0].error != next(found for found in whole if found.number == 1).error


def test_a_hopeless_trial_ends_early(inputs):
    told, asked = [], []

    def hopeless(tenths, error):
        asked.append(tenths)
        return tenths >= 5

    training = member_training(MEMBER, tiny_params())
    told_of = {"hopeless": hopeless, "tell": told.append}
    search.run_trial(training, TrainingInputs(**inputs), train_member.UNTRACKED, **told_of)
    assert asked == [2, 5]  # of 4 epochs
    assert told[0].ended == "pruned"


def test_the_median_decides_what_is_hopeless(inputs, monkeypatch):
    """With no patience, a trial that is worse than the median of those before is cut; trial 1 can't be."""
    monkeypatch.setattr(search, "PATIENCE", {"n_startup_trials": 1, "n_warmup_steps": 0})
    found = sorted(searched(inputs, n_trials=4, over=("lr",)), key=lambda found: found.number)
    assert found[0].ended == "complete"
    assert "pruned" in {one.ended for one in found}
    best = min(one.error for one in found if one.ended == "complete")
    assert best == min(found, key=lambda one: (one.ended != "complete", one.error)).error


def test_a_trial_that_diverges_is_no_end_of_the_search(inputs):
    found = searched(inputs, n_trials=2, over=("epochs",), params=tiny_params(model__lr=1e30))
    assert {one.ended for one in found} == {"diverged"}
    assert len(found) == 2


def test_a_second_search_of_the_member_is_rejected(inputs):
    params, searches = tiny_params(), search.knobs_of(MEMBER, tiny_params())
    chosen = {knob.path: knob for name, knob in searches.items() if name in OVER}
    key = search.study_key(MEMBER, params, chosen, 5, TrainingInputs(**inputs).hashes())
    with search.open_checkpoints(f"tune/{MEMBER}", key), pytest.raises(TrainingError, match="already being trained"):
        searched(inputs)


def test_an_unknown_member_or_knob_is_answered_with_the_known_ones(inputs):
    with pytest.raises(ParameterError, match=r"'cgnn' is not in params.yaml; choose one of \['tiny'\]"):
        how = {"n_trials": 1, "over": OVER, "seed": 5, "tracker": untracked}
        search.tune("cgnn", tiny_params(), inputs=TrainingInputs(**inputs), say=print, **how)
    with pytest.raises(ParameterError, match="--over dropout is not a parameter to search; choose from lr, lr_scale"):
        searched(inputs, over=("dropout",))


def test_every_knob_is_a_parameter_and_its_choices_are_valid():
    params = tiny_params()
    for knob in search.knobs_of(MEMBER, params).values():
        choices = getattr(knob.choices, "choices", None) or (knob.choices.low, knob.choices.high)
        assert knob.value in choices or choices[0] <= knob.value <= choices[-1]
        for value in choices:
            tree = params.model_dump(mode="json")
            *parents, last = knob.path.split(".")
            node = tree
            for parent in parents:
                node = node[parent]
            assert node[last] == knob.value
            node[last] = value
            check_params(tree)


def test_the_command_is_one_that_dvc_takes():
    best = {"model.lr": 0.003, "members.cogn.training.epochs": 45}
    assert search.experiment_command(best) == "dvc exp run -S model.lr=0.003 -S members.cogn.training.epochs=45"


def test_trials_are_children_of_one_run_in_mlflow(inputs, root):
    from mlflow.tracking import MlflowClient

    from matscout.training import tracking

    found = searched(inputs, n_trials=2, tracker=partial(tracking.MLflowTracker, tiny_params()))
    client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if tracking.PARENT_TAG not in run.data.tags]
    assert [run.info.run_name.rsplit(" ", 1)[0] for run in parents] == [f"tune {MEMBER}"]
    trials = {run.info.run_name: run for run in runs if tracking.PARENT_TAG in run.data.tags}
    assert sorted(trials) == ["trial 1", "trial 2"]
    for one in found:
        run = trials[f"trial {one.number}"]
        assert run.data.metrics["validation_error"] == one.error
        assert not [name for name in run.data.metrics if name.startswith("test_")]
        assert run.data.params["model.lr"] == str(one.proposed["model.lr"])
