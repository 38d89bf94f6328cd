"""The outputs of the stages as tables, and results on subgroups of the test fold.

Only this file knows how the JSON of the stages is nested. Subgroups are kinds of crystals, for the coverage of
intervals, and elements, for errors.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from pymatgen.core import Element

from matscout import columns
from matscout.report.run import Run
from matscout.report.wording import name_of

LEVELS: Final = (50, 80, 90, 95)  # per cent, of the intervals that `evaluate` measures
ALL_ROWS: Final = "all"
BASELINES: Final = {
    "mean": "mean of training",
    "median": "median of training",
    "gradient_boosting": "gradient boosting on composition",
}


def ensemble_error(ensemble: Mapping[str, Any], target: str) -> dict[str, float | None]:
    """Test MAE of the ensemble: {"value", "low", "high"}."""
    return dict(judged(ensemble, target)["mae"])


def judged(ensemble: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Every metric of the ensemble on all test rows of `target`."""
    return ensemble["targets"][target]["ensemble"][ALL_ROWS]


def interval_coverage(ensemble: Mapping[str, Any], target: str) -> pd.DataFrame:
    """Coverage of the reported intervals: `nominal`, `value`, `low`, `high` (shares)."""
    metrics = judged(ensemble, target)
    return pd.DataFrame([{"nominal": level / 100, **metrics[f"coverage_{level}"]} for level in LEVELS])


def curve(ensemble: Mapping[str, Any], target: str, name: str) -> pd.DataFrame:
    """Read one of the ensemble's curves.

    Args:
        ensemble: content of the ensemble's `metrics.json`.
        target: name of the target.
        name: calibration, error_against_spread or confidence.

    Returns:
        One row per point.
    """
    return pd.DataFrame(ensemble["targets"][target]["curves"][name])


def interval_width(ensemble: Mapping[str, Any], target: str) -> pd.DataFrame:
    """Histogram of the 90 % intervals' widths: `low`, `high` (edges), `mean` width, in the target's unit; `share`."""
    histogram = ensemble["targets"][target]["curves"]["interval_width"]
    edges, count = np.array(histogram["edges"]), np.array(histogram["count"])
    mean = judged(ensemble, target)["width_90"]["value"]
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "share": count / count.sum(), "mean": mean})


def distance_deciles(ensemble: Mapping[str, Any], target: str) -> pd.DataFrame:
    """Error, spread and coverage by distance from the training set, nearest tenth first."""
    return pd.DataFrame(ensemble["targets"][target]["distance_deciles"])


def scores(run: Run, target: str) -> pd.DataFrame:
    """Test MAE of the ensemble, each member and each baseline: `key`, `name`, `kind`, `value`, `low`, `high`."""
    figures = run.ensemble["targets"][target]
    rows = [{"key": "ensemble", "name": "ensemble", "kind": "ensemble", **ensemble_error(run.ensemble, target)}]
    for kind, names in (("members", columns.NAMES), ("baselines", BASELINES)):
        rows += [
            {"key": key, "name": names.get(key, key), "kind": kind.removesuffix("s"), **entry["mae"]}
            for key, entry in figures[kind].items()
        ]
    return pd.DataFrame(rows)


