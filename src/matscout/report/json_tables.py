"""The stages' JSON as tables: the only file that knows how it is nested."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from matscout.report import wording
from matscout.report.run import Run

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
    """Coverage of the intervals that are written out: `nominal`, `value`, `low`, `high` (shares)."""
    metrics = judged(ensemble, target)
    return pd.DataFrame([{"nominal": level / 100, **metrics[f"coverage_{level}"]} for level in LEVELS])


def curve(ensemble: Mapping[str, Any], target: str, name: str) -> pd.DataFrame:
    """Read one of the ensemble's curves.

    Args:
        ensemble: the content of its `metrics.json`.
        target: by name.
        name: calibration, error_against_spread or confidence.

    Returns:
        One row a point.
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
    for kind, names in (("members", wording.NAMES), ("baselines", BASELINES)):
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
