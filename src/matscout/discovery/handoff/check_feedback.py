"""Feedback: computed or measured results of candidates, checked and compared with the predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.errors import InputError
from matscout.files import sha256_of
from matscout.sources.feedback_files import feedback_files, read_receipt, read_results, write_receipt
from matscout.sources.record import Record

LABELS = (columns.FORMATION_ENERGY, columns.BAND_GAP)
# Factors by which a label would be divided if it were given in another unit.
OTHER_UNITS = {"meV": 1e3, "kJ/mol": 96.485332, "kcal/mol": 23.060548, "Ha": 1 / 27.211386, "Ry": 1 / 13.605693}
PER_CELL = "eV/cell"
PBE = "PBE"  # functional of the predictions
FAR = 3.0  # predicted standard deviations: a larger median error may be a wrong unit
NEAR = 1.5  # and a smaller one in another unit shows that it is
BEYOND = 8.0  # predicted standard deviations: a result farther off is more likely a mistake than a discovery
LEAST_STD = {
    columns.FORMATION_ENERGY: 0.02,
    columns.BAND_GAP: 0.1,
}  # eV/atom, eV; smaller predicted errors are not trusted
OTHER_SCALE = {columns.FORMATION_ENERGY: 0.2, columns.BAND_GAP: 1.0}  # likewise, for other functionals
SHOWN = 5
FEWEST = 3  # results before a unit is judged: one surprising crystal is not proof


def check_feedback(folder: Path, ranked: Path, *, accept: Sequence[str] = ()) -> tuple[pd.DataFrame, list[Rejection]]:
    """Compare new or changed feedback files with the predictions; record files that pass in `checked.json`.

    A file is checked only once, because later rankings do not contain the candidates of earlier rounds.

    Args:
        folder: folder of the feedback files.
        ranked: `ranked.parquet` that the candidates came from.
        accept: ids of candidates whose results count however far from the predictions they are.

    Returns:
        The table of `compare_feedback`.

    Raises:
        InputError: every file was checked before, or for the reasons of `compare_feedback`; nothing is recorded then.
    """
    files = feedback_files(folder)
    receipt = read_receipt(folder)
    new = [file for file in files if receipt.get(file.name) != sha256_of(file)]
    if files and not new:
        raise InputError(f"all {len(files)} file(s) in {folder} were checked before; `dvc repro` trains on them")
    compared = compare_feedback(new, ranked, folder, accept=accept)
    write_receipt(folder, new)
    return compared


def compare_feedback(
    files: Sequence[Path], ranked: Path, folder: Path, *, accept: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[Rejection]]:
    """Compare results with predictions, one row per candidate and label; also return the lines that could not be read.

    Args:
        files: record JSONL files in `folder`, as `sources.feedback` reads them.
        ranked: `ranked.parquet` that the candidates came from.
        folder: folder for the messages.
        accept: ids of candidates whose results count however far from the predictions they lie.

    Returns:
        candidate_id, label, predicted, std, computed, error, in_90.

    Raises:
        InputError: no files, ids that no ranking knows, another composition than the candidate's, labels that fit the
            predictions in another unit than ours, or a label more than `BEYOND` predicted standard deviations off.
    """
    if not files:
        raise InputError(f"{folder} holds no *.jsonl: write one JSON object per line there, see its README.md")
    items = [item for file in files for item in read_results(file)]
    rejections = [item for item in items if isinstance(item, Rejection)]
    records = [item for item in items if isinstance(item, Record)]
    if not items:
        names = ", ".join(file.name for file in files)
        raise InputError(f"{names} in {folder} holds no line; write one JSON object per line, see its README.md")
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
    _check_distance(table, {record.material_id: record for record in records}, accept)
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
            f"{len(unknown)} id(s) are not candidates of this ranking: {unknown[:SHOWN]}; use the ids of "
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


def _check_distance(table: pd.DataFrame, records: Mapping[str, Record], accept: Sequence[str]) -> None:
    """Reject results that are implausibly far from the prediction, and suggest the mistake behind each."""
    if unknown := sorted(set(accept) - set(records)):
        raise InputError(
            f"--accept {unknown[0]}: no result of that id is to be checked; ids are {sorted(records)[:SHOWN]}"
        )
    told = []
    for row in table.to_dict("records"):
        record, label = records[row["candidate_id"]], row["label"]
        scale = 0.0 if record.functional == PBE else OTHER_SCALE[label]
        spread = float(np.hypot(max(row["std"], LEAST_STD[label]), scale))
        distance = abs(row["error"]) / spread
        if distance > BEYOND and row["candidate_id"] not in accept:
            figures = f"{row['computed']:.3f}, predicted {row['predicted']:.3f} {columns.UNITS[label]}"
            likely = _looks_like(record, label, row["predicted"], spread)
            told.append(
                f"{row['candidate_id']} {label} {figures}: {distance:.0f} standard deviations from the "
                f"prediction; {likely}"
            )
    if told:
        more = f"\n  and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
        lines = "\n  ".join(told[:SHOWN])
        raise InputError(
            f"{len(told)} result(s) lie more than {BEYOND:g} standard deviations from the prediction, so nothing was "
            f"accepted:\n  {lines}{more}\ncorrect the file, or accept them: matscout feedback --accept ID"
        )


def _looks_like(record: Record, label: str, predicted: float, spread: float) -> str:
    """Suggest what the number may be instead of the label in the expected unit."""
    computed = float(getattr(record, label))
    readings = {f"it would fit in {unit}": computed / factor for unit, factor in OTHER_UNITS.items()}
    if label == columns.FORMATION_ENERGY:
        from matscout.discovery.handoff.collect import shipped_elements  # and with it pymatgen's readers of VASP files

        n_atoms, mu = record.crystal.n_atoms, shipped_elements()
        counts = record.crystal.element_counts
        if set(counts) <= set(mu):
            elements = sum(n * mu[symbol] for symbol, n in counts.items()) / n_atoms
            readings["it looks like the total energy of the cell"] = computed / n_atoms - elements
            readings["it looks like the total energy per atom"] = computed - elements
        readings["it looks like the formation energy of the cell"] = computed / n_atoms
    best = min(readings, key=lambda name: abs(readings[name] - predicted))
    return best if abs(readings[best] - predicted) <= FAR * spread else "it fits in no other known unit"


def _misfit(computed: NDArray[np.float64], predicted: NDArray[np.float64], spread: NDArray[np.float64]) -> float:
    """Median error in predicted standard deviations."""
    return float(np.median(np.abs(computed - predicted) / spread))