def offset_fits(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The offset fit of each database, functional and scheme of corrections, as `curate` describes it."""
    return dict(sorted(summary["offsets"]["sources"].items()))


def offset_tables(summary: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """By class of `offset_fits`: `term`, `is_element`, `n_pairs`, `value`, `low`, `high`, `planted`, eV/atom."""
    tables = {}
    for name, fit in offset_fits(summary).items():
        if not fit["fitted"]:
            continue
        rows = [_term("constant", fit["constant"], is_element=False, n_pairs=fit["n_pairs"])]
        if "hubbard" in fit:
            rows.append(_term("+U", fit["hubbard"], is_element=False, n_pairs=fit["n_pairs"]))
        for symbol, entry in fit["elements"].items():
            row = _term(symbol, entry | {"value": entry["offset"]}, is_element=True, n_pairs=entry["n_pairs"])
            rows.append(row | {"planted": entry.get("planted", float("nan"))})
        tables[name] = pd.DataFrame(rows)
    return tables


def _term(name: str, entry: Mapping[str, Any], *, is_element: bool, n_pairs: int) -> dict[str, Any]:
    return {
        "term": name,
        "is_element": is_element,
        "n_pairs": n_pairs,
        "value": entry["value"],
        "low": entry["low95"],
        "high": entry["high95"],
        "planted": float("nan"),
    }


FEWEST_ROWS: Final = 20  # smaller strata are not shown
FEWEST_PER_ELEMENT: Final = 5
Z95: Final = 1.959964
CHEMISTRIES: Final = ("oxides", "halides", "chalcogenides", "pnictides", "intermetallics", "other")


def test_rows(run: Run, target: str) -> pd.DataFrame:
    """Test crystals with a label of `target`: label, estimate, spread, interval, flags, source and species.

    Raises:
        InputError: a file of an earlier stage is missing.
    """
    held_out = run.predictions
    rows = held_out[(held_out[columns.FOLD] == columns.TEST) & held_out[target + columns.TRUTH].notna()]
    species = run.materials[[columns.MATERIAL_ID, columns.SPECIES]]
    return rows.merge(species, on=columns.MATERIAL_ID, how="inner").sort_values(columns.MATERIAL_ID)


def error_of(rows: pd.DataFrame, target: str) -> pd.Series:
    """Absolute error of each row, in the target's unit."""
    return pd.Series(np.abs(rows[target + columns.TRUTH].to_numpy() - rows[target].to_numpy()), index=rows.index)


def chemistry_of(species: list[str]) -> str:
    """The class of a crystal, by its most electronegative anion."""
    elements = {symbol: Element(symbol) for symbol in set(species)}
    if "O" in elements:
        return "oxides"
    if any(e.is_halogen for e in elements.values()):
        return "halides"
    if any(e.is_chalcogen for e in elements.values()):
        return "chalcogenides"
    if elements.keys() & {"N", "P", "As", "Sb", "Bi"}:
        return "pnictides"
    return "intermetallics" if all(e.is_metal for e in elements.values()) else "other"


def coverage_by_stratum(rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """The share of test crystals inside their 90 % interval, by stratum.

    Returns:
        `stratum`, `n`, `coverage`, `low`, `high` (Wilson's 95 % interval); strata with fewer than
        `FEWEST_ROWS` crystals are left out.
    """
    inside = rows[target + columns.TRUTH].between(rows[target + columns.LO90], rows[target + columns.HI90]).to_numpy()
    table = []
    for stratum, mask in _strata(rows, target):
        n, hits = int(mask.sum()), int(inside[mask].sum())
        if n >= FEWEST_ROWS:
            low, high = wilson(hits, n)
            table.append({"stratum": stratum, "n": n, "coverage": hits / n, "low": low, "high": high})
    return pd.DataFrame(table, columns=["stratum", "n", "coverage", "low", "high"])


def _strata(rows: pd.DataFrame, target: str) -> Iterator[tuple[str, np.ndarray]]:
    yield "all test crystals", np.ones(len(rows), bool)
    sources = rows[columns.SOURCE]
    names = sorted(sources.unique())
    if len(names) > 1:
        for source in names:
            yield name_of(source), (sources == source).to_numpy()
    if target == columns.BAND_GAP:
        metal = (rows[target] == 0).to_numpy()
        yield "predicted metals", metal
        yield "predicted non-metals", ~metal
    chemistry = np.array([chemistry_of(list(species)) for species in rows[columns.SPECIES]])
    for name in CHEMISTRIES:
        yield name, chemistry == name
    n_elements = rows[columns.SPECIES].map(lambda species: len(set(species))).to_numpy()
    far = rows[columns.FAR_FROM_TRAINING].to_numpy(bool)
    yield "near the training data", ~far
    yield "far from the training data", far
    yield "1 or 2 elements", n_elements <= 2
    yield "3 elements", n_elements == 3
    yield "4 or more elements", n_elements >= 4


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927)."""
    share = hits / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def crystals_by_element(species: pd.Series) -> dict[str, float]:
    """The number of crystals that contain each element."""
    counts = species.map(lambda symbols: sorted(set(symbols))).explode().value_counts()
    return {str(symbol): float(n) for symbol, n in sorted(counts.items())}


def error_by_element(rows: pd.DataFrame, target: str) -> dict[str, float]:
    """Mean absolute error of the test crystals that contain each element, for elements with enough crystals."""
    long = pd.DataFrame(
        {"symbol": rows[columns.SPECIES].map(lambda s: sorted(set(s))), "error": error_of(rows, target)}
    ).explode("symbol")
    found: dict[str, float] = {}
    for symbol, errors in long.groupby("symbol", sort=True)["error"]:
        if len(errors) >= FEWEST_PER_ELEMENT:
            found[str(symbol)] = float(errors.to_numpy().mean())
    return found
