"""The uncertainty: calibration, coverage by stratum, spread against error, distance from the training data."""

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from matscout.report import json_tables, subgroups, wording
from matscout.report.figures import learning_figures, trust_figures
from matscout.report.html_table import Cell, Column, Row, Table, estimate_cell
from matscout.report.run import Run

NOMINAL: Final = 0.9
METRICS: Final = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R², share of the variance explained (no unit)",
    "coverage_90": "inside the 90 % interval (share)",
    "width_90": "mean width of the 90 % interval",
    "crps": "CRPS: error of the whole distribution",
    "nll": "negative log likelihood (nats)",
    "miscalibration_area": "miscalibration area, 0 is best (no unit)",
    "ence": "normalised calibration error of the spread, 0 is best (no unit)",
    "spearman": "rank correlation of spread and error, 1 is best (no unit)",
    "ause": "area under the sparsification error, 0 is best (no unit)",
    "roc_auc_metal": "metal or not: area under the ROC curve, 1 is best (no unit)",
}


def trust(run: Run) -> tuple[dict[str, Any], dict[str, go.Figure]]:
    """The section's text and its figures."""
    targets = run.targets
    strata = pd.concat(
        [subgroups.coverage_by_stratum(subgroups.test_rows(run, t), t).assign(target=t) for t in targets]
    )
    figures = {
        "calibration": trust_figures.calibration(
            _curves(run, "calibration"), {t: json_tables.interval_coverage(run.ensemble, t) for t in targets}
        ),
        "coverage": trust_figures.coverage(strata, nominal=NOMINAL),
        "spread": trust_figures.spread_against_error(_curves(run, "error_against_spread")),
        "confidence": learning_figures.confidence_curve(_curves(run, "confidence")),
        "width": trust_figures.interval_width({t: json_tables.interval_width(run.ensemble, t) for t in targets}),
        "distance": trust_figures.distance({t: json_tables.distance_deciles(run.ensemble, t) for t in targets}),
    }
    return _words(run), figures


def _curves(run: Run, name: str) -> Mapping[str, pd.DataFrame]:
    return {target: json_tables.curve(run.ensemble, target, name) for target in run.targets}


def _words(run: Run) -> dict[str, Any]:
    held = wording.sentence_list([_held(run, target) for target in run.targets])
    far = wording.percent(run.ensemble["flags"]["test_share_far"], 1)
    return {
        "intro": f"Every prediction comes with a 90 % interval. On real crystals that no model has seen it held "
        f"{held}. Below: whether that is so for each kind of crystal, and whether a large spread warns of a large "
        f"error. {far} of the test crystals lie far from the training data.",
        "calibration_caption": "Share of test crystals inside the central interval of each nominal level: markers, the "
        "conformal intervals that the tables give, with 95 % bootstrap intervals; lines, the distributions behind "
        "them. Above the dashed line too wide, below it too narrow.",
        "coverage_caption": f"Bars: Wilson's 95 % intervals. Strata of fewer than {subgroups.FEWEST_ROWS} test "
        "crystals are left out. The dashed line is the promise, 90 %.",
        "spread_caption": "Test crystals in groups of equal size by predicted standard deviation. On the dashed line "
        "the spread is as large as the error found.",
        "confidence_caption": "Solid: mean absolute error of the crystals that stay when those of largest predicted "
        "spread are set aside first. Dotted: the best possible order, by the error itself.",
        "width_caption": "Test crystals by the width of their 90 % interval, relative to the mean width. One width for "
        "all would be a single peak at the dashed line: a long tail shows that the doubtful ones are told apart.",
        "distance_caption": "Distance to the nearest training crystals in the models' own description of a crystal. "
        "An honest spread (dotted) rises with the error (solid).",
        "table": _table(run),
    }


def _held(run: Run, target: str) -> str:
    metrics = json_tables.judged(run.ensemble, target)
    found = wording.percent(metrics["coverage_90"]["value"], 1)
    return f"{found} of {wording.count(metrics['n'])} values of the {wording.name_of(target)}"


def _table(run: Run) -> Table:
    judged = {target: json_tables.judged(run.ensemble, target) for target in run.targets}
    heads = [Column("figure", numeric=False)]
    heads += [Column(wording.name_of(t), f"{wording.unit_of(t)}, 95 % interval") for t in judged]
    rows = [
        Row((Cell(name), *(estimate_cell(metrics.get(key)) for metrics in judged.values())))
        for key, name in METRICS.items()
    ]
    return Table("trust", "The ensemble on held-out real crystals", tuple(heads), tuple(rows))
