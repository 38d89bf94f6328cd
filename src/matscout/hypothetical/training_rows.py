"""The stage `hypothetical`: turn a potential's labels into training rows on the curated table's energy scale.

It writes two tables. `crystals.parquet` holds the hypothetical crystals alone. The training set (`materials.parquet`
and `split.parquet`) holds the curated rows, these crystals, and copies of curated rows at another volume. Only
featurising, training and evaluation read the training set, so no hypothetical crystal can become a known phase, a
duplicate or a parent.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from matscout import columns
from matscout.compositions import atomic_fractions, is_surely_metal
from matscout.crystal import formula_key
from matscout.curated_table import MATERIALS_NAME, CuratedTable
from matscout.curation.curate import MATERIALS_SCHEMA, with_own_labels
from matscout.curation.reference_offsets import OffsetFit, Pairs, fit_offset, held_out_residuals
from matscout.files import atomic_path, write_json, write_parquet
from matscout.hypothetical.draw_crystals import LARGEST_CELL, VOLUME_JITTER
from matscout.hypothetical.potential_labels import (
    CORRECTION,
    ENERGY,
    EXCHANGED,
    MANIFEST_NAME,
    ROUTE,
    Labels,
)
from matscout.hypothetical.potential_scale import crystal_of, disagreement_noise, known_pairs
from matscout.params import Curation, Hypothetical

Array = NDArray[np.float64]

CRYSTALS_NAME: Final = "crystals.parquet"
SUMMARY_NAME: Final = "summary.json"
SPLIT_NAME: Final = "split.parquet"
SOURCE_NAME: Final = "potential"
COPY: Final = "copy"  # the route of known crystals at another volume

COPIED: Final = (  # columns that a copy takes over from its original
    *(columns.SOURCE, columns.FUNCTIONAL, columns.ENERGY_CORRECTIONS, columns.FORMULA),
    *(columns.SPECIES, columns.FRAC_COORDS),
    *(columns.FORMATION_ENERGY_ALIGNED, columns.FORMATION_ENERGY_NOISE, columns.BAND_GAP),
)
COPY_SEED: Final = 29
TRAINING_LABELS: Final = (columns.FORMATION_ENERGY_ALIGNED, columns.FORMATION_ENERGY_NOISE, columns.BAND_GAP_NOISE)

CRYSTALS_SCHEMA: Final = pa.schema(
    [
        (columns.MATERIAL_ID, pa.string()),
        (columns.SOURCE, pa.string()),
        (columns.CALCULATION, pa.string()),
        (columns.FUNCTIONAL, pa.string()),
        (columns.ENERGY_CORRECTIONS, pa.string()),
        (columns.FORMULA, pa.string()),
        (ROUTE, pa.string()),
        (columns.PARENT_ID, pa.string()),
        (columns.LATTICE, pa.list_(pa.float64())),
        (columns.SPECIES, pa.list_(pa.string())),
        (columns.FRAC_COORDS, pa.list_(pa.float64())),
        (columns.FORMATION_ENERGY_ALIGNED, pa.float64()),
        (columns.FORMATION_ENERGY_NOISE, pa.float64()),
        (columns.BAND_GAP, pa.float64()),
        (columns.FOLD, pa.string()),
    ]
)

TRAINING_SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in (columns.MATERIAL_ID, columns.SOURCE, columns.FUNCTIONAL)),
        (columns.SYNTHETIC, pa.bool_()),
        (columns.CALCULATION, pa.string()),
        (columns.DUPLICATE_GROUP, pa.string()),
        *((name, MATERIALS_SCHEMA.field(name).type) for name in (*columns.CRYSTAL, *columns.LABELS)),
        *((name, pa.float64()) for name in TRAINING_LABELS),
    ]
)


def make_hypothetical(
    materials: Path,
    split: Path,
    own: Path | None,
    settings: Hypothetical,
    curation: Curation,
    *,
    destination: Path,
    training: Path,
) -> None:
    """Write the hypothetical crystals, and the training set that joins them to the curated rows.

    Every row says what labelled it (`calculation`). Hypothetical crystals of the fold `calibration` train nothing: they
    calibrate predictions of such crystals. The others are in the fold `train`. Crystals with a known formula are left
    out, so no row that tests a model is labelled here.

    Args:
        materials: curated table; its training rows align the potential's energy scale with DFT's.
        split: material_id and fold of its rows.
        own: folder that the stage `label` writes; None = no own labels.
        settings: the section `hypothetical`; `n: 0` makes no crystals.
        curation: limits of energies, and how offsets are fitted.
        destination: folder of `crystals.parquet` and `summary.json`, replaced as a whole.
        training: folder of the training set's `materials.parquet` and `split.parquet`, replaced as a whole.

    Raises:
        InputError: the labels are missing, or too few known crystals align the scales.
    """
    curated, folds = CuratedTable(materials).rows(), pd.read_parquet(split)
    known = curated.merge(folds, on=columns.MATERIAL_ID, validate="one_to_one")
    table, summary = CRYSTALS_SCHEMA.empty_table().to_pandas(), {"rows": 0}
    made = table  # rows that join the curated ones
    if settings.n:
        labels = Labels.read(Path(settings.path))
        table, summary = _table(labels, labels, settings.n, known, settings, curation)
        if own is not None and (own / MANIFEST_NAME).is_file():
            mine, summary["own"] = _table(Labels.read(own), labels, None, known, settings, curation)
            table = pd.concat([table, mine]).drop_duplicates(columns.MATERIAL_ID)
            table = table.sort_values(columns.MATERIAL_ID, ignore_index=True)
        copies = _copies(known)
        summary["copies"] = len(copies)
        made = pd.concat([table, copies], ignore_index=True)
    with atomic_path(destination, mark=CRYSTALS_NAME) as folder:
        folder.mkdir()
        write_parquet(folder / CRYSTALS_NAME, table, CRYSTALS_SCHEMA)
        write_json(folder / SUMMARY_NAME, summary)
    with atomic_path(training, mark=MATERIALS_NAME) as folder:
        folder.mkdir()
        schema = with_own_labels(TRAINING_SCHEMA, list(curated))
        write_parquet(folder / MATERIALS_NAME, _training_set(curated, made, schema.names), schema)
        write_parquet(folder / SPLIT_NAME, pd.concat([folds, made[list(folds.columns)]], ignore_index=True))


def _training_set(curated: pd.DataFrame, table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """These columns of the curated rows, then the hypothetical ones, which are duplicates of nothing."""
    known = curated.assign(**{columns.CALCULATION: columns.BY_DFT})
    made = table.assign(**{columns.SYNTHETIC: False, columns.DUPLICATE_GROUP: table[columns.MATERIAL_ID]})
    parts = [part.reindex(columns=list(names)) for part in (known, made) if len(part)]
    return pd.concat(parts, ignore_index=True)


def _table(
    labels: Labels,
    twice: Labels,
    n: int | None,
    known: pd.DataFrame,
    settings: Hypothetical,
    curation: Curation,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The first `n` labels as rows, or all of them. `twice` has a second potential's energies, which tell the error."""
    pairs = known_pairs(labels.known, known, curation.offsets, potential=labels.potential.name)
    fit = fit_offset(pairs, curation.offsets)
    residuals, _ = held_out_residuals(pairs, curation.offsets)
    rows = labels.table.iloc[:n].reset_index(drop=True)
    crystals = [crystal_of(labels, row) for row in rows.to_dict("records")]
    keys = [formula_key(crystal.species) for crystal in crystals]
    fractions = atomic_fractions([crystal.species for crystal in crystals])
    offset, _ = fit.at(fractions, np.zeros(len(rows)))
    energy = rows[ENERGY].to_numpy(np.float64) - offset + rows[CORRECTION].to_numpy(np.float64)
    low, high = curation.validity.formation_energy_per_atom
    barred = set(known[columns.SPECIES].map(formula_key))
    joined = (fractions[:, ~pairs.fractions.any(axis=0)] == 0).all(axis=1)
    reasons = {
        "formula_is_known": np.array([key in barred for key in keys]),
        "element_without_known_energy": ~joined,
        "energy_out_of_range": ~((energy >= low) & (energy <= high)),
    }
    kept, rejected = np.ones(len(rows), dtype=bool), dict[str, int]()
    for reason, is_bad in reasons.items():
        rejected[reason] = int((kept & is_bad).sum())
        kept &= ~is_bad
    noise = disagreement_noise(twice, twice.table.iloc[: settings.n], known, curation.offsets, fractions)
    table = pd.DataFrame(
        {
            columns.MATERIAL_ID: label_ids(rows),
            columns.SOURCE: SOURCE_NAME,
            columns.CALCULATION: columns.BY_POTENTIAL,
            columns.FUNCTIONAL: labels.potential.functional,
            columns.ENERGY_CORRECTIONS: labels.potential.corrections,
            columns.FORMULA: [crystal.reduced_formula for crystal in crystals],
            ROUTE: rows[ROUTE].astype(str),
            columns.PARENT_ID: rows[columns.PARENT_ID].astype(str),
            **{name: [crystal.to_row()[name] for crystal in crystals] for name in columns.CRYSTAL},
            columns.FORMATION_ENERGY_ALIGNED: energy,
            columns.FORMATION_ENERGY_NOISE: noise,
            columns.BAND_GAP: [0.0 if is_surely_metal(crystal.element_counts) else np.nan for crystal in crystals],
            columns.FOLD: [fold_of(key, settings.calibration) for key in keys],
        }
    )
    table = table.loc[kept].drop_duplicates(columns.MATERIAL_ID).sort_values(columns.MATERIAL_ID, ignore_index=True)
    summary = {
        "rows": len(table),
        "by_fold": table[columns.FOLD].value_counts().sort_index().to_dict(),
        "by_route": table[ROUTE].value_counts().sort_index().to_dict(),
        "rejected": rejected,
        "potential": vars(labels.potential),
        "offsets": _offsets_told(fit, pairs, residuals),
    }
    return table, summary


