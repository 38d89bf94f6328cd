"""Pretraining on all databases with a head for each, and trainings that begin with the weights of others."""

import dataclasses
import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from tiny_training import EPOCHS, MEMBER, ROOT, tiny_materials, tiny_params, train, train_and_die

from matscout import columns, files
from matscout.curation.splits import make_split
from matscout.errors import InputError, ParameterError, StoreError, TrainingError
from matscout.graphs.graph_store import GraphStore
from matscout.models.saved_member import build_from_card, load_member, save_member
from matscout.params import check_params
from matscout.training import fitting, train_member
from matscout.training import pretrain as pretraining
from matscout.training.dataset import load_folds
from matscout.training.fitting import Task, load_start
from matscout.training.pretrain import check_whole_groups, database_targets, pretrain
from matscout.training.training import TrainingInputs, member_training

SHIFT = 0.7  # eV/atom: the second database's reference energies
ENERGY, GAP = "formation_energy_per_atom", "band_gap"


def two_databases():
    """Every third row is OQMD's, shifted; the aligned energies have the shift taken out."""
    table = tiny_materials()
    is_oqmd = np.arange(len(table)) % 3 == 1
    aligned = table["formation_energy_aligned"]
    return table.assign(
        source=np.where(is_oqmd, "oqmd", "materials_project"),
        functional="PBE",
        duplicate_group=table["material_id"],
        formation_energy_per_atom=aligned + SHIFT * is_oqmd,
    )


