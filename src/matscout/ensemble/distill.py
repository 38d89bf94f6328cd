"""The stage `distill`: a fast member that learns the ensemble's answers, for the cascade of the stage `screen`.

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", arXiv:1503.02531: the labels are the
ensemble's point estimates for crystals that nobody has computed, so there are as many as there is time for, without
noise. Of how sure the ensemble is, they say nothing. So one temperature a target is fitted on taught-to crystals left
out of the training: the one under which draws from the ensemble's own distributions are likeliest.
"""

import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal
from matscout.ensemble.calibration import parts_of
from matscout.ensemble.inference import run_members
from matscout.ensemble.mixture import Mixture
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.ensemble.student import TEACHER_FILE, Teacher
from matscout.ensemble.temperature import fit_temperature
from matscout.errors import InputError, ParameterError
from matscout.files import atomic_path, sha256_of, sha256_of_json, write_parquet
from matscout.graphs.store import GraphStore, build_store
from matscout.models.member import load_member
from matscout.params import Params, Target
from matscout.training.member import train_plan
from matscout.training.plan import Plan
from matscout.training.provenance import code_hash

_TAUGHT: Final = "_taught"  # the column with a target's labels
_FOLDS: Final = 10  # one validates, one tests
_DRAWS: Final = 8  # a crystal, from the ensemble's distributions
_FINGERPRINT_DIGITS: Final = 16


@dataclass(frozen=True)
class Lesson:
    """Files that a training reads.

    Attributes:
        materials: crystals and the ensemble's answers.
        graphs: store of their graphs.
        split: their folds.
    """

    materials: Path
    graphs: Path
    split: Path


def distill(name: str, *, params: Params, members: Path, ensemble: Path, candidates: Path, destination: Path) -> None:
    """Train the block `name` of `params.distilled` on the ensemble's predictions for some of the candidates.

    Writes a member's files and `teacher.json` into the folder `destination`, which appears whole or not at all. A run
    that was killed goes on after its last whole epoch.

    Args:
        name: key of `params.distilled`.
        params: sections `distilled`, `targets`, `model` and `compute`.
        members: folder of members.
        ensemble: folder that `evaluate` wrote.
        candidates: `candidates.parquet`.
        destination: folder to write.

    Raises:
        ParameterError: no such block.
        InputError: too few of the candidates have a graph and a finite prediction.
        StoreError: members or calibration are missing or do not fit.
    """
    if name not in params.distilled:
        raise ParameterError(f"distilled.{name} is not in params.yaml; choose one of {sorted(params.distilled)}")
    predictor = EnsemblePredictor.load(members, ensemble)
    work = _work_folder(name, params, inputs=[members, ensemble, candidates])
    targets = {target: _taught(target, params) for target in predictor.targets}
    own = params.model_copy(
        update={"members": {name: params.distilled[name].member}, "targets": targets, "finetuned": {}}
    )
    lesson, teaching, told = _write_lesson(name, params, predictor, candidates, work)
    trained = work / "member"
    if not trained.exists():
        paths = {"graphs": lesson.graphs, "split": lesson.split, "materials": lesson.materials}
        train_plan(Plan(name, own, params), destination=trained, **paths)
    teacher = Teacher(
        members=dict(predictor.calibration.members),
        temperatures=_temperatures(trained, lesson, teaching, params),
        crystals=told,
    )
    with atomic_path(destination) as folder:
        shutil.copytree(trained, folder)
        teacher.save(folder / TEACHER_FILE)
    shutil.rmtree(work)


def _taught(target: str, params: Params) -> Target:
    return params.targets[target].model_copy(update={"label": target + _TAUGHT, "noise": None})


def _work_folder(name: str, params: Params, *, inputs: list[Path]) -> Path:
    """Where a killed run finds what it had; what belongs to other inputs is removed."""
    root = Path(os.environ.get("DVC_ROOT", ".")) / ".checkpoints" / f"distill-{name}"
    tree = params.model_dump(mode="json")
    settings = [tree["distilled"][name], tree["targets"], tree["model"], tree["compute"]]
    code = [code_hash(), sha256_of(Path(__file__).parent)]
    key = sha256_of_json([settings, [sha256_of(path) for path in inputs], code])[:_FINGERPRINT_DIGITS]
    if root.exists():
        for stale in root.iterdir():
            if stale.name != key:
                shutil.rmtree(stale)
    (root / key).mkdir(parents=True, exist_ok=True)
    return root / key


