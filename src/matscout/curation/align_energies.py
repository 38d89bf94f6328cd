"""Convert every formation energy to the scale of the reference database, and estimate its label noise.

Label noise is the disagreement of databases on one material, as a standard error for every row.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from matscout import columns
from matscout.compositions import fractions_of_formulas
from matscout.crystal import SYMBOLS
from matscout.curation.reference_offsets import (
    CONSTANT,
    HUBBARD,
    Array,
    OffsetFit,
    Pairs,
    fit_offset,
    held_out_residuals,
    hubbard_flags,
    make_pairs,
)
from matscout.params import Offsets

Planted = Mapping[str, Any]

DIGITS = 6  # in the summary: micro-electronvolts
CLASS: Final = (columns.SOURCE, columns.FUNCTIONAL, columns.ENERGY_CORRECTIONS)  # rows on one energy scale
NOT_STATED: Final = ""  # corrections; pandas drops nulls when it groups


def align(
    materials: pd.DataFrame, settings: Offsets, planted: Mapping[str, Planted]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Convert each database's formation energies to the scale of the reference.

    One offset is fitted per class (source, functional, energy corrections), with a term for +U. A class that shares
    fewer than `min_pairs` materials with the reference gets no aligned energy if its functional or its corrections
    are known to differ from the reference's; otherwise it keeps its published energies (standard error null: unknown).

    Args:
        materials: curated rows with their duplicate groups.
        settings: the section `curation.offsets`.
        planted: source -> known offsets of a synthetic stand-in: `constant`, and `elements` in addition, eV/atom.

    Returns:
        the two columns `formation_energy_aligned` and `_std`, and the summary of all fits.
    """
    published = materials[columns.FORMATION_ENERGY].astype(np.float64)
    moved = pd.DataFrame(
        {columns.FORMATION_ENERGY_ALIGNED: np.nan, columns.FORMATION_ENERGY_ALIGNED_STD: np.nan}, index=materials.index
    )
    classes = materials.loc[:, list(CLASS)].fillna({columns.ENERGY_CORRECTIONS: NOT_STATED})
    functional, corrections = reference_scale(materials, settings.reference)
    is_reference = classes.eq(pd.Series([settings.reference, functional, corrections], index=CLASS)).all(axis=1)
    moved.loc[is_reference] = np.column_stack([published[is_reference], np.zeros(is_reference.sum())])
    scale = {"functional": functional, columns.ENERGY_CORRECTIONS: corrections or None}
    summary: dict[str, Any] = {"reference": settings.reference, **scale, "sources": {}}
    for one, own in classes.loc[~is_reference].groupby(list(CLASS)):
        source, own_functional, own_corrections = one
        rows = materials.loc[own.index]
        pairs = make_pairs(rows, materials.loc[is_reference])
        name = "/".join(part for part in one if part != NOT_STATED)
        if len(pairs) < settings.min_pairs:
            summary["sources"][name] = {"fitted": False, "n_pairs": len(pairs), "min_pairs": settings.min_pairs}
            is_other = own_corrections != corrections and NOT_STATED not in {own_corrections, corrections}
            if own_functional == functional and not is_other:
                moved.loc[rows.index, columns.FORMATION_ENERGY_ALIGNED] = published[rows.index]
            continue
        fit = fit_offset(pairs, settings)
        offset, error = fit.at(fractions_of_formulas(rows[columns.FORMULA]), hubbard_flags(rows))
        moved.loc[rows.index] = np.column_stack([published[rows.index] - offset, error])
        summary["sources"][name] = _describe(fit, pairs, settings, planted.get(str(source)))
    moved.loc[published.isna()] = np.nan
    return moved, summary


def reference_scale(materials: pd.DataFrame, reference: str) -> tuple[str | None, str | None]:
    """Functional and corrections (empty: not stated) of most labelled rows of the reference; nulls if none is."""
    rows = materials[(materials[columns.SOURCE] == reference) & materials[columns.FORMATION_ENERGY].notna()]
    counts = rows.loc[:, list(CLASS[1:])].fillna(NOT_STATED).value_counts()
    return min(counts[counts == counts.max()].index) if len(counts) else (None, None)


def _describe(fit: OffsetFit, pairs: Pairs, settings: Offsets, planted: Planted | None) -> dict[str, Any]:
    after, after_constant = held_out_residuals(pairs, settings)
    elements = _element_table(fit, pairs, planted)
    described: dict[str, Any] = {
        "fitted": True,
        "n_pairs": fit.n_pairs,
        "constant": _term(fit, CONSTANT),
        "elements": elements,
        "residual_std": round(fit.scale, DIGITS),
        "held_out": {
            "mae_before": _mae(pairs.differences),
            "mae_after_constant": _mae(after_constant),
            "mae_after": _mae(after),
            "median_before": _median(pairs.differences),
            "median_after": _median(after),
        },
    }
    if pairs.hubbard.any():
        described["hubbard"] = _term(fit, HUBBARD)
    if planted is not None:
        described["planted"] = _count_planted(elements, planted)
    return described


