"""How sure: calibration, coverage by stratum, spread against error, what setting aside buys."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from matscout.report import evidence, figures_learning, figures_trust, labels, readings
from matscout.report.inputs import Run

ROW_PX = 30  # height of one stratum in the coverage figure


def trust(run: Run) -> tuple[dict[str, Any], dict[str, go.Figure]]:
    """The section's words and its figures."""
    rows = {target: evidence.test_rows(run, target) for target in run.params.targets}
    rows = {target: table for target, table in rows.items() if len(table) >= evidence.FEWEST_ROWS}
    strata = pd.concat(
        [evidence.coverage_by_stratum(table, target).assign(target=target) for target, table in rows.items()]
    )
    curves = readings.calibration_curves(run.ensemble, list(run.params.targets))
    figures = {
        "coverage": figures_trust.coverage(strata, nominal=evidence.NOMINAL),
        "spread": figures_trust.spread_against_error(
            {target: evidence.spread_bins(table, target) for target, table in rows.items()}
        ),
        "confidence": figures_learning.confidence_curve(
            {target: evidence.confidence_curve(table, target) for target, table in rows.items()}
        ),
    }
    if curves:
        figures["calibration"] = figures_trust.calibration(curves)
    return _words(strata, calibrated=bool(curves)), figures


def _words(strata: pd.DataFrame, *, calibrated: bool) -> dict[str, Any]:
    overall = strata[strata["stratum"] == "all test crystals"]
    found = labels.sentence_list(
        [
            f"{labels.percent(row.coverage, 1)} ({labels.name_of(row.target)}, {row.n:,} crystals)"
            for row in overall.itertuples()
        ]
    )
    return {
        "intro": f"Every prediction comes with a 90 % interval. On real crystals that no model has seen it held "
        f"{found}. Below: whether that is so for each kind of crystal, and whether a large spread really warns of a "
        "large error.",
        "calibrated": calibrated,
        "calibration_caption": "Share of test crystals inside the central interval of each nominal level. "
        "Above the dashed line the intervals are too wide, below it too narrow.",
        "calibration_absent": "The stage `evaluate` wrote no coverage at several levels.",
        "coverage_caption": f"Bars: Wilson's 95 % intervals. Strata of fewer than {evidence.FEWEST_ROWS} test crystals "
        "are left out. The dashed line is the promise, 90 %.",
        "coverage_size": "tall",
        "spread_caption": f"Test crystals in up to {evidence.N_BINS} groups of equal size by predicted standard "
        "deviation. On the dashed line the spread is as large as the error found.",
        "confidence_caption": "Solid: mean absolute error of the crystals that stay when those of largest predicted "
        "spread are set aside first. Dotted: the best possible order, by the error itself.",
        "table": None,
    }
