"""The other rooms' JSON as tables: the only file that knows how it is nested."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd

from matscout.report import labels
from matscout.report.inputs import Run

LEVELS: Final = (50, 80, 90, 95)  # per cent, of the intervals that `evaluate` measures
ALL_ROWS: Final = "all"
BASELINES: Final = {
    "mean": "mean of training",
    "median": "median of training",
    "gradient_boosting": "gradient boosting on composition",
}
NO_INTERVAL: Final = {"low": float("nan"), "high": float("nan")}


def ensemble_error(ensemble: Mapping[str, Any], target: str) -> dict[str, float | None]:
    """Test MAE of the ensemble: {"value", "low", "high"}."""
    return dict(ensemble["targets"][target]["test"][ALL_ROWS]["mae"])


def calibration_curves(ensemble: Mapping[str, Any], targets: Sequence[str]) -> dict[str, pd.DataFrame]:
    """By target: `nominal` and `observed` shares of the test rows, in the order of the levels."""
    curves = {}
    for target in targets:
        judged = ensemble["targets"][target]["test"][ALL_ROWS]
        rows = [
            {"nominal": level / 100, "observed": judged[f"coverage_{level}"]["value"]}
            for level in LEVELS
            if judged.get(f"coverage_{level}", {}).get("value") is not None
        ]
        if rows:
            curves[target] = pd.DataFrame(rows)
    return curves


def scores(run: Run, target: str) -> pd.DataFrame:
    """Test MAE of the ensemble, each member and each baseline: `key`, `name`, `kind`, `value`, `low`, `high`."""
    figures = run.ensemble["targets"][target]
    rows = [{"key": "ensemble", "name": "ensemble", "kind": "ensemble", **ensemble_error(run.ensemble, target)}]
    for kind, names in (("members", labels.NAMES), ("baselines", BASELINES)):
        rows += [
            {"key": key, "name": names.get(key, key), "kind": kind.removesuffix("s"), **entry["mae"]}
            for key, entry in figures[kind].items()
        ]
    return pd.DataFrame(rows)


def offset_tables(summary: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """By database and functional: `term`, `is_element`, `n_pairs`, `value`, `low`, `high`, `planted`, eV/atom."""
    tables = {}
    for name, fit in sorted(summary["offsets"]["sources"].items()):
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
