"""Surrogates of a potential: they count for hypothetical crystals, for their own targets, and nowhere else."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_outputs import make_materials, make_outputs, write_member

from matscout import columns
from matscout.ensemble.calibration import hypothetical_calibration
from matscout.ensemble.calibration.ensemble_calibration import EnsembleCalibration
from matscout.ensemble.evaluate import evaluate
from matscout.ensemble.members import SURROGATES
from matscout.ensemble.predictor import EnsemblePredictor, alone
from matscout.errors import StoreError
from matscout.graphs.graph_store import GraphStore

ENERGY, GAP = "formation_energy_per_atom", "band_gap"


def write_surrogate(folder, params, **changes):
    """An untrained network of the energy alone, in the folder `learner`."""
    params = params.model_copy(
        update={
            "members": {"learner": params.members["cgcnn"]},
            "targets": {ENERGY: params.targets[ENERGY]},
        }
    )
    write_member(folder, "learner", params, make_materials(), **changes)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """As in `small_outputs`, with the last quarter of the rows made hypothetical, and a surrogate."""
    root = tmp_path_factory.mktemp("outputs")
    made = make_outputs(root)
    table, split = pd.read_parquet(made.materials), pd.read_parquet(made.split)
    hypothetical = np.arange(len(table)) >= 180
    table[columns.CALCULATION] = np.where(hypothetical, "potential", columns.BY_DFT)
    table[columns.FORMATION_ENERGY_NOISE] = table[columns.BAND_GAP_NOISE] = 0.05
    table.loc[hypothetical, columns.BAND_GAP] = np.nan
    split.loc[hypothetical, columns.FOLD] = columns.CALIBRATION
    table.to_parquet(made.materials)
    split.to_parquet(made.split)
    write_surrogate(root / SURROGATES, made.params)
    return made


def params_with(outputs, folder):
    ensemble = outputs.params.ensemble.model_copy(update={"surrogates": str(folder)})
    return outputs.params.model_copy(update={"ensemble": ensemble})


def evaluated(outputs, surrogates, destination, *, least_weight=1e-9):
    arguments = replace(outputs, params=params_with(outputs, surrogates)).arguments()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hypothetical_calibration, "FEWEST_ROWS", 40)
        patch.setattr(hypothetical_calibration, "LEAST_WEIGHT", least_weight)
        evaluate(outputs.members, **arguments, destination=destination)
    return EnsemblePredictor.load(outputs.members, destination)


@pytest.fixture(scope="module")
def predictors(outputs, tmp_path_factory):
    """The ensemble with the surrogate, and without."""
    root = tmp_path_factory.mktemp("evaluated")
    (root / "none").mkdir()
    with_one = evaluated(outputs, outputs.members.parent / SURROGATES, root / "with")
    return with_one, evaluated(outputs, root / "none", root / "without")


def test_known_crystals_do_not_see_the_surrogates(outputs, predictors):
    store = GraphStore.open(outputs.graphs)
    tables = [predictor.predict(store) for predictor in predictors]
    pd.testing.assert_frame_equal(*tables)
    assert "pretrained_learner" not in predictors[0].calibration.targets[ENERGY].tuning.combination.validation_mae


def test_the_energy_of_a_hypothetical_crystal_is_the_weighted_sum_over_members_and_surrogates(outputs, predictors):
    store = GraphStore.open(outputs.graphs)
    predictor = predictors[0].for_hypothetical()
    combination = predictor.calibration.targets[ENERGY].tuning.combination
    assert set(combination.validation_mae) == {"cgcnn", "composition", "pretrained_learner"}
    assert combination.weights["pretrained_learner"] > 0
    table = predictor.predict(store)
    learner = predictor.surrogates[0].model.eval()(store.batch(np.arange(len(store)), n_neighbors=6, cutoff=5.0))
    medians = {name: table[columns.member_column(ENERGY, name)] for name in ("cgcnn", "composition")}
    medians["pretrained_learner"] = learner[ENERGY].detach().numpy()[:, 0]
    expected = sum(weight * medians[name] for name, weight in combination.weights.items())
    np.testing.assert_allclose(table[ENERGY], expected, rtol=1e-4, atol=1e-5)


def test_other_targets_and_distances_do_not_see_the_surrogates(outputs, predictors):
    store = GraphStore.open(outputs.graphs)
    with_one, without = (predictor.for_hypothetical().predict(store) for predictor in predictors)
    same = [GAP, GAP + columns.LO90, GAP + columns.HI90, columns.METAL_PROBABILITY, columns.TRAINING_DISTANCE]
    pd.testing.assert_frame_equal(with_one[same], without[same])
    assert list(with_one) == list(without)
    assert not np.allclose(with_one[ENERGY], without[ENERGY])


def test_a_surrogate_of_little_weight_is_left_out_and_the_others_are_fitted_without_it(outputs, predictors, tmp_path):
    folder = outputs.members.parent / SURROGATES
    weak = evaluated(outputs, folder, tmp_path / "ensemble", least_weight=1.1)
    assert weak.calibration.surrogates == {}
    assert not (tmp_path / "ensemble" / SURROGATES).exists()
    assert weak.calibration.hypothetical == predictors[1].calibration.hypothetical


def test_a_member_alone_has_no_surrogates(outputs, predictors):
    single = alone(predictors[0].for_hypothetical(), "cgcnn", stretch=1.0)
    assert single.surrogates == ()
    assert single.calibration.surrogates == {}
    assert len(single.predict(GraphStore.open(outputs.graphs), np.arange(3))) == 3


def test_without_hypothetical_crystals_the_surrogates_are_not_loaded(tmp_path):
    made = make_outputs(tmp_path)
    broken = tmp_path / "broken"
    (broken / "learner").mkdir(parents=True)
    (broken / "learner" / "member.json").write_text("{")
    arguments = replace(made, params=params_with(made, broken)).arguments()
    evaluate(made.members, destination=tmp_path / "ensemble", **arguments)
    assert EnsembleCalibration.load(tmp_path / "ensemble" / "calibration.json").surrogates == {}


def test_a_surrogate_with_other_labels_or_graphs_is_rejected_with_the_difference(outputs, tmp_path):
    targets = {ENERGY: outputs.params.targets[ENERGY].model_dump() | {"label": "total_energy"}}
    write_surrogate(tmp_path / "labels", outputs.params, targets=targets)
    with pytest.raises(
        StoreError, match=r"surrogate 'pretrained_learner' does not fit .*label is 'total_energy' instead of"
    ):
        evaluated(outputs, tmp_path / "labels", tmp_path / "out")
    graphs = outputs.params.graphs.model_copy(update={"asymmetric_unit": False}).model_dump()
    write_surrogate(tmp_path / "graphs", outputs.params, graphs=graphs)
    with pytest.raises(StoreError, match=r"surrogate 'pretrained_learner' .*asymmetric_unit is False instead of True"):
        evaluated(outputs, tmp_path / "graphs", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_surrogate_that_was_changed_after_the_calibration_is_rejected(outputs, predictors, tmp_path):
    ensemble = tmp_path / "ensemble"
    evaluated(outputs, outputs.members.parent / SURROGATES, ensemble)
    calibration = json.loads((ensemble / "calibration.json").read_text())
    calibration["surrogates"][0]["weights_sha256"] = "f" * 64
    (ensemble / "calibration.json").write_text(json.dumps(calibration))
    with pytest.raises(StoreError, match=r"'pretrained_learner' has the weights .*calibration was fitted on ffff"):
        EnsemblePredictor.load(outputs.members, ensemble)
