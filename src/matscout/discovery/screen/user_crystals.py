"""Users' own crystals: read, check, predict; what cannot be used is reported with its reason."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Structure

from matscout import columns
from matscout.crystal import Crystal, formula_key
from matscout.crystal_checks import Rejection
from matscout.curation.row_checks import reject_unphysical
from matscout.discovery.rank.experimental_gap import add_experimental_gap
from matscout.discovery.screen.predict_usable import cell_remark, predict_usable
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.ensemble.release import Answering, answering
from matscout.errors import InputError
from matscout.files import write_csv, write_parquet
from matscout.params import Validity
from matscout.sources.files.named_structures import USER_SOURCE, read_structures, read_text
from matscout.sources.formats.crystal_parser import MAX_BYTES
from matscout.sources.record import Record

ERROR = "error"  # a column of `predict_texts`


def usable_crystals(paths: Sequence[Path], limits: Validity) -> tuple[list[str], list[Crystal], list[Rejection]]:
    """Read the files that hold a physical cell.

    Args:
        paths: files and folders.
        limits: limits of a physical cell.

    Returns:
        n ids, n crystals, and why the other files are rejected.

    Raises:
        InputError: a path does not exist, or no file at all holds a usable crystal.
    """
    kept, rejections = _sorted_out(read_structures(paths), limits)
    if not kept:
        told = f"; the first: {rejections[0].file}: {rejections[0].detail}" if rejections else ": there is no file"
        raise InputError(f"none of {len(rejections)} structure(s) can be used{told}")
    return list(kept), list(kept.values()), rejections


def predict_texts(
    texts: Mapping[str, Any],
    predictor: EnsemblePredictor,
    limits: Validity,
    *,
    materials: Path | None = None,
    most: int = MAX_BYTES,
) -> pd.DataFrame:
    """Predictions for texts of files by name, as `predict_structures` gives for the files; one row a text.

    Args:
        texts: CIF, POSCAR or JSON; anything that is not text is rejected.
        predictor: the ensemble.
        limits: physical limits.
        materials: table of known phases, for the columns on stability; None = without them.
        most: characters of one text; a longer one is rejected unread.

    Returns:
        the table of `predict_structures` with null figures where a text cannot be used, and `error`, which says why.
    """
    kept, rejections = _sorted_out((read_text(text, name, most=most) for name, text in texts.items()), limits)
    table = pd.DataFrame({columns.MATERIAL_ID: []})
    if kept:
        table, rejected = _predicted(list(kept), list(kept.values()), predictor, materials)
        rejections += rejected
    told = {item.material_id: f"{item.reason}: {item.detail}" for item in rejections}
    table = table.set_index(columns.MATERIAL_ID).reindex(list(texts))
    table[ERROR] = [told.get(name) for name in texts]
    return table.rename_axis(columns.MATERIAL_ID).reset_index()


def _sorted_out(items: Iterable[Record | Rejection], limits: Validity) -> tuple[dict[str, Crystal], list[Rejection]]:
    """Crystals within the limits by name, and the rest with reasons."""
    kept: dict[str, Crystal] = {}
    rejections: list[Rejection] = []
    for item in items:
        if isinstance(item, Rejection):
            rejections.append(item)
        elif rejection := reject_unphysical(item, limits):
            rejections.append(rejection)
        else:
            kept[item.material_id] = item.crystal
    return kept, rejections


def predict(
    structures: Path | str | Structure | Crystal | list[Any] | tuple[Any, ...] | Mapping[str, Structure | Crystal],
    *,
    members: Path | None = None,
    ensemble: Path | None = None,
) -> pd.DataFrame:
    """Predict crystals with this repository's ensemble or, without one, with the release that ships with matscout.

    Args:
        structures: a file or a folder, a pymatgen `Structure`, several of these, or structures by name.
        members: folder of trained members; None = this repository's, else the release's.
        ensemble: folder of the calibration; likewise.

    Returns:
        One row per crystal: band gap (eV, PBE) and formation energy (eV/atom) with 90 % intervals, energy above hull
        (eV/atom) with competing phases, and flags; columns as in `columns.py`. `attrs["answered_by"]` names the
        ensemble. Crystals that cannot be predicted are warned of and rejected.

    Raises:
        InputError: not one crystal can be predicted.
    """
    who = answering(members, ensemble)
    given: list[Any] = list(structures) if isinstance(structures, list | tuple) else [structures]
    if all(isinstance(item, str | Path) for item in given):
        ids, crystals, rejections = usable_crystals([Path(item) for item in given], who.limits)
    else:
        named: Mapping[str, Any] = {f"structure-{number}": item for number, item in enumerate(given)}
        named = structures if isinstance(structures, Mapping) else named
        ids, rejections = list(named), []
        crystals = [s if isinstance(s, Crystal) else Crystal.from_structure(s) for s in named.values()]
    predictor = EnsemblePredictor.load(who.members, who.ensemble)
    table, rejections = _table_of(ids, crystals, rejections, predictor, who.materials)
    if rejections:
        told = "; ".join(f"{item.material_id}: {item.detail}" for item in rejections)
        warnings.warn(f"{len(rejections)} crystal(s) cannot be predicted and are rejected: {told}", stacklevel=2)
    table.attrs["answered_by"] = who.told
    return table


def predict_structures(
    paths: Sequence[Path], predictor: EnsemblePredictor, limits: Validity, materials: Path | None = None
) -> tuple[pd.DataFrame, list[Rejection]]:
    """Predictions for the crystals in `paths`, one row each in reading order, and what was rejected.

    Args:
        paths: files and folders.
        predictor: the ensemble.
        limits: limits of a physical cell.
        materials: table of known phases, for the columns on stability; None = without them.

    Returns:
        One row per crystal, in reading order, and why the others are rejected.

    Raises:
        InputError: not one crystal can be predicted.
    """
    ids, crystals, rejections = usable_crystals(paths, limits)
    return _table_of(ids, crystals, rejections, predictor, materials)


def _table_of(
    ids: Sequence[str],
    crystals: Sequence[Crystal],
    rejections: list[Rejection],
    predictor: EnsemblePredictor,
    materials: Path | None,
) -> tuple[pd.DataFrame, list[Rejection]]:
    table, rejected = _predicted(ids, crystals, predictor, materials)
    rejections = [*rejections, *rejected]
    if table.empty:
        raise InputError(f"none of {len(rejections)} structure(s) can be predicted; the last: {rejections[-1].detail}")
    return table, rejections


def _predicted(
    ids: Sequence[str], crystals: Sequence[Crystal], predictor: EnsemblePredictor, materials: Path | None
) -> tuple[pd.DataFrame, list[Rejection]]:
    """Predictions whose intervals hold for the kind of crystal: of a known formula, or hypothetical.

    With known phases, crystals are judged against them, not against each other.

    Returns:
        One row per crystal that can be predicted, in the given order, with its formula and `calibrated_for`; and why
        the others cannot.
    """
    from matscout.discovery.screen.candidate_scores import add_stability, as_relaxed  # only what is needed starts
    from matscout.discovery.stability.energy_above_hull import References

    references = None if materials is None else References.read(materials)
    is_known = predictor.reference.is_known([formula_key(crystal.species) for crystal in crystals])
    tables, rejections = [pd.DataFrame()], []
    kinds = ((predictor, columns.KNOWN, is_known), (predictor.for_hypothetical(), columns.HYPOTHETICAL, ~is_known))
    for calibrated, kind, chosen in kinds:
        rows = np.flatnonzero(chosen)
        if not len(rows):
            continue
        chosen_crystals = [crystals[row] for row in rows.tolist()]
        predicted = predict_usable(calibrated, [ids[row] for row in rows.tolist()], chosen_crystals)
        if references is not None and kind == columns.HYPOTHETICAL:
            predicted = as_relaxed(predicted, chosen_crystals, references)
        tables.append(predicted.table.assign(**{columns.CALIBRATED_FOR: kind}).set_index(rows[predicted.rows]))
        rejections += predicted.rejections
    table = pd.concat(tables).sort_index()
    table.insert(min(1, table.shape[1]), columns.FORMULA, [crystals[row].reduced_formula for row in table.index])
    table[columns.CELL_REMARK] = [cell_remark(crystals[row]) for row in table.index]
    species = [crystals[row].species for row in table.index]
    table = table.reset_index(drop=True).drop(columns=columns.ENERGY_ABOVE_KNOWN_HULL, errors="ignore")
    if len(table):
        add_experimental_gap(table)
        if references is not None:
            add_stability(table, species, references)
    return table, _of_user(rejections)


def screen_structures(paths: Sequence[Path], goal: str, who: Answering) -> tuple[pd.DataFrame, list[Rejection]]:
    """`screening.screen_materials` for files.

    Energies above the hull need known phases; without them a goal that asks for stability is rejected.

    Args:
        paths: files and folders.
        goal: its name.
        who: the ensemble that answers.

    Returns:
        The ranking, best first, and why the other crystals are rejected.
    """
    from matscout.discovery.screen.screen import rank_structures  # `predict` starts without

    ids, crystals, rejections = usable_crystals(paths, who.limits)
    named = dict(zip(ids, crystals, strict=True))
    table, rejected = rank_structures(named, goal, who, materials=who.materials)
    return table, [*rejections, *_of_user(rejected)]


def _of_user(rejections: Sequence[Rejection]) -> list[Rejection]:
    """What `matscout predict` and `screen` report of crystals that were read but cannot be judged."""
    return [replace(item, source=USER_SOURCE, file=item.material_id, row=0) for item in rejections]


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write `.parquet` or `.csv`, whole or not at all.

    Raises:
        InputError: another ending.
    """
    check_table_name(path)
    if path.suffix == ".parquet":
        write_parquet(path, table)
        return
    write_csv(path, table)


def check_table_name(path: Path, inputs: Sequence[Path] = ()) -> None:
    """Reject a name that `write_table` could not write, or that is a file to be read, before any work.

    Args:
        path: path to write to.
        inputs: files that are read.

    Raises:
        InputError: it ends neither in .parquet nor in .csv, or is one of `inputs`.
    """
    if path.suffix not in {".parquet", ".csv"}:
        raise InputError(f"{path}: write to a name that ends in .parquet or .csv")
    written = [path, _beside(path)]
    for given in inputs:
        if any(place.exists() and given.exists() and place.samefile(given) for place in written):
            raise InputError(f"{given} is an input and is not overwritten; give -o another name than {path}")


def _beside(path: Path) -> Path:
    return path.with_suffix(".quarantine.csv")


def write_rejections(path: Path, rejections: Sequence[Rejection]) -> Path:
    """Write the reasons beside `path`, as `NAME.quarantine.csv`; return where."""
    beside = _beside(path)
    names = [field.name for field in fields(Rejection)]
    write_table(beside, pd.DataFrame([asdict(rejection) for rejection in rejections], columns=names))
    return beside