def _copies(known: pd.DataFrame) -> pd.DataFrame:
    """Real training crystals with a volume as wrong as a hypothetical one's, and the DFT labels of the originals.

    Without them only the potential's rows would have unrelaxed cells, and members would learn that an unrelaxed cell
    means a high energy and a metal.
    """
    rows = known.loc[
        (known[columns.FOLD] == columns.TRAIN)
        & ~known[columns.SYNTHETIC].astype(bool)
        & (known[columns.SPECIES].map(len) <= LARGEST_CELL)
    ].sort_values(columns.MATERIAL_ID, ignore_index=True)
    scales = np.cbrt(np.exp(np.random.default_rng(COPY_SEED).normal(0.0, VOLUME_JITTER, len(rows))))
    lattices = [np.asarray(cell) * scale for cell, scale in zip(rows[columns.LATTICE], scales, strict=True)]
    return pd.DataFrame(
        {
            columns.MATERIAL_ID: "copy-" + rows[columns.MATERIAL_ID],
            columns.CALCULATION: columns.COPIED,
            ROUTE: COPY,
            columns.PARENT_ID: rows[columns.MATERIAL_ID],
            columns.LATTICE: lattices,
            **{name: rows[name] for name in COPIED if name in rows},
            columns.FOLD: columns.TRAIN,
        }
    ).reindex(columns=CRYSTALS_SCHEMA.names)


