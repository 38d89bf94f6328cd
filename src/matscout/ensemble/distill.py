"""The stage `distill`: a fast member trained on the ensemble's predictions, for the cascade of the stage `screen`.

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", arXiv:1503.02531: the student learns the
teacher's whole distribution, not its best guess. Here the labels of each crystal are quantiles of the ensemble's
distributions, one per row, so that the student's median is that of the ensemble and its spread shows the ensemble's
uncertainty. The crystals need no labels of their own, so only time limits their number. A few quantiles understate
the spread. One temperature per target corrects this: the one that makes draws from the ensemble likeliest on crystals
held out from training.
"""

import shutil
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal
from matscout.ensemble.calibration.target_calibration import parts_of
from matscout.ensemble.members import run_members
from matscout.ensemble.mixture import Mixture, fit_temperature
from matscout.ensemble.predictor import TEACHER_FILE, EnsemblePredictor, Teacher
from matscout.errors import InputError
from matscout.files import atomic_path, write_parquet
from matscout.graphs.graph_store import GraphStore, build_store
from matscout.models.inference import InferencePlan, plan_inference
from matscout.models.saved_member import load_member
from matscout.params import Params, Target, block_of
from matscout.resume.parts import Parts
from matscout.training.train_member import UNTRACKED, train
from matscout.training.training import Tracker, Training, TrainingInputs

_TAUGHT: Final = "_taught"  # the column with a target's labels
_FOLDS: Final = 10  # one for validation, one for testing
_LEVELS: Final = (1 / 6, 1 / 2, 5 / 6)  # of the quantiles that teach: the middles of thirds
_DRAWS: Final = 8  # a crystal, from the ensemble's distributions


def distill(
    name: str,
    *,
    params: Params,
    members: Path,
    ensemble: Path,
    candidates: Path,
    destination: Path,
    tracker: Tracker = UNTRACKED,
) -> None:
    """Train the block `name` of `params.distilled` on the ensemble's predictions for some of the candidates.

    Writes a member's files and `teacher.json` into the folder `destination`, which is either complete or absent. A
    killed run resumes after its last complete epoch.

    Args:
        name: key of `params.distilled`.
        params: sections `distilled`, `targets`, `model` and `compute`.
        members: folder of members.
        ensemble: folder that `evaluate` wrote.
        candidates: `candidates.parquet`.
        destination: folder to write.
        tracker: where training curves are logged besides `history.parquet`; by default nowhere.

    Raises:
        ParameterError: no such block.
        InputError: the candidates' file is missing or cut off, or too few of them have a graph and a finite prediction.
        StoreError: members or calibration are missing or do not fit.
    """
    block = block_of("distilled", params.distilled, name)
    plan = plan_inference(params.compute.device)
    predictor = EnsemblePredictor.load(members, ensemble, plan)
    targets = {target: _taught(target, params) for target in predictor.targets}
    training = Training.of(name, block.member, params, targets=targets)
    tree = params.model_dump(mode="json")
    settings = [tree["distilled"][name], tree["targets"], tree["model"], tree["compute"]]
    inputs = [members, ensemble, candidates]
    with Parts.kept(f"distill-{name}", settings=settings, inputs=inputs, code=[__name__], libraries=["torch"]) as parts:
        lesson, teaching, told = _write_lesson(name, params, predictor, candidates, parts.folder)
        while (trained := parts.file("member", "folder")) is None:
            with parts.writing("member", "folder") as folder:
                train(training, lesson, folder, tracker)
        seed = block.member.training.seed
        temperatures, differences = _compared(trained, lesson, teaching, plan=plan, seed=seed)
        teacher = Teacher(dict(predictor.calibration.members), temperatures, differences, told)
        with atomic_path(destination, mark=TEACHER_FILE) as folder:
            shutil.copytree(trained, folder)
            teacher.save(folder / TEACHER_FILE)


def _taught(target: str, params: Params) -> Target:
    return params.targets[target].model_copy(update={"label": target + _TAUGHT, "noise": None})


