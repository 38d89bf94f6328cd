"""The stage `train`: what it writes, from which rows, and how it fails."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from imports import ROOT
from tiny_training import EPOCHS, MEMBER, tiny_materials, tiny_params, train

from matscout import files
from matscout.errors import ParameterError, StoreError, TrainingError
from matscout.graphs.graph_store import GraphStore
from matscout.models.inference import distributions, embed
from matscout.models.saved_member import load_member
from matscout.training import fitting, train_member
from matscout.training.checkpoints import decode, encode, open_checkpoints, take_member
from matscout.training.dataset import load_folds
from matscout.training.training import TrainingInputs, member_training


def folds_of(inputs):
    training = member_training(MEMBER, tiny_params())
    return load_folds(training, TrainingInputs(**inputs), GraphStore.open(inputs["graphs"]), torch.device("cpu"))


def test_it_writes_weights_card_history_and_metrics(uninterrupted):
    folder, _ = uninterrupted
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["history.parquet", "member.json", "metrics.json", "weights.safetensors"]
    history = pd.read_parquet(folder / "history.parquet")
    assert list(history) == [
        "epoch",
        "train_loss",
        "validation_loss",
        "mae_formation_energy_per_atom",
        "mae_band_gap",
        "lr",
    ]
    assert history["epoch"].tolist() == list(range(1, EPOCHS + 1))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["epochs"] == EPOCHS
    assert set(metrics["test"]["mae"]) == {"band_gap", "formation_energy_per_atom"}
    last = history.iloc[-1]
    assert metrics["validation"]["mae"]["band_gap"] == pytest.approx(last["mae_band_gap"])


def test_labels_of_a_lab_s_own_file_are_learnt_like_any_other(tiny_inputs, tmp_path):
    """A free column as a positive target beside the usual ones; it follows the energy, so its error falls."""
    table = tiny_materials()
    table["hardness"] = np.where(np.arange(len(table)) % 4, 10.0 + 3.0 * table["formation_energy_aligned"], np.nan)
    materials = tmp_path / "materials.parquet"
    files.write_parquet(materials, table)
    target = {"label": "hardness", "noise": None, "head": "log_laplace", "weight": 1.0}
    own = tiny_params(
        databases__oqmd__file__labels={"hardness": "Hv (GPa)"},
        targets__hardness=target,
        members__tiny__training__epochs=12,
    )
    train(tiny_inputs | {"materials": materials}, tmp_path / MEMBER, own, dvc_root=tmp_path)
    history = pd.read_parquet(tmp_path / MEMBER / "history.parquet")
    assert history["mae_hardness"].iloc[-1] < 0.8 * history["mae_hardness"].iloc[0]
    metrics = json.loads((tmp_path / MEMBER / "metrics.json").read_text())
    assert set(metrics["test"]["mae"]) == {"band_gap", "formation_energy_per_atom", "hardness"}


def test_loading_and_predicting_gives_the_errors_of_training(uninterrupted, tiny_inputs):
    folder, _ = uninterrupted
    loaded = load_member(folder)
    store, table = GraphStore.open(tiny_inputs["graphs"]), pd.read_parquet(tiny_inputs["materials"])
    fold = folds_of(tiny_inputs)["test"]
    embeddings = embed(loaded.model, store, fold.rows, **loaded.card.graph)
    predictions = distributions(loaded.model, embeddings)
    labels = table.set_index("material_id").loc[fold.material_ids, "band_gap"].to_numpy()
    error = np.nanmean(np.abs(predictions["band_gap"].median() - labels))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"]["mae"]["band_gap"] == pytest.approx(error, rel=1e-5)


def test_the_head_knows_the_training_labels_only(uninterrupted, tiny_inputs):
    fold = folds_of(tiny_inputs)["train"]
    head = load_member(uninterrupted[0]).model.head.heads["formation_energy_per_atom"]
    labels = fold.labels["formation_energy_per_atom"]
    assert head.center.item() == pytest.approx(labels[~labels.isnan()].median().item())


def test_the_card_names_what_was_seen(uninterrupted, tiny_inputs):
    card = load_member(uninterrupted[0]).card
    table = pd.read_parquet(tiny_inputs["materials"]).set_index("material_id")
    seen = {symbol for cell in table.loc[folds_of(tiny_inputs)["train"].material_ids, "species"] for symbol in cell}
    assert set(card.elements) == seen
    assert card.hashes["split"] == files.sha256_of(tiny_inputs["split"])
    assert card.graph == {"n_neighbors": 6, "cutoff": 6.0}


def test_folds_hold_the_labelled_rows_and_errors_no_synthetic_ones(tiny_inputs):
    folds = folds_of(tiny_inputs)
    table = tiny_materials().set_index("material_id")
    split = pd.read_parquet(tiny_inputs["split"]).set_index("material_id")["fold"]
    labelled = table[["band_gap", "formation_energy_aligned"]].notna().any(axis=1)
    assert set(folds["train"].material_ids) == set(table.index[labelled & (split == "train")])
    for name in ("validation", "test"):
        assert set(folds[name].material_ids) == set(table.index[labelled & (split == name) & ~table["synthetic"]])
    assert table.loc[folds["train"].material_ids, "synthetic"].any()


def test_batches_hold_every_row_once_with_its_own_labels(tiny_inputs):
    fold = folds_of(tiny_inputs)["train"]
    table = tiny_materials().set_index("material_id")
    ids = []
    for batch in fold.training_batches(batch_size=8, seed=0, epoch=3):
        ids += batch.material_ids
        expected = table.loc[batch.material_ids, "band_gap"].to_numpy(np.float32)
        np.testing.assert_array_equal(batch.labels["band_gap"].numpy(), expected)
        assert batch.inputs.n_crystals == batch.n_rows
    assert sorted(ids) == sorted(fold.material_ids)


def test_training_leaves_torchs_settings_as_they_were(tiny_inputs, dvc_root, tmp_path, monkeypatch):
    threads_within = []
    fit = train_member.fit
    monkeypatch.setattr(train_member, "fit", lambda *a: threads_within.append(torch.get_num_threads()) or fit(*a))
    train(tiny_inputs, tmp_path / "member", dvc_root=dvc_root, threads=2)
    assert threads_within == [1]
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)


def test_a_member_s_own_weight_of_a_target_replaces_the_shared_one(tiny_inputs, uninterrupted, dvc_root, tmp_path):
    targets = yaml.safe_load((ROOT / "params.yaml").read_text())["targets"]
    light = {**targets, "band_gap": {**targets["band_gap"], "weight": 0.1}}
    changes = {"shared": {"targets": light}, "own": {f"members__{MEMBER}__training__target_weights": {"band_gap": 0.1}}}
    for name, change in changes.items():
        train(tiny_inputs, tmp_path / name, tiny_params(**change), dvc_root=dvc_root)
    shared, own = (load_member(tmp_path / name) for name in changes)
    assert own.card.targets == shared.card.targets
    weights = [loaded.model.state_dict() for loaded in (shared, own, load_member(uninterrupted[0]))]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert any(not torch.equal(weights[0][key], weights[2][key]) for key in weights[0])


def test_a_member_trained_beforehand_is_put_in_place_whole_or_trained_on(
    tiny_inputs, uninterrupted, dvc_root, tmp_path, monkeypatch
):
    def take(**changes):
        return take_member(member_training(MEMBER, tiny_params(**changes)), inputs, tmp_path / "member")

    inputs = TrainingInputs(**tiny_inputs)
    assert not take()
    train_member.train_beforehand(member_training(MEMBER, tiny_params()), inputs)
    assert not take(members__tiny__training__seed=4)
    weights = next((dvc_root / ".checkpoints" / MEMBER).glob("*/member.*/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    assert not take()
    monkeypatch.setattr(fitting.Trainer, "_step", None)  # the checkpoint of the last epoch is there
    train_member.train_beforehand(member_training(MEMBER, tiny_params()), inputs)
    assert take()
    assert files.sha256_of(tmp_path / "member") == uninterrupted[1]
    assert not (dvc_root / ".checkpoints" / MEMBER).exists()


def test_who_takes_a_trained_member_loads_neither_torch_nor_mlflow():
    code = "import sys, matscout.training.checkpoints; print({'torch', 'mlflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_training_flushes_subnormals(tiny_inputs, uninterrupted, dvc_root, tmp_path, monkeypatch):
    products = []
    fit = train_member.fit
    monkeypatch.setattr(train_member, "fit", lambda *a: products.append(torch.tensor(1e-30) * 1e-10) or fit(*a))
    torch.set_flush_denormal(False)
    train(tiny_inputs, tmp_path / "member", dvc_root=dvc_root)
    assert products == [0.0]


def test_an_unknown_member_is_answered_with_the_known_ones(tiny_inputs, tmp_path):
    with pytest.raises(ParameterError, match=r"'cgnn' is not in params.yaml; choose one of \['tiny'\]"):
        train_member.train_member("cgnn", params=tiny_params(), destination=tmp_path / "m", **tiny_inputs)


def test_a_target_without_labels_and_an_empty_fold_are_named(tiny_inputs, dvc_root, tmp_path):
    table = tiny_materials().assign(band_gap=np.nan)
    files.write_parquet(tmp_path / "unlabelled.parquet", table)
    with pytest.raises(TrainingError, match="target 'band_gap' has nothing to learn from"):
        train({**tiny_inputs, "materials": tmp_path / "unlabelled.parquet"}, tmp_path / "m", dvc_root=dvc_root)
    split = pd.read_parquet(tiny_inputs["split"]).assign(fold="train")
    files.write_parquet(tmp_path / "split.parquet", split)
    with pytest.raises(TrainingError, match=r"fold 'validation' of .*split\.parquet has no row"):
        train({**tiny_inputs, "split": tmp_path / "split.parquet"}, tmp_path / "m", dvc_root=dvc_root)
    assert not (tmp_path / "m").exists()


def test_no_gpu_is_said_before_any_work(tiny_inputs, dvc_root, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParameterError, match=r"compute\.device = 'cuda'"):
        train(tiny_inputs, tmp_path / "m", tiny_params(compute__device="cuda"), dvc_root=dvc_root)


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    state = {"weights": torch.randn(3, 2), "step": 7, "run_id": "abc", "nested": [{"lr": 0.1}]}
    back = decode(encode(state), tmp_path)
    assert torch.equal(back.pop("weights"), state.pop("weights"))
    assert back == state


def test_a_checkpoint_that_would_run_code_is_rejected(tmp_path):
    with pytest.raises(StoreError, match="cannot be read"):
        decode(encode({"path": tmp_path}), tmp_path / "x.ckpt")


def test_what_a_killed_writer_left_is_swept(dvc_root):
    partial = dvc_root / ".checkpoints" / "a" / "0" / ".epoch-000001.ckpt.99.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"half")
    with open_checkpoints("a", "0") as store:
        assert not partial.exists()
        assert store.load() is None
        store.save(1, {"x": 1})
        assert store.load() == {"x": 1}
        store.delete()
    assert not (dvc_root / ".checkpoints" / "a").exists()