@pytest.fixture(scope="module")
def inputs(tiny_inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    files.write_parquet(folder / "materials.parquet", two_databases())
    return {**tiny_inputs, "materials": folder / "materials.parquet"}


def params_with(**sections):
    """The tiny parameters with blocks of their own in `pretrained` and `finetuned`."""
    tree = tiny_params().model_dump(mode="json")
    block = tree["members"][MEMBER]
    tree |= {"pretrained": {"all": block}, "finetuned": {}}
    tree["finetuned"] = {name: {"member": block, **start} for name, start in sections.items()}
    return check_params(tree)


@pytest.fixture(scope="module")
def pretrained(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(folder / "root"))
        patch.setattr(pretraining, "LEAST_LABELS", 5)
        pretrain("all", params=params_with(), destination=folder / "all", **inputs)
    return folder / "all"


def task_of(training, inputs):
    cpu = torch.device("cpu")
    folds = load_folds(training, TrainingInputs(**inputs), GraphStore.open(inputs["graphs"]), cpu)
    return Task.prepare(training, folds, cpu, load_start(training)), folds


def test_each_database_has_a_head_that_knows_its_own_labels(pretrained, inputs):
    heads = load_member(pretrained).model.head.heads
    assert sorted(heads) == sorted(
        f"{target}@{name}" for target in (ENERGY, GAP) for name in ("materials_project", "oqmd")
    )
    table = two_databases().set_index("material_id")
    split = pd.read_parquet(inputs["split"]).set_index("material_id")["fold"]
    for source in ("materials_project", "oqmd"):
        own = (
            table[(table["source"] == source) & (split == "train")][ENERGY].dropna().sort_values().to_numpy(np.float32)
        )
        assert heads[f"{ENERGY}@{source}"].center.item() == own[(len(own) - 1) // 2]  # torch's median is the lower one


def test_a_database_with_few_labels_and_a_second_functional_are_told_apart(inputs, tmp_path):
    table = two_databases()
    table.loc[table.index[::2], "functional"] = "r2SCAN"
    table.loc[table["source"] == "oqmd", "band_gap"] = np.nan
    files.write_parquet(tmp_path / "materials.parquet", table)
    split = pd.DataFrame({"material_id": table["material_id"], "fold": "train"})
    files.write_parquet(tmp_path / "split.parquet", split)
    targets = database_targets(tmp_path / "materials.parquet", tmp_path / "split.parquet", tiny_params())
    labelled = {f"{ENERGY}@materials_project", f"{ENERGY}@materials_project/r2SCAN", f"{GAP}@materials_project"}
    assert labelled <= set(targets)
    assert not [name for name in targets if name.startswith(f"{GAP}@oqmd")]
    assert targets[f"{ENERGY}@materials_project/r2SCAN"].label == f"{ENERGY}@materials_project/r2SCAN"
    with pytest.raises(TrainingError, match="no database has 20 labels"):
        files.write_parquet(tmp_path / "split.parquet", split.assign(fold="test"))
        database_targets(tmp_path / "materials.parquet", tmp_path / "split.parquet", tiny_params())


def test_fine_tuning_begins_exactly_where_the_start_ended(pretrained, inputs):
    params = params_with(tuned={"from": str(pretrained), "heads": "continued"})
    task, folds = task_of(member_training("tuned", params), inputs)
    start = load_member(pretrained).model
    for name, tensor in start.encoder.state_dict().items():
        assert torch.equal(task.model.encoder.state_dict()[name], tensor), name
        assert torch.equal(task.averaged.encoder.state_dict()[name], tensor), name
    _, batch = next(folds["test"].ordered_batches())
    with torch.no_grad():
        before, after = start(batch.inputs), task.averaged(batch.inputs)
    for target in (ENERGY, GAP):  # the labels are on the scale of the reference, so its head goes on
        assert torch.equal(after[target], before[f"{target}@materials_project"])


def test_fresh_heads_know_the_new_labels_alone(pretrained, inputs):
    params = params_with(tuned={"from": str(pretrained), "heads": "fresh"})
    task, folds = task_of(member_training("tuned", params), inputs)
    labels = folds["train"].labels[ENERGY]
    assert task.model.head.heads[ENERGY].center == labels[~labels.isnan()].median()
    own = next(load_member(pretrained).model.encoder.parameters())
    assert torch.equal(next(task.model.encoder.parameters()), own)


def test_a_head_of_another_kind_is_fresh(pretrained, inputs):
    tree = params_with(tuned={"from": str(pretrained), "heads": "continued"}).model_dump(mode="json")
    tree["targets"][GAP]["head"] = "laplace"
    start = load_start(member_training("tuned", check_params(tree)))
    assert set(start.heads) == {ENERGY}


def test_the_card_tells_the_start_and_another_start_is_another_training(
    pretrained, inputs, uninterrupted, tmp_path, dvc_root
):
    params = params_with(tuned={"from": str(pretrained), "heads": "continued"})
    train_member.train_member("tuned", params=params, destination=tmp_path / "tuned", **inputs)
    card = load_member(tmp_path / "tuned").card
    assert card.hashes["start"] == load_member(pretrained).card.weights_sha256
    trainings = [member_training(MEMBER, params, start) for start in (None, pretrained, uninterrupted[0])]
    trainings.append(dataclasses.replace(trainings[1], heads="fresh"))
    taken = [None if one.start is None else load_start(one).taken for one in trainings]
    prints = {one.provenance({}, start).fingerprint for one, start in zip(trainings, taken, strict=True)}
    assert len(prints) == len(trainings)
    assert "start" not in load_member(uninterrupted[0]).card.hashes


@pytest.mark.parametrize("moment", ["in the middle of an epoch", "while the third checkpoint is written"])
def test_killed_it_ends_in_the_same_bytes(moment, processes, pretrained, inputs, tmp_path, dvc_root):
    paths = {**inputs, "start": pretrained}
    process = processes.Process(target=train_and_die, args=(moment, paths, tmp_path / "killed", dvc_root))
    process.start()
    process.join()
    assert process.exitcode == -9
    train(paths, tmp_path / "killed", dvc_root=dvc_root)
    train(paths, tmp_path / "whole", dvc_root=tmp_path / "elsewhere")
    assert files.sha256_of(tmp_path / "killed") == files.sha256_of(tmp_path / "whole")
    assert len(pd.read_parquet(tmp_path / "whole" / "history.parquet")) == EPOCHS


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"encoder": {"hidden_dim": 12, "n_layers": 1, "n_radial": 6}}, "encoder.hidden_dim = 8 there, 12 here"),
        ({"graph": {"n_neighbors": 6, "cutoff": 5.0}}, "graph.cutoff = 6.0 there, 5.0 here"),
        ({"architecture": "megnet"}, "architecture = 'cgcnn' there, 'megnet' here"),
    ],
)
def test_a_start_of_another_encoder_is_refused_with_the_difference(change, told, pretrained):
    tree = params_with().model_dump(mode="json")
    tree["members"][MEMBER] |= change
    with pytest.raises(ParameterError) as error:
        load_start(member_training(MEMBER, check_params(tree), pretrained))
    assert told in str(error.value)
    assert "begin with another" in str(error.value)


def test_a_start_with_another_element_table_or_none_at_all_is_rejected(pretrained, tmp_path):
    card = load_member(pretrained).card
    save_member(tmp_path, build_from_card(card), card)
    content = json.loads((tmp_path / "member.json").read_text())
    files.write_json(tmp_path / "member.json", content | {"element_table_sha256": "0" * 64})
    with pytest.raises(StoreError, match="element table 000000000000, this installation has"):
        load_start(member_training(MEMBER, tiny_params(), tmp_path))
    with pytest.raises(StoreError, match=r"absent/member\.json not found"):
        load_start(member_training(MEMBER, tiny_params(), tmp_path / "absent"))


