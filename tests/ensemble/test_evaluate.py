"""The whole stage on a small set: its files, their columns, their agreement with the predictor, rejections."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import small_outputs
import torch
from small_outputs import binary, make_materials, write_member

from matscout import columns
from matscout.ensemble.calibration.ensemble_calibration import FORMAT_VERSION
from matscout.ensemble.calibration.target_calibration import METAL
from matscout.ensemble.evaluate import evaluate
from matscout.ensemble.members import load_members, run_members
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.errors import InputError, StoreError
from matscout.files import sha256_of
from matscout.graphs.graph_store import GraphStore
from matscout.models.families.registry import FAMILIES
from matscout.models.inference import ON_CPU

outputs, ensemble = small_outputs.outputs, small_outputs.ensemble

TARGETS = ("formation_energy_per_atom", "band_gap")


@pytest.fixture
def predictor(outputs, ensemble):
    return EnsemblePredictor.load(outputs.members, ensemble)


def test_predictions_hold_every_held_out_row_once(outputs, ensemble):
    table = pd.read_parquet(ensemble / "predictions.parquet")
    split = pd.read_parquet(outputs.split)
    assert set(table["material_id"]) == set(split.loc[split["fold"] != "train", "material_id"])
    assert table["material_id"].is_unique
    for target in TARGETS:
        assert (table[f"{target}_lo90"] <= table[target]).all()
        assert (table[target] <= table[f"{target}_hi90"]).all()
        total = np.hypot(table[f"{target}_std_aleatoric"], table[f"{target}_std_epistemic"])
        np.testing.assert_allclose(total, table[f"{target}_std"])
        members = table[[f"{target}__cgcnn", f"{target}__composition"]]
        np.testing.assert_allclose(members.median(axis=1), table[target])
    assert (table["band_gap_lo90"] >= 0).all()
    assert table["metal_probability"].between(0, 1).all()
    labels = make_materials().set_index("material_id")["band_gap"]
    np.testing.assert_allclose(table["band_gap_true"], labels[table["material_id"]])


def test_metrics_hold_what_the_predictions_say(ensemble):
    table = pd.read_parquet(ensemble / "predictions.parquet")
    metrics = json.loads((ensemble / "metrics.json").read_text())
    test = table[(table["fold"] == "test") & table["band_gap_true"].notna()]
    gap = metrics["targets"]["band_gap"]
    judged = gap["ensemble"]["all"]
    assert judged["n"] == gap["n_test"] == len(test)
    assert judged["mae"]["value"] == pytest.approx((test["band_gap"] - test["band_gap_true"]).abs().mean())
    covered = test["band_gap_true"].between(test["band_gap_lo90"], test["band_gap_hi90"])
    assert judged["coverage_90"]["value"] == pytest.approx(covered.mean())
    is_metal = test["band_gap_true"] == 0
    assert gap["ensemble"]["metal"]["n"] == is_metal.sum()
    assert gap["ensemble"]["predicted_metal"]["n"] == (test["metal_probability"] >= 0.5).sum()
    best = gap["best_member"]
    assert best["rows"]["all"]["mae"]["value"] == min(m["mae"]["value"] for m in gap["members"].values())
    assert best["rows"].keys() == gap["ensemble"].keys()
    assert best["rows"]["all"].keys() == judged.keys()
    named = {"mae", "rmse", "r2", "nll", "crps", "ence", "miscalibration_area", "spearman", "ause", "roc_auc_metal"}
    named |= {f"{what}_{level}" for what in ("coverage", "width") for level in (50, 80, 90, 95)}
    named |= {"mae_most_certain_50", "mae_most_certain_80", "n"}
    assert judged.keys() == named
    assert all(judged[name]["low"] <= judged[name]["high"] for name in named - {"n"})
    assert set(gap["baselines"]) == {"mean", "median", "gradient_boosting"}
    assert set(gap["combinations"]) == {f"{m}{s}" for m in ("median", "mean", "stack") for s in ("", "_of_all")}
    for other in gap["combinations"].values():
        difference = judged["mae"]["value"] - other["mae"]["value"]
        assert other["ensemble_mae_minus_this"]["value"] == pytest.approx(difference)
    assert gap["combinations"]["median"]["ensemble_mae_minus_this"]["value"] == 0  # the ensemble itself
    assert sum(decile["n"] for decile in gap["distance_deciles"]) == len(test)
    shown = gap["curves"]["confidence"]
    assert shown["mae"][-1] == pytest.approx(judged["mae"]["value"])


def test_two_runs_give_the_same_bytes(outputs, ensemble, tmp_path):
    evaluate(outputs.members, **outputs.arguments(), destination=tmp_path / "again")
    assert sha256_of(tmp_path / "again") == sha256_of(ensemble)


def test_predictor_repeats_the_stage(outputs, ensemble, predictor):
    table = pd.read_parquet(ensemble / "predictions.parquet")
    store = GraphStore.open(outputs.graphs)
    again = predictor.predict(store, store.rows_of(table["material_id"].to_numpy(str)))
    for column in set(table) & set(again) - {"material_id", "unseen_elements"}:
        np.testing.assert_allclose(again[column].astype(float), table[column].astype(float), rtol=1e-4, atol=1e-5)
    assert again["material_id"].tolist() == table["material_id"].tolist()


def test_order_and_company_of_rows_do_not_matter(outputs, predictor):
    store = GraphStore.open(outputs.graphs)
    rows = np.random.default_rng(0).permutation(len(store))
    together = predictor.predict(store).iloc[rows].reset_index(drop=True)
    shuffled = predictor.predict(store, rows)
    pd.testing.assert_frame_equal(together, shuffled, rtol=1e-4, atol=1e-5)


def test_members_outputs_are_those_of_the_whole_model(outputs):
    members = load_members(outputs.members, list(outputs.params.members))
    store = GraphStore.open(outputs.graphs)
    rows = np.arange(len(store))[::-1].copy()
    ours = run_members(members, store, rows, plan=ON_CPU, description="test").distributions
    for member in members:
        with torch.inference_mode():
            theirs = member.model.eval()(store.batch(rows, **member.card.graph))
        for target in TARGETS:
            expected = FAMILIES[member.model.head.kinds[target]].from_head(theirs[target].numpy())
            found = ours[target][member.name]
            np.testing.assert_allclose(found.parameters(), expected.parameters(), rtol=1e-4, atol=1e-5)


def test_element_never_trained_on_flags_the_row(predictor):
    crystals = [binary("Na", "Cl", 3.5), binary("Pu", "O", 3.5), binary("Np", "Te", 3.9)]
    table = predictor.predict(GraphStore.from_crystals(["a", "b", "c"], crystals, predictor.graphs))
    assert table[columns.UNSEEN_ELEMENTS].tolist() == ["", "Pu", "Te,Np"]
    assert np.isfinite(table["band_gap"]).all()


def test_crystal_unlike_any_other_lies_far(predictor):
    usual = [binary("Na", "Cl", edge) for edge in (3.0, 3.5, 4.0)]
    strange = [binary("Pu", "Pu", 2.2), binary("Og", "Rn", 2.3)]
    table = predictor.predict(GraphStore.from_crystals(list("abcde"), [*usual, *strange], predictor.graphs))
    distance = table[columns.TRAINING_DISTANCE]
    assert distance[3:].min() > distance[:3].max()
    assert table[columns.FAR_FROM_TRAINING].tolist()[3:] == [True, True]


def test_nothing_to_predict_gives_an_empty_table(predictor):
    assert len(predictor.predict(GraphStore.from_crystals([], [], predictor.graphs))) == 0


def test_a_crystal_without_a_finite_prediction_is_left_out_by_name(predictor, monkeypatch):
    crystals = {"a": binary("Na", "Cl", 3.5), "poison": binary("Pu", "O", 3.5), "b": binary("Zn", "S", 3.9)}
    encoder = predictor.members[0].model.encoder
    inner = encoder.forward

    def forward(graph):
        embeddings = inner(graph)
        embeddings[graph.crystal_of_atom[graph.atomic_numbers == 94]] = torch.nan
        return embeddings

    store = GraphStore.from_crystals(list(crystals), list(crystals.values()), predictor.graphs)
    whole, whole_mixtures = predictor.predict_mixtures(store)
    monkeypatch.setattr(encoder, "forward", forward)
    table, mixtures = predictor.predict_mixtures(store)
    pd.testing.assert_frame_equal(table, whole.iloc[[0, 2]].reset_index(drop=True))
    for target in TARGETS:
        np.testing.assert_array_equal(mixtures[target].mean(), whole_mixtures[target].mean()[[0, 2]])
    with pytest.raises(StoreError, match=r"1 crystal.*such as poison: the members give values that are not finite"):
        predictor.predict(store)


def copy_with(outputs, tmp_path, **changes):
    """The members, with the card of `composition` changed."""
    members = tmp_path / "members"
    shutil.copytree(outputs.members, members)
    write_member(members, "composition", outputs.params, make_materials(), **changes)
    return members


def test_missing_member_is_refused_by_name(outputs, tmp_path):
    members = tmp_path / "members"
    shutil.copytree(outputs.members, members)
    (members / "composition" / "weights.safetensors").unlink()
    with pytest.raises(StoreError, match=r"composition/weights\.safetensors not found"):
        evaluate(members, **outputs.arguments(), destination=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_copied_member_is_rejected(outputs, tmp_path):
    members = tmp_path / "members"
    shutil.copytree(outputs.members, members)
    shutil.rmtree(members / "composition")
    shutil.copytree(members / "cgcnn", members / "composition")
    with pytest.raises(StoreError, match="composition holds the member 'cgcnn', not 'composition'"):
        evaluate(members, **outputs.arguments(), destination=tmp_path / "out")


def test_member_of_other_targets_is_refused_with_the_difference(outputs, tmp_path):
    targets = {name: target.model_dump() for name, target in outputs.params.targets.items()}
    targets["band_gap"]["label"] = "bulk_modulus"
    members = copy_with(outputs, tmp_path, targets=targets)
    with pytest.raises(StoreError, match=r"'composition' does not fit .*band_gap\.label is 'bulk_modulus' instead"):
        evaluate(members, **outputs.arguments(), destination=tmp_path / "out")


def test_member_of_other_graphs_is_refused_with_the_difference(outputs, tmp_path):
    graphs = outputs.params.graphs.model_copy(update={"asymmetric_unit": False}).model_dump()
    members = copy_with(outputs, tmp_path, graphs=graphs)
    with pytest.raises(StoreError, match=r"'composition' does not fit .*asymmetric_unit is False instead of True"):
        evaluate(members, **outputs.arguments(), destination=tmp_path / "out")


def test_member_of_another_element_table_is_refused_with_the_difference(outputs, tmp_path):
    members = copy_with(outputs, tmp_path)
    card = members / "composition" / "member.json"
    content = json.loads(card.read_text())
    content["element_table_sha256"] = "f" * 64
    card.write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"composition.*element"):
        evaluate(members, **outputs.arguments(), destination=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_member_that_lacks_a_target_is_refused_with_the_difference(outputs, tmp_path):
    targets = {name: target.model_dump() for name, target in outputs.params.targets.items()}
    members = tmp_path / "members"
    shutil.copytree(outputs.members, members)
    only = outputs.params.model_copy(update={"targets": {"band_gap": outputs.params.targets["band_gap"]}})
    write_member(members, "composition", only, make_materials())
    assert set(targets) > set(only.targets)
    with pytest.raises(StoreError, match=r"'composition' does not fit .*targets is \['band_gap'\] instead of"):
        evaluate(members, **outputs.arguments(), destination=tmp_path / "out")


def test_graphs_built_otherwise_are_rejected(predictor):
    settings = predictor.graphs.model_copy(update={"asymmetric_unit": False})
    store = GraphStore.from_crystals(["a"], [binary("Na", "Cl", 3.5)], settings)
    with pytest.raises(StoreError, match="'cgcnn' cannot read these graphs: asymmetric_unit is True in the member"):
        predictor.predict(store)
    shallow = predictor.graphs.model_copy(update={"n_neighbors": 2})
    store = GraphStore.from_crystals(["a"], [binary("Na", "Cl", 3.5)], shallow)
    with pytest.raises(StoreError, match="needs 6 neighbours, but the graphs hold 2"):
        predictor.predict(store)


def test_retrained_member_needs_a_new_calibration(outputs, ensemble, tmp_path):
    members = tmp_path / "members"
    shutil.copytree(outputs.members, members)
    shifted = make_materials()
    shifted["formation_energy_aligned"] += 1
    write_member(members, "composition", outputs.params, shifted)
    with pytest.raises(StoreError, match=r"'composition' has the weights .* the calibration was fitted on"):
        EnsemblePredictor.load(members, ensemble)


@pytest.mark.parametrize("name", ["calibration.json", "reference.npz"])
@pytest.mark.parametrize("share_kept", [None, 0, 0.5])
def test_broken_ensemble_files_are_refused_by_name(outputs, ensemble, tmp_path, name, share_kept):
    broken = tmp_path / "ensemble"
    shutil.copytree(ensemble, broken)
    content = (broken / name).read_bytes()
    (broken / name).unlink()
    if share_kept is not None:
        (broken / name).write_bytes(content[: int(share_kept * len(content))])
    with pytest.raises(StoreError, match=name):
        EnsemblePredictor.load(outputs.members, broken)


def test_a_calibration_of_an_older_format_is_refused_with_the_remedy(outputs, ensemble, tmp_path):
    older = tmp_path / "ensemble"
    shutil.copytree(ensemble, older)
    calibration = json.loads((older / "calibration.json").read_text())
    (older / "calibration.json").write_text(json.dumps(calibration | {"format_version": FORMAT_VERSION - 1}))
    with pytest.raises(StoreError, match=rf"format version {FORMAT_VERSION - 1}.*dvc repro evaluate"):
        EnsemblePredictor.load(outputs.members, older)


def test_synthetic_rows_never_test(outputs, tmp_path):
    materials = make_materials()
    materials["synthetic"] = True
    materials.to_parquet(tmp_path / "materials.parquet")
    changed = replace(outputs, materials=tmp_path / "materials.parquet")
    with pytest.raises(InputError, match="synthetic rows are held out"):
        evaluate(outputs.members, **changed.arguments(), destination=tmp_path / "out")


def test_target_without_validation_labels_is_rejected(outputs, tmp_path):
    materials = make_materials()
    materials["band_gap"] = np.nan
    materials.to_parquet(tmp_path / "materials.parquet")
    changed = replace(outputs, materials=tmp_path / "materials.parquet")
    with pytest.raises(InputError, match="no validation row has a label for 'band_gap'"):
        evaluate(outputs.members, **changed.arguments(), destination=tmp_path / "out")


def test_empty_fold_is_rejected(outputs, tmp_path):
    split = pd.read_parquet(outputs.split)
    split["fold"] = split["fold"].replace("test", "train")
    split.to_parquet(tmp_path / "split.parquet")
    changed = replace(outputs, split=tmp_path / "split.parquet")
    with pytest.raises(InputError, match="the test fold is empty"):
        evaluate(outputs.members, **changed.arguments(), destination=tmp_path / "out")


def test_stratum_names_are_those_of_the_calibration(ensemble):
    calibration = json.loads((ensemble / "calibration.json").read_text())
    conformal = calibration["targets"]["band_gap"]["conformal"]
    assert METAL in conformal["n_rows"]
    assert conformal["quantiles"]["all"]["0.9"] > 0