def _write_lesson(
    name: str, params: Params, predictor: EnsemblePredictor, candidates: Path, work: Path
) -> tuple[Lesson, dict[str, Mixture], dict[str, int]]:
    """Crystals, answers and folds; the ensemble's distributions of them; how many were taught, and why others not."""
    block = params.distilled[name]
    ids, crystals = _chosen(candidates, block.crystals, block.member.training.seed)
    store, faults = GraphStore.from_usable(ids, crystals, predictor.graphs)
    table, mixtures = predictor.predict_mixtures(store, device=params.compute.device)
    answered = table[columns.MATERIAL_ID].tolist()
    fates = Counter(fault.reason for fault in faults) + Counter({"not_finite": len(store) - len(table)})
    told = {"asked": len(ids), "taught": len(table), **dict(sorted(fates.items()))}
    if len(table) < _FOLDS:
        raise InputError(
            f"{len(table)} of {len(ids)} candidates of {candidates} can be predicted ({told}): too few to learn from; "
            f"raise distilled.{name}.crystals or propose more"
        )
    rows = dict(zip(ids, crystals, strict=True))
    materials = pd.DataFrame([{columns.MATERIAL_ID: i, columns.SYNTHETIC: False, **rows[i].to_row()} for i in answered])
    for target in predictor.targets:
        materials[target + _TAUGHT] = table[target].to_numpy()
    lesson = Lesson(work / "materials.parquet", work / "graphs", work / "split.parquet")
    fold = np.array([columns.VALIDATION, columns.TEST, *[columns.TRAIN] * (_FOLDS - 2)])
    write_parquet(lesson.materials, materials)
    write_parquet(
        lesson.split, pd.DataFrame({columns.MATERIAL_ID: answered, columns.FOLD: fold[parts_of(answered, _FOLDS)]})
    )
    build_store(lesson.materials, lesson.graphs, predictor.graphs, workers=1)
    return lesson, mixtures, told


def _chosen(candidates: Path, n: int, seed: int) -> tuple[list[str], list[Crystal]]:
    """So many candidates by chance, in the order of their file; whole ones alone, since the rest has no crystal."""
    file = pq.ParquetFile(candidates)
    total = file.metadata.num_rows
    wanted = np.sort(np.random.default_rng(seed).choice(total, size=min(n, total), replace=False))
    ids: list[str] = []
    crystals: list[Crystal] = []
    first = 0
    for number in range(file.num_row_groups):
        group = file.read_row_group(number, columns=[columns.CANDIDATE_ID, *columns.CRYSTAL])
        mine = wanted[(wanted >= first) & (wanted < first + group.num_rows)] - first
        first += group.num_rows
        for row in group.take(mine).to_pylist():
            ids.append(row[columns.CANDIDATE_ID])
            crystals.append(Crystal.from_row(row))
    return ids, crystals


def _temperatures(trained: Path, lesson: Lesson, teaching: dict[str, Mixture], params: Params) -> dict[str, float]:
    """By target: what makes draws from the ensemble likeliest under the student, on crystals that it did not learn."""
    store = GraphStore.open(lesson.graphs)
    held_out = pd.read_parquet(lesson.split)[columns.FOLD].to_numpy(str) == columns.VALIDATION
    ids = pd.read_parquet(lesson.split)[columns.MATERIAL_ID].to_numpy(object)[held_out]
    rows: NDArray[np.int64] = store.rows_of(ids)
    student = load_member(trained)
    outputs = run_members([student], store, rows, device=params.compute.device, description="held out")
    rng = np.random.default_rng(params.distilled[student.name].member.training.seed)
    found = {}
    for target, answers in teaching.items():
        asked, said = answers.take(held_out), Mixture.of([outputs.distributions[target][student.name]])
        draws = _draws(asked, rng)
        width = float(asked.std().mean() / said.std().mean())  # a first guess: a good student is very sure
        repeated = said.tempered(width).take(np.tile(np.arange(len(rows)), _DRAWS))
        found[target] = width * fit_temperature(repeated, np.ones(len(draws)), draws).value
    return found


def _draws(mixture: Mixture, rng: np.random.Generator) -> NDArray[np.float64]:
    """(_DRAWS n,) values, by inversion: n of the first draw, then n of the second."""
    n = len(mixture.components[0])
    return np.concatenate([mixture.quantile(rng.uniform(size=n)) for _ in range(_DRAWS)])