def _write_lesson(
    name: str, params: Params, predictor: EnsemblePredictor, candidates: Path, work: Path
) -> tuple[TrainingInputs, dict[str, Mixture], dict[str, int]]:
    """Crystals, labels and folds; the ensemble's distributions; how many crystals are used, and why others are not."""
    block = params.distilled[name]
    ids, crystals = _chosen(candidates, block.crystals, block.member.training.seed)
    store, rejections = GraphStore.from_usable(ids, crystals, predictor.graphs)
    table, mixtures = predictor.predict_mixtures(store)
    answered = table[columns.MATERIAL_ID].tolist()
    fates = Counter(rejection.reason for rejection in rejections) + Counter({"not_finite": len(store) - len(table)})
    told = {"asked": len(ids), "taught": len(table), **dict(sorted(fates.items()))}
    if len(table) < _FOLDS:
        raise InputError(
            f"{len(table)} of {len(ids)} candidates of {candidates} can be predicted ({told}): too few to learn from; "
            f"raise distilled.{name}.crystals or propose more"
        )
    rows = dict(zip(ids, crystals, strict=True))
    taught = [
        {columns.MATERIAL_ID: _copy_name(name, level), columns.SYNTHETIC: False, **rows[name].to_row()}
        for level in range(len(_LEVELS))
        for name in answered
    ]
    materials = pd.DataFrame(taught)
    for target, mixture in mixtures.items():
        materials[target + _TAUGHT] = np.concatenate([mixture.quantile(level) for level in _LEVELS])
    lesson = TrainingInputs(work / "graphs", work / "split.parquet", work / "materials.parquet")
    fold = np.array([columns.VALIDATION, columns.TEST, *[columns.TRAIN] * (_FOLDS - 2)])
    write_parquet(lesson.materials, materials)
    folds = np.tile(fold[parts_of(answered, _FOLDS)], len(_LEVELS))
    write_parquet(
        lesson.split, pd.DataFrame({columns.MATERIAL_ID: materials[columns.MATERIAL_ID], columns.FOLD: folds})
    )
    build_store(lesson.materials, lesson.graphs, predictor.graphs, workers=1)
    return lesson, mixtures, told


def _copy_name(name: str, level: int) -> str:
    """Of the row that teaches a crystal's quantile at one of the levels."""
    return f"{name}#{level}"


def chosen_rows(total: int, n: int, seed: int) -> NDArray[np.int64]:
    """Choose the student's training candidates at random.

    Args:
        total: number of candidates.
        n: how many to choose; all if there are fewer.
        seed: seed of the draw.

    Returns:
        (min(n, total),) ascending rows of the candidates' file.
    """
    return np.sort(np.random.default_rng(seed).choice(total, size=min(n, total), replace=False))


def _chosen(candidates: Path, n: int, seed: int) -> tuple[list[str], list[Crystal]]:
    """Ids and crystals of `chosen_rows`."""
    try:
        file = pq.ParquetFile(candidates)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise InputError(f"{candidates} is not a complete parquet file ({error}); run `dvc repro propose`") from error
    wanted = chosen_rows(file.metadata.num_rows, n, seed)
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


def _compared(
    trained: Path, lesson: TrainingInputs, teaching: dict[str, Mixture], *, plan: InferencePlan, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """By target: what makes draws from the ensemble likeliest under the student, and its mean difference from it.

    The former on the validation fold, the latter on the test fold, which it was not trained on.
    """
    store, student = GraphStore.open(lesson.graphs), load_member(trained)
    split = pd.read_parquet(lesson.split).iloc[: len(next(iter(teaching.values())).components[0])]  # a crystal a row
    rows = store.rows_of(split[columns.MATERIAL_ID].to_numpy(object))
    outputs = run_members([student], store, rows, plan=plan, description="left out")
    folds = split[columns.FOLD].to_numpy(str)
    rng = np.random.default_rng(seed)
    temperatures, differences = {}, {}
    for target, answers in teaching.items():
        said = Mixture.of([outputs.distributions[target][student.name]])
        test, fitted = folds == columns.TEST, np.flatnonzero(folds == columns.VALIDATION)
        differences[target] = float(np.abs(said.take(test).median() - answers.take(test).median()).mean())
        draws = _draws(answers.take(fitted), rng)
        repeated = said.take(np.tile(fitted, _DRAWS))
        temperatures[target] = fit_temperature(repeated, np.ones(len(draws)), draws).value
    return temperatures, differences


def _draws(mixture: Mixture, rng: np.random.Generator) -> NDArray[np.float64]:
    """(_DRAWS n,) values, by inversion: n of the first draw, then n of the second."""
    n = len(mixture.components[0])
    return np.concatenate([mixture.quantile(rng.uniform(size=n)) for _ in range(_DRAWS)])
