"""Feedback: computed or measured results of candidates, checked and held against what was predicted."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal
from matscout.errors import InputError
from matscout.files import sha256_of
from matscout.sources.feedback_files import feedback_files, read_receipt, read_results, write_receipt
from matscout.sources.record import Record, Rejection

LABELS = (columns.FORMATION_ENERGY, columns.BAND_GAP)
# What a label would be divided by if it were given in another unit than ours.
OTHER_UNITS = {"meV": 1e3, "kJ/mol": 96.485332, "kcal/mol": 23.060548, "Ha": 1 / 27.211386, "Ry": 1 / 13.605693}
PER_CELL = "eV/cell"
FAR = 3.0  # predicted standard deviations: a median error beyond it asks whether the unit is wrong
NEAR = 1.5  # and one below it, in another unit, answers
SHOWN = 5
FEWEST = 3  # results before a unit is judged: one surprising crystal is no proof


def check_feedback(folder: Path, ranked: Path) -> tuple[pd.DataFrame, list[Rejection]]:
    """`compare_feedback` for the files that are new or changed; notes in `checked.json` that they passed.

    Candidates of earlier rounds stand in no later ranking, so that a file is checked once.

    Raises:
        InputError: as `compare_feedback`; nothing is noted then.
    """
    files = feedback_files(folder)
    receipt = read_receipt(folder)
    new = [file for file in files if receipt.get(file.name) != sha256_of(file)]
    if files and not new:
        raise InputError(f"all {len(files)} file(s) in {folder} were checked before; `dvc repro` trains on them")
    compared = compare_feedback(new, ranked, folder)
    write_receipt(folder, new)
    return compared


def compare_feedback(files: Sequence[Path], ranked: Path, folder: Path) -> tuple[pd.DataFrame, list[Rejection]]:
    """Results beside predictions, one row a candidate and label, and the lines that could not be read.

    Args:
        files: record JSONL files in `folder`, as `sources.feedback` reads them.
        ranked: `ranked.parquet` that the candidates came from.
        folder: for the messages.

    Returns:
        candidate_id, label, predicted, std, computed, error, in_90.

    Raises:
        InputError: no files, ids that no ranking knows, another composition than the candidate's, or
            labels that fit the predictions in another unit than ours.
    """
    if not files:
        raise InputError(f"{folder} holds no *.jsonl: put one JSON object a line there, see its README.md")
    items = [item for file in files for item in read_results(file)]
    rejections = [item for item in items if isinstance(item, Rejection)]
    records = [item for item in items if isinstance(item, Record)]
    if not items:
        names = ", ".join(file.name for file in files)
        raise InputError(f"{names} in {folder} holds no line; write one JSON object a line, see its README.md")
    if not records:
        raise InputError(
            f"none of {len(rejections)} line(s) in {folder} is a result; the first: {rejections[0].detail}"
        )
    if not Path(ranked).is_file():
        raise InputError(f"{ranked} not found: run the stage `screen`, or name the ranking that the results belong to")
    predictions = pd.read_parquet(ranked, columns=_columns_needed(ranked)).set_index(columns.CANDIDATE_ID)
    _check_ids(records, predictions)
    rows = [row for record in records for row in _rows(record, predictions.loc[record.material_id])]
    table = pd.DataFrame(rows, columns=["candidate_id", "label", "predicted", "std", "computed", "error", "in_90"])
    sizes = {record.material_id: record.crystal.n_atoms for record in records}
    for label in LABELS:
        _check_unit(table.loc[table["label"] == label], label, sizes)
    return table, rejections


def _columns_needed(ranked: Path) -> list[str]:
    suffixes = ("", columns.STD, columns.LO90, columns.HI90)
    wanted = [columns.CANDIDATE_ID, *columns.CRYSTAL, *(label + suffix for label in LABELS for suffix in suffixes)]
    present = pq.read_schema(ranked).names
    return [name for name in wanted if name in present]


def _check_ids(records: Sequence[Record], predictions: pd.DataFrame) -> None:
    known = set(predictions.index)
    unknown = [record.material_id for record in records if record.material_id not in known]
    if unknown:
        raise InputError(
            f"{len(unknown)} id(s) are no candidate of this ranking: {unknown[:SHOWN]}; use the ids of "
            "ranked.parquet, or give results of other crystals as a database of their own"
        )
    for record in records:
        formula = Crystal.from_row(predictions.loc[record.material_id].to_dict()).reduced_formula
        if record.crystal.reduced_formula != formula:
            raise InputError(
                f"{record.material_id} is {formula}, but the result is for {record.crystal.reduced_formula}: "
                "ids are mixed up"
            )


def _rows(record: Record, predicted: pd.Series) -> list[tuple[object, ...]]:
    rows = []
    for label in LABELS:
        computed = getattr(record, label)
        if computed is not None and label in predicted:
            low, high = predicted[label + columns.LO90], predicted[label + columns.HI90]
            error = computed - predicted[label]
            spread = predicted[label + columns.STD]
            rows.append((record.material_id, label, predicted[label], spread, computed, error, low <= computed <= high))
    return rows


def _check_unit(table: pd.DataFrame, label: str, sizes: dict[str, int]) -> None:
    if len(table) < FEWEST:
        return
    predicted, computed = table["predicted"].to_numpy(float), table["computed"].to_numpy(float)
    spread = np.maximum(table["std"].to_numpy(float), 1e-3)
    if _misfit(computed, predicted, spread) <= FAR:
        return
    divisors = {unit: np.full(len(table), factor) for unit, factor in OTHER_UNITS.items()}
    if label == columns.FORMATION_ENERGY:
        divisors[PER_CELL] = np.array([sizes[i] for i in table["candidate_id"]], dtype=float)
    fits = {unit: _misfit(computed / divisor, predicted, spread) for unit, divisor in divisors.items()}
    best = min(fits, key=lambda unit: fits[unit])
    if fits[best] <= NEAR:
        raise InputError(
            f"{label} of {len(table)} results fits the predictions in {best} but not in {columns.UNITS[label]}: "
            f"convert it to {columns.UNITS[label]}"
        )


def _misfit(computed: NDArray[np.float64], predicted: NDArray[np.float64], spread: NDArray[np.float64]) -> float:
    """Median error in predicted standard deviations."""
    return float(np.median(np.abs(computed - predicted) / spread))