def _element_table(fit: OffsetFit, pairs: Pairs, planted: Planted | None) -> dict[str, dict[str, Any]]:
    """Offset of every element that a pair contains, with its intervals and, for synthetic rows, the known value.

    Tens of intervals are read at once, so `low95` and `high95` are joint: they all hold with 95 % probability. The
    intervals of each element alone are given too.
    """
    counts = (pairs.fractions > 0).sum(axis=0)
    seen = np.flatnonzero(counts)
    offsets = fit.element_offsets(seen)
    table: dict[str, dict[str, Any]] = {}
    for position, column in enumerate(seen):
        symbol = SYMBOLS[column + 1]
        entry: dict[str, Any] = {
            "offset": _rounded(offsets.value[position]),
            "n_pairs": int(counts[column]),
            **_ends(offsets.jointly[:, position], ""),
            **_ends(offsets.alone[:, position], "_alone"),
        }
        if planted is not None and symbol in planted["elements"]:
            entry |= _compare(entry, planted["constant"] + planted["elements"][symbol])
        table[symbol] = entry
    return table


def _compare(entry: Mapping[str, float], truth: float) -> dict[str, Any]:
    return {
        "planted": _rounded(truth),
        "inside": bool(entry["low95"] <= truth <= entry["high95"]),
        "inside_alone": bool(entry["low95_alone"] <= truth <= entry["high95_alone"]),
    }


def _count_planted(elements: Mapping[str, Mapping[str, Any]], planted: Planted) -> dict[str, int]:
    """How many known offsets lie inside their intervals; elements without an offset are counted separately."""
    shifted = [entry for entry in elements.values() if "inside" in entry]
    unshifted = [_compare(entry, planted["constant"]) for entry in elements.values() if "inside" not in entry]
    return {
        "n_elements": len(shifted),
        "n_inside": sum(entry["inside"] for entry in shifted),
        "n_inside_alone": sum(entry["inside_alone"] for entry in shifted),
        "n_unshifted": len(unshifted),
        "n_unshifted_inside": sum(entry["inside"] for entry in unshifted),
        "n_unshifted_inside_alone": sum(entry["inside_alone"] for entry in unshifted),
    }


def _term(fit: OffsetFit, column: int) -> dict[str, Any]:
    ends = np.percentile(fit.draws[:, column], [2.5, 97.5])
    return {"value": _rounded(fit.coefficients[column]), **_ends(ends, "")}


def _ends(interval: Array, suffix: str) -> dict[str, float]:
    return {f"low95{suffix}": _rounded(interval[0]), f"high95{suffix}": _rounded(interval[1])}


def _mae(residuals: Array) -> float:
    return _rounded(np.abs(residuals).mean())


def _median(residuals: Array) -> float:
    return _rounded(np.median(np.abs(residuals)))


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)


PRIOR_WEIGHT: Final = 2.0  # degrees of freedom that the typical disagreement counts for in one material
WINSOR_QUANTILE: Final = 0.95  # one bad label must not raise the noise of all


def label_noise(materials: pd.DataFrame, label: str) -> pd.Series:
    """Standard error of `label` per row, in the label's unit; None if nothing is known.

    Within one duplicate group each database counts once (median of its entries). With n databases of
    sample variance s² a row gets

        noise² = (nu s0² + (n - 1) s²) / (nu + n - 1),   nu = 2,

    the typical variance s0² of all groups alone where no other database has the material. Two labels
    give a poor estimate of their own variance; the typical one stabilises it. Synthetic labels contain no information
    on real ones: real rows use only real rows, synthetic rows use all.
    """
    synthetic = materials[columns.SYNTHETIC].to_numpy(dtype=bool)
    noise = _noise_within(materials, label)
    if synthetic.any():
        noise = noise.where(synthetic, np.nan)
        noise[~synthetic] = _noise_within(materials.loc[~synthetic], label)
    return noise.where(materials[label].notna(), np.nan)


def _noise_within(rows: pd.DataFrame, label: str) -> pd.Series:
    labelled = rows.loc[rows[label].notna()]
    spoken = labelled.groupby([columns.DUPLICATE_GROUP, columns.SOURCE])[label].median()
    spread = spoken.groupby(columns.DUPLICATE_GROUP).agg(["size", "var"])
    shared = spread.loc[spread["size"] > 1]
    if shared.empty:
        return pd.Series(np.nan, index=rows.index, dtype=np.float64)
    freedom, variance = shared["size"].to_numpy() - 1, shared["var"].to_numpy()
    capped = np.minimum(variance, np.quantile(variance, WINSOR_QUANTILE))
    typical = float((freedom * capped).sum() / freedom.sum())
    steadied = (PRIOR_WEIGHT * typical + freedom * variance) / (PRIOR_WEIGHT + freedom)
    own = rows.loc[:, columns.DUPLICATE_GROUP].map(pd.Series(steadied, index=shared.index))
    return own.fillna(typical).astype(np.float64) ** 0.5
