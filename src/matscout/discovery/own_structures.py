"""Users' own crystals: read, check, predict; what cannot be used is told with its reason."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd

from matscout import columns
from matscout.crystal import Crystal, formula_key
from matscout.curation.validity import find_fault
from matscout.discovery.prediction import predict_usable
from matscout.discovery.quarantine import Refusal
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.errors import InputError
from matscout.files import atomic_path, write_parquet
from matscout.params import Validity, load_params
from matscout.sources.record import Record, Rejection
from matscout.sources.structure_files import USER_SOURCE, read_structures


def usable_crystals(paths: Sequence[Path], limits: Validity) -> tuple[list[str], list[Crystal], list[Rejection]]:
    """Ids and crystals of the files that hold a physical cell, and why the others are left out.

    Raises:
        InputError: a path does not exist, or no file at all holds a usable crystal.
    """
    kept: dict[str, Crystal] = {}
    rejections: list[Rejection] = []
    for number, item in enumerate(read_structures(paths)):
        if isinstance(item, Rejection):
            rejections.append(item)
        elif fault := _fault(item, kept, limits):
            rejections.append(Rejection(item.source, item.material_id, item.material_id, number, *fault))
        else:
            kept[item.material_id] = item.crystal
    if not kept:
        first = f"; the first: {rejections[0].file}: {rejections[0].detail}" if rejections else ""
        raise InputError(f"none of {len(rejections)} structure(s) can be used{first}")
    return list(kept), list(kept.values()), rejections


def predict_structures(
    paths: Sequence[Path], predictor: EnsemblePredictor, limits: Validity
) -> tuple[pd.DataFrame, list[Rejection]]:
    """Predictions for the crystals in `paths`, one row each in reading order, and what was left out.

    Raises:
        InputError: not one crystal can be predicted.
    """
    ids, crystals, rejections = usable_crystals(paths, limits)
    table, refusals = predict_by_population(predictor, ids, crystals)
    rejections += _rejected(refusals)
    if not len(table):
        raise InputError(f"none of {len(rejections)} structure(s) can be predicted; the last: {rejections[-1].detail}")
    return table, rejections


def predict_by_population(
    predictor: EnsemblePredictor, ids: Sequence[str], crystals: Sequence[Crystal]
) -> tuple[pd.DataFrame, list[Refusal]]:
    """Predictions whose intervals hold for the kind of crystal: of a known formula, or hypothetical.

    Returns:
        One row a crystal that can be predicted, in the given order, with its formula and `calibrated_for`; and why the
        others cannot.
    """
    is_known = predictor.reference.is_known([formula_key(crystal.species) for crystal in crystals])
    tables, refusals = [], []
    kinds = ((predictor, columns.KNOWN, is_known), (predictor.for_hypothetical(), columns.HYPOTHETICAL, ~is_known))
    for calibrated, kind, chosen in kinds:
        rows = np.flatnonzero(chosen)
        if not len(rows):
            continue
        predicted = predict_usable(calibrated, [ids[row] for row in rows], [crystals[row] for row in rows])
        tables.append(predicted.table.assign(**{columns.CALIBRATED_FOR: kind}).set_index(rows[predicted.rows]))
        refusals += predicted.refusals
    table = pd.concat(tables).sort_index()
    table.insert(1, columns.FORMULA, [crystals[row].reduced_formula for row in table.index])
    return table.reset_index(drop=True), refusals


def screen_structures(
    paths: Sequence[Path], goal: str, *, members: Path, ensemble: Path
) -> tuple[pd.DataFrame, list[Rejection]]:
    """`screening.screen_materials` for files, and what could not be used.

    Energies above hull need the curated table; without it a goal that asks for them is refused.
    """
    from matscout.discovery.screening import MATERIALS, rank_structures  # `predict` starts without

    ids, crystals, rejections = usable_crystals(paths, load_params().curation.validity)
    materials = MATERIALS if MATERIALS.exists() else None
    named = dict(zip(ids, crystals, strict=True))
    table, refusals = rank_structures(named, goal, members=members, ensemble=ensemble, materials=materials)
    return table, [*rejections, *_rejected(refusals)]


def _rejected(refusals: Sequence[Refusal]) -> list[Rejection]:
    """What `matscout predict` and `screen` tell of crystals that were read but cannot be judged."""
    return [
        Rejection(USER_SOURCE, item.candidate_id, item.candidate_id, 0, item.reason, item.detail) for item in refusals
    ]


def _fault(record: Record, kept: dict[str, Crystal], limits: Validity) -> tuple[str, str] | None:
    if record.material_id in kept:
        return "duplicate_id", f"{record.material_id!r} was given already; rename one of the files"
    return find_fault(record, limits)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write `.parquet` or `.csv`, whole or not at all.

    Raises:
        InputError: another ending.
    """
    check_table_name(path)
    if path.suffix == ".parquet":
        write_parquet(path, table)
        return
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


def check_table_name(path: Path) -> None:
    """Refuse a name that `write_table` could not write, before any work.

    Raises:
        InputError: it ends neither in .parquet nor in .csv.
    """
    if path.suffix not in {".parquet", ".csv"}:
        raise InputError(f"{path}: write to a name that ends in .parquet or .csv")


def write_rejections(path: Path, rejections: Sequence[Rejection]) -> Path:
    """Write the reasons beside `path`, as `NAME.quarantine.csv`; return where."""
    beside = path.with_suffix(".quarantine.csv")
    names = [field.name for field in fields(Rejection)]
    write_table(beside, pd.DataFrame([asdict(rejection) for rejection in rejections], columns=names))
    return beside