@pytest.mark.parametrize(
    ("name", "start", "told"),
    [
        (
            "tuned",
            "data/pretrained/al",
            "finetuned.tuned.from = 'data/pretrained/al' is trained by no block; choose one of",
        ),
        ("tuned", "data/members/tuned", "is trained by no block"),
        (MEMBER, "data/pretrained/all", "finetuned.tiny has the name of a member"),
    ],
)
def test_a_bad_block_is_told_before_any_work(name, start, told):
    with pytest.raises(ParameterError) as error:
        params_with(**{name: {"from": start, "heads": "continued"}})
    assert told in str(error.value)


def test_members_and_fine_tuned_ones_are_the_ensemble():
    params = params_with(tuned={"from": f"data/members/{MEMBER}", "heads": "fresh"})
    assert list(params.ensembled) == [MEMBER, "tuned"]
    dumped = params.model_dump(mode="json")
    assert dumped["finetuned"]["tuned"]["from"] == f"data/members/{MEMBER}"
    assert check_params(yaml.safe_load(yaml.safe_dump(dumped))) == params


def test_another_split_of_the_start_is_said(pretrained, inputs, tmp_path, dvc_root, caplog):
    split = pd.read_parquet(inputs["split"]).iloc[::-1]
    files.write_parquet(tmp_path / "split.parquet", split)
    paths = {**inputs, "split": tmp_path / "split.parquet"}
    with caplog.at_level(logging.WARNING):
        train({**paths, "start": pretrained}, tmp_path / "m", dvc_root=dvc_root)
    assert "were trained on another split" in caplog.text


def planted():
    """The tiny rows, each genuine one a second time in another database: duplicate groups over databases."""
    first = two_databases().assign(
        source="materials_project", year=2020, formula=[f"{a}{b}" for a, b in two_databases()["species"]]
    )
    first = first.assign(space_group=221, n_atoms_primitive=2)
    second = first.assign(material_id=[f"o-{name}" for name in first["material_id"]], source="oqmd")
    second[ENERGY] += SHIFT
    return pd.concat([first, second], ignore_index=True)


def test_no_duplicate_of_a_test_row_enters_pretraining(tmp_path, dvc_root, monkeypatch):
    from matscout.graphs.graph_store import build_store

    table = planted()
    settings = tiny_params().split.model_copy(update={"validation": 0.15, "test": 0.2})
    split = make_split(table, settings)
    paths = {"materials": tmp_path / "m.parquet", "split": tmp_path / "s.parquet", "graphs": tmp_path / "graphs"}
    files.write_parquet(paths["materials"], table)
    files.write_parquet(paths["split"], split)
    build_store(paths["materials"], paths["graphs"], tiny_params().graphs, workers=1)
    seen, step = set(), fitting.Trainer._step
    monkeypatch.setattr(fitting.Trainer, "_step", lambda self, b, e: seen.update(b.material_ids) or step(self, b, e))
    pretrain("all", params=params_with(), destination=tmp_path / "all", **paths)
    group = table.set_index("material_id")["duplicate_group"]
    fold = split.set_index("material_id")["fold"]
    held_out = set(group[fold.isin(["validation", "test"])])
    assert len(held_out) > 10
    assert {name[:2] for name in seen} == {"t-", "o-"}  # both databases are learnt from
    assert not held_out & set(group[sorted(seen)])
    assert not table.set_index("material_id").loc[sorted(seen), columns.SYNTHETIC].any()  # split.train_on_synthetic

    torn = split.copy()
    twin = next(name for name in fold.index[fold == "test"] if name.startswith("o-"))
    torn.loc[torn["material_id"] == twin, "fold"] = "train"
    files.write_parquet(paths["split"], torn)
    with pytest.raises(InputError, match=f"tears 1 materials.*{twin} \\(train\\).*what it is tested on"):
        pretrain("all", params=params_with(), destination=tmp_path / "torn", **paths)
    assert not (tmp_path / "torn").exists()
    files.write_parquet(paths["split"], torn.replace({"fold": {"test": "unused", "validation": "unused"}}))
    check_whole_groups(paths["materials"], paths["split"])  # an unused row tells nothing


def test_an_unknown_block_is_answered_with_the_known_ones(inputs, tmp_path):
    with pytest.raises(ParameterError, match=r"pretrained\.al is not in params\.yaml; choose one of \['all'\]"):
        pretrain("al", params=params_with(), destination=tmp_path / "m", **inputs)


def test_the_repository_s_own_parameters_pretrain_nothing():
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert tree["pretrained"] == tree["finetuned"] == {}
