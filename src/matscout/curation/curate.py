"""The stage `curate`: snapshots of several databases become one table, and `summary.json` counts what was done."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from matscout import columns
from matscout.crystal_checks import Rejection
from matscout.curated_table import DUPLICATES_NAME, MATERIALS_NAME, QUARANTINE_NAME, SUMMARY_NAME
from matscout.curation.align_energies import align, label_noise
from matscout.curation.duplicate_search import (
    EDGE_SCHEMA,
    Compared,
    cache_parts,
    cluster_rows,
    find_matches,
    keep_reduced,
    load_compared,
    load_reduced,
    mark_representatives,
    save_compared,
)
from matscout.curation.outliers import label_outliers
from matscout.curation.row_checks import Examined, examine
from matscout.errors import InputError
from matscout.files import write_json, write_parquet
from matscout.params import Curation
from matscout.sources.feedback_files import read_feedback
from matscout.sources.record import RECORD_SCHEMA, Losses, Record
from matscout.sources.snapshots.snapshot import read_snapshot
from matscout.sources.snapshots.snapshot_files import read_manifest

LOG: Final = logging.getLogger(__name__)
PUBLISHED: Final = RECORD_SCHEMA.names[: RECORD_SCHEMA.get_field_index(columns.LATTICE)]  # identity and calculation
MATERIALS_SCHEMA: Final = pa.schema(
    [
        *(RECORD_SCHEMA.field(name) for name in PUBLISHED),
        (columns.FORMULA, pa.string()),
        (columns.N_ATOMS, pa.int32()),
        (columns.SPACE_GROUP, pa.int32()),
        *(RECORD_SCHEMA.field(name) for name in (*columns.CRYSTAL, *columns.LABELS)),
        (columns.FORMATION_ENERGY_ALIGNED, pa.float64()),
        (columns.FORMATION_ENERGY_ALIGNED_STD, pa.float64()),
        (columns.FORMATION_ENERGY_NOISE, pa.float64()),
        (columns.BAND_GAP_NOISE, pa.float64()),
        (columns.DUPLICATE_GROUP, pa.string()),
        (columns.IS_REPRESENTATIVE, pa.bool_()),
        (columns.N_ATOMS_PRIMITIVE, pa.int32()),
    ]
)
QUARANTINE_SCHEMA: Final = pa.schema(
    [(name, pa.int64() if name == "row" else pa.string()) for name in Rejection.__dataclass_fields__]
)


def curate(
    snapshots: Sequence[Path],
    params: Curation,
    destination: Path,
    *,
    workers: int,
    cache: Path | None = None,
    feedback: Path | None = None,
) -> None:
    """Check, deduplicate and align the rows of snapshots, and those of the candidates' results.

    Writes into `destination`: `materials.parquet` (usable rows), `quarantine.parquet` (the others, each with its
    reason), `duplicates.parquet` (every match with its scores) and `summary.json`. Published labels are never changed:
    aligned energies and noise are columns of their own.

    Args:
        snapshots: folders, one of each database.
        params: the section `curation`.
        destination: folder of the four outputs.
        workers: processes at most; the outputs do not depend on it.
        cache: folder of earlier comparisons, updated; None = compare everything.
        feedback: folder of the candidates' results; None = there are none.

    Raises:
        InputError: a snapshot is absent or damaged, or a file of results was not checked.
    """
    records, rejections, planted = _read(snapshots, feedback)
    curate_records(records, rejections, planted, params, destination, workers=workers, cache=cache)


def curate_records(
    records: Sequence[Record],
    rejections: Sequence[Rejection],
    planted: Mapping[str, Mapping[str, Any]],
    params: Curation,
    destination: Path,
    *,
    workers: int,
    cache: Path | None = None,
) -> None:
    """Curate records in memory; see `curate`.

    Args:
        records: rows with unique ids.
        rejections: rows rejected so far.
        planted: source -> known offsets of its synthetic rows.
        params: the section `curation`.
        destination: folder of the four outputs.
        workers: processes; the outputs do not depend on it.
        cache: folder of earlier comparisons (`comparison_cache.cache_directory`), updated; the outputs do not depend on
            it.

    Raises:
        InputError: no row is usable.
    """
    parts = None if cache is None else cache_parts(cache, params.matching)
    known = load_compared(parts)
    examined = examine(
        records,
        params.validity,
        params.matching.symprec,
        workers=workers,
        known={**load_reduced(parts), **known.cells},
        keep=None if parts is None else partial(keep_reduced, parts),
    )
    kept = [(record, result) for record, result in zip(records, examined, strict=True) if isinstance(result, Examined)]
    rejected = [result for result in examined if isinstance(result, Rejection)]
    if not kept:
        reasons = ", ".join(sorted({rejection.reason for rejection in (*rejections, *rejected)})) or "there were none"
        raise InputError(f"no usable row among {len(records)} records (rejected for: {reasons}); check the databases")
    kept.sort(key=lambda pair: (pair[0].source, pair[0].material_id))
    materials = _table(kept)
    outliers = label_outliers(materials, params.validity.outlier)
    rejected += [_reject_outlier(kept[row][0], outliers.loc[row], params) for row in outliers.index.tolist()]
    materials = materials.drop(index=outliers.index).reset_index(drop=True)
    kept = [pair for row, pair in enumerate(kept) if row not in outliers.index]
    cells = {result.content: result.reduced for _, result in kept}
    matches = find_matches(cells, params.matching, workers=workers, known=known)
    save_compared(parts, Compared(cells, tuple(matches)).with_blocks_of(known))
    contents = [result.content for _, result in kept]
    materials[columns.DUPLICATE_GROUP], edges = cluster_rows(materials, contents, matches)
    aligned, offsets = align(materials, params.offsets, planted)
    materials[list(aligned.columns)] = aligned
    left_out = leave_out_other_gaps(materials, params.offsets.reference)
    materials[columns.FORMATION_ENERGY_NOISE] = label_noise(materials, columns.FORMATION_ENERGY_ALIGNED)
    materials[columns.BAND_GAP_NOISE] = label_noise(materials, columns.BAND_GAP)
    materials[columns.IS_REPRESENTATIVE] = mark_representatives(materials, params.offsets.reference)
    _warn_of_losses(records, rejections, rejected, destination)
    quarantine = quarantine_table([*rejections, *rejected])
    summary = summarize_curation(materials, quarantine, edges, offsets)
    if left_out:
        summary["gaps_of_other_functionals"] = left_out
    schema = with_own_labels(MATERIALS_SCHEMA, list(materials))
    write_parquet(destination / MATERIALS_NAME, materials[schema.names], schema)
    write_parquet(destination / QUARANTINE_NAME, quarantine, QUARANTINE_SCHEMA)
    write_parquet(destination / DUPLICATES_NAME, edges, EDGE_SCHEMA)
    write_json(destination / SUMMARY_NAME, summary)


def leave_out_other_gaps(materials: pd.DataFrame, reference: str) -> dict[str, int]:
    """Remove gaps of functionals other than the reference's from the column, in place; return how many, by functional.

    An HSE06 or a measured gap can be electronvolts above the PBE gap of the same crystal, and no offset converts one
    into the other. The rows keep their energies; the snapshots keep the published gaps.
    """
    has_gap = materials[columns.BAND_GAP].notna()
    own = materials.loc[has_gap & (materials[columns.SOURCE] == reference), columns.FUNCTIONAL].value_counts()
    if not len(own):
        return {}
    functional = min(own[own == own.max()].index)
    other = has_gap & (materials[columns.FUNCTIONAL] != functional)
    counts = materials.loc[other, columns.FUNCTIONAL].value_counts().sort_index()
    for name, number in counts.items():
        LOG.warning("%d gaps of %s are not used: the column holds gaps of %s", number, name, functional)
    materials.loc[other, columns.BAND_GAP] = np.nan
    return {str(name): int(number) for name, number in counts.items()}


def with_own_labels(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """The schema, and at its end the columns that no schema of ours has: labels of labs' own files, as numbers.

    Args:
        schema: of the curated table, or of a table made from it.
        names: of the columns that there are.
    """
    own = sorted(set(names) - set(MATERIALS_SCHEMA.names) - set(schema.names))
    return pa.schema([*schema, *((name, pa.float64()) for name in own)])


def _warn_of_losses(
    records: Sequence[Record], rejections: Sequence[Rejection], rejected: Sequence[Rejection], destination: Path
) -> None:
    losses = Losses()
    for item in (*records, *rejections):
        losses.count(item)
    for rejection in rejected:
        losses.lose(rejection)
    for warning in losses.warnings(destination / QUARANTINE_NAME):
        LOG.warning(warning)


def quarantine_table(rejections: Sequence[Rejection]) -> pd.DataFrame:
    """Rejections sorted by source, file and row."""
    rows = [vars(rejection) for rejection in rejections]
    frame = pd.DataFrame(rows, columns=pd.Index(QUARANTINE_SCHEMA.names))
    return frame.sort_values(["source", "file", "row", "material_id"], ignore_index=True)


def _read(
    snapshots: Sequence[Path], feedback: Path | None
) -> tuple[list[Record], list[Rejection], dict[str, Mapping[str, Any]]]:
    """All records and rejections, and the known offsets of synthetic snapshots, by source.

    Ids belong to their source: a row whose id is already used by an earlier snapshot becomes `<source>:<id>`.
    """
    records: list[Record] = []
    rejections: list[Rejection] = []
    planted: dict[str, Mapping[str, Any]] = {}
    taken: set[str] = set()
    seen: set[tuple[str, str]] = set()  # source and id
    for snapshot in snapshots:
        manifest = read_manifest(snapshot)
        if manifest.planted is not None:
            planted[manifest.source] = manifest.planted
    results = () if feedback is None else read_feedback(feedback)
    for item in chain(*(read_snapshot(snapshot) for snapshot in snapshots), results):
        if isinstance(item, Rejection):
            rejections.append(item)
            continue
        if (item.source, item.material_id) in seen:  # such as a candidate computed twice
            detail = (
                f"{item.source} gives {item.material_id!r} in an earlier row too, which was kept; rename one of them"
            )
            rejections.append(item.reject("duplicate_id", detail))
            continue
        seen.add((item.source, item.material_id))
        name = item.material_id
        while name in taken:
            name = f"{item.source}:{name}"
        taken.add(name)
        records.append(item if name == item.material_id else replace(item, material_id=name))
    return records, rejections, planted


def _reject_outlier(record: Record, outlier: pd.Series, params: Curation) -> Rejection:
    detail = (
        f"{columns.FORMATION_ENERGY} = {outlier['value']:.3f} eV/atom: rows of the same chemistry suggest "
        f"{outlier['expected']:.3f}, {outlier['deviation']:.1f} robust deviations away, more than "
        f"curation.validity.outlier = {params.validity.outlier:g}; check the row at its source, or raise the limit"
    )
    reason = f"{columns.FORMATION_ENERGY}_outlier"
    return record.reject(reason, detail)


def _table(kept: Sequence[tuple[Record, Examined]]) -> pd.DataFrame:
    """The columns that come from one row alone."""
    table: dict[str, Any] = {name: [getattr(record, name) for record, _ in kept] for name in PUBLISHED}
    table[columns.YEAR] = pd.array([record.year for record, _ in kept], dtype="Int32")
    table[columns.FORMULA] = [result.formula for _, result in kept]
    table[columns.N_ATOMS] = [record.crystal.n_atoms for record, _ in kept]
    table[columns.SPACE_GROUP] = [result.reduced.space_group for _, result in kept]
    table[columns.N_ATOMS_PRIMITIVE] = [result.reduced.crystal.n_atoms for _, result in kept]
    for name in (columns.LATTICE, columns.SPECIES, columns.FRAC_COORDS):
        table[name] = [record.crystal.to_row()[name] for record, _ in kept]
    for label in columns.LABELS:
        table[label] = pd.array([getattr(record, label) for record, _ in kept], dtype="float64")
    for label in sorted({label for record, _ in kept for label in record.own_labels}):
        table[label] = np.array([record.own_labels.get(label, np.nan) for record, _ in kept])
    return pd.DataFrame(table)


DIGITS = 6


def summarize_curation(
    materials: pd.DataFrame, quarantine: pd.DataFrame, edges: pd.DataFrame, offsets: dict[str, Any]
) -> dict[str, Any]:
    """Rows by source, how they were calculated, rejections by source and reason, duplicates, offsets, label noise.

    Args:
        materials: usable rows.
        quarantine: rejected rows.
        edges: matches among the rows.
        offsets: reference offsets, as fitted.

    Returns:
        The content of `summary.json`.
    """
    sources = sorted(set(materials[columns.SOURCE]) | set(quarantine[columns.SOURCE]))
    return {
        "rows": {source: _rows_of(source, materials, quarantine) for source in sources},
        "calculations": {
            source: _calculations(materials.loc[materials[columns.SOURCE] == source]) for source in sources
        },
        "rejected": {source: _reasons(quarantine.loc[quarantine[columns.SOURCE] == source]) for source in sources},
        "total": {"rows": len(materials), "rejected": len(quarantine), "by_reason": _reasons(quarantine)},
        "duplicates": _duplicates(materials, edges),
        "offsets": offsets,
        "label_noise": {
            name: _noise(materials, name) for name in (columns.FORMATION_ENERGY_NOISE, columns.BAND_GAP_NOISE)
        },
    }


def _rows_of(source: str, materials: pd.DataFrame, quarantine: pd.DataFrame) -> dict[str, int]:
    kept = materials.loc[materials[columns.SOURCE] == source]
    rejected = int((quarantine[columns.SOURCE].to_numpy() == source).sum())
    return {
        "read": len(kept) + rejected,
        "rejected": rejected,
        "kept": len(kept),
        "synthetic": int(kept[columns.SYNTHETIC].to_numpy(dtype=bool).sum()),
    }


def _calculations(rows: pd.DataFrame) -> dict[str, int]:
    """Rows by functional, Hubbard U and family of pseudopotentials: `PBE+U, PAW_PBE` -> rows."""
    stated = rows[[columns.FUNCTIONAL, columns.IS_HUBBARD, columns.PSEUDOPOTENTIALS]].itertuples(index=False)
    kinds = Counter(f"{functional}{_hubbard(flag)}, {_family(family)}" for functional, flag, family in stated)
    return dict(sorted(kinds.items()))


def _hubbard(flag: object) -> str:
    return " (U not stated)" if pd.isna(flag) else "+U" if flag else ""  # type: ignore[arg-type]


def _family(family: object) -> str:
    return family if isinstance(family, str) else "pseudopotentials not stated"


def _reasons(quarantine: pd.DataFrame) -> dict[str, int]:
    return {str(reason): int(count) for reason, count in quarantine["reason"].value_counts().sort_index().items()}


def _duplicates(materials: pd.DataFrame, edges: pd.DataFrame) -> dict[str, int]:
    """Groups, and edges by their outcome."""
    groups = materials.groupby(columns.DUPLICATE_GROUP)[columns.SOURCE].agg(["size", "nunique"])
    sizes, databases = np.asarray(groups["size"]), np.asarray(groups["nunique"])
    merged, same = edges["merged"].to_numpy(dtype=bool), edges["same_material"].to_numpy(dtype=bool)
    agree = edges["same_space_group"].to_numpy(dtype=bool)
    return {
        "groups": len(groups),
        "groups_of_several_rows": int((sizes > 1).sum()),
        "groups_of_several_databases": int((databases > 1).sum()),
        "rows_in_groups_of_several": int(sizes[sizes > 1].sum()),
        "largest_group": int(sizes.max(initial=0)),
        "edges": len(edges),
        "edges_merged": int(merged.sum()),
        "edges_space_group_differs_within_tolerance": int((same & ~agree).sum()),
        "edges_related_other_space_group": int((~same).sum()),
        "edges_kept_apart_by_complete_link": int((same & ~merged).sum()),
    }


def _noise(materials: pd.DataFrame, column: str) -> dict[str, Any]:
    noise = materials[column].dropna()
    if noise.empty:
        return {"rows": 0}
    quantiles = noise.quantile([0.1, 0.5, 0.9]).round(DIGITS).tolist()
    return {"rows": len(noise), **dict(zip(("p10", "median", "p90"), quantiles, strict=True))}