def label_ids(table: pd.DataFrame) -> list[str]:
    """Material ids of labelled crystals, by parent and exchange.

    Args:
        table: n rows of `potential_labels.LABELS_SCHEMA`.

    Returns:
        n ids.
    """
    rows = table[[columns.PARENT_ID, EXCHANGED]].itertuples(index=False)
    return [f"pot-{hashlib.sha256('|'.join(map(str, row)).encode()).hexdigest()[:12]}" for row in rows]


def fold_of(key: str, calibration: float) -> str:
    """Fold of a hypothetical crystal, by the hash of its formula: all crystals of one formula are in the same fold.

    Args:
        key: see `formula_key`.
        calibration: share of the formulas that is kept out of training.

    Returns:
        `train` or `calibration`.
    """
    draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return columns.CALIBRATION if draw < calibration else columns.TRAIN


def _offsets_told(fit: OffsetFit, pairs: Pairs, residuals: Array) -> dict[str, float]:
    """How well the potential's energies and DFT's agree on known training crystals; eV/atom."""
    return {
        "n_pairs": len(pairs),
        "residual_std": round(fit.scale, 6),
        "held_out_mae": round(float(np.abs(residuals).mean()), 6),
        "held_out_median": round(float(np.median(np.abs(residuals))), 6),
    }
