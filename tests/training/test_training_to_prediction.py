"""From training to prediction: another target is a parameter, and what was learnt is what is predicted."""

import json

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Structure
from tiny_training import MEMBER, tiny_materials, tiny_params, train

from matscout import files
from matscout.discovery.screen.user_crystals import predict_structures
from matscout.ensemble.evaluate import evaluate
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.errors import TrainingError
from matscout.graphs.graph_store import build_store
from matscout.models.families.registry import FAMILIES
from matscout.training import train_member
from matscout.training.dataset import fold_outputs

BULK = {"label": "bulk_modulus", "noise": None, "head": "log_laplace", "weight": 0.3}


def materials_with_moduli():
    """The tiny crystals, every other one skewed, with moduli that fall with the lattice constant; some are missing."""
    table, rng = tiny_materials(), np.random.default_rng(2)
    edges = np.array([lattice[0] for lattice in table["lattice"]])
    skewed = [
        np.reshape(lattice, (3, 3)) + (rng.normal(0, 0.1, (3, 3)) if row % 2 else 0)
        for row, lattice in enumerate(table["lattice"])
    ]
    modulus = 400 * np.exp(-1.2 * (edges - 2.5)) * np.exp(rng.laplace(0, 0.05, len(table)))
    return table.assign(
        lattice=[lattice.flatten().tolist() for lattice in skewed],
        synthetic=False,
        source="materials_project",
        duplicate_group=table["material_id"],
        bulk_modulus=np.where(np.arange(len(table)) % 5 == 3, np.nan, modulus),
    )


def write_inputs(folder, table):
    paths = {"materials": folder / "materials.parquet", "split": folder / "split.parquet", "graphs": folder / "graphs"}
    files.write_parquet(paths["materials"], table)
    fold = np.array(["train", "train", "train", "validation", "test", "train", "unused"])[np.arange(len(table)) % 7]
    files.write_parquet(paths["split"], pd.DataFrame({"material_id": table["material_id"], "fold": fold}))
    build_store(paths["materials"], paths["graphs"], tiny_params().graphs, workers=1)
    return paths


class Trained:
    """A member with a third target, its ensemble, and what it said of its training rows when training ended."""

    def __init__(self, folder, patch):
        patch.setenv("DVC_ROOT", str(folder))
        self.table = materials_with_moduli()
        self.params = tiny_params(
            targets__bulk_modulus=BULK,
            members__tiny__training__epochs=30,
            ensemble__bootstrap=5,
            ensemble__drop_factor=None,
        )
        self.paths = write_inputs(folder, self.table)
        self.folder = folder
        metrics = train_member._metrics

        def spy(task, folds):
            self.ids = folds["train"].material_ids
            outputs = fold_outputs(task.averaged, folds["train"])
            self.said = {
                target: FAMILIES[kind].from_head(outputs[target].numpy()).median()
                for target, kind in task.averaged.head.kinds.items()
            }
            return metrics(task, folds)

        patch.setattr(train_member, "_metrics", spy)
        train(self.paths, folder / "members" / MEMBER, self.params, dvc_root=folder)
        evaluate(folder / "members", params=self.params, destination=folder / "ensemble", **self.paths)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return Trained(tmp_path_factory.mktemp("trained"), patch)


@pytest.fixture(scope="module")
def predictions(trained):
    """What `matscout predict` says of CIFs of the training rows."""
    cifs = trained.folder / "cifs"
    cifs.mkdir()
    rows = trained.table.set_index("material_id").loc[trained.ids]
    for name, row in rows.iterrows():
        lattice, coords = np.reshape(row["lattice"], (3, 3)), np.reshape(row["frac_coords"], (-1, 3))
        Structure(lattice, list(row["species"]), coords).to(str(cifs / f"{name}.cif"))
    predictor = EnsemblePredictor.load(trained.folder / "members", trained.folder / "ensemble")
    table, rejections = predict_structures([cifs], predictor, trained.params.curation.validity)
    assert rejections == []
    return table.set_index("material_id").loc[trained.ids]


@pytest.mark.parametrize("target", ["formation_energy_per_atom", "band_gap", "bulk_modulus"])
def test_predicting_the_training_rows_gives_what_training_saw(trained, predictions, target):
    np.testing.assert_allclose(predictions[f"{target}__{MEMBER}"], trained.said[target], rtol=1e-5, atol=1e-5)


def test_another_target_is_learnt_and_judged(trained):
    metrics = json.loads((trained.folder / "ensemble" / "metrics.json").read_text())["targets"]["bulk_modulus"]
    assert metrics["unit"] == "GPa"
    assert "roc_auc_metal" not in metrics["ensemble"]["all"]
    assert metrics["ensemble"]["all"]["mae"]["value"] < metrics["baselines"]["median"]["mae"]["value"]


def test_another_target_is_predicted_with_a_positive_interval(predictions):
    assert (predictions["bulk_modulus"] > 0).all()
    assert (predictions["bulk_modulus_lo90"] >= 0).all()
    assert (predictions["bulk_modulus_hi90"] > predictions["bulk_modulus"]).all()
    assert np.isfinite(predictions["bulk_modulus_std"]).all()


@pytest.mark.parametrize("bad", [0.0, -12.5])
def test_a_label_without_logarithm_is_named(bad, trained, tmp_path):
    table = trained.table.copy()
    table.loc[2, "bulk_modulus"] = bad
    files.write_parquet(tmp_path / "materials.parquet", table)
    told = rf"bulk_modulus = {bad:g} GPa of t-002 \(1 such row\(s\)\).*log_laplace.*above zero"
    with pytest.raises(TrainingError, match=told), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(tmp_path))
        paths = {**trained.paths, "materials": tmp_path / "materials.parquet"}
        train(paths, tmp_path / "member", trained.params, dvc_root=tmp_path)
