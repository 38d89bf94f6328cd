"""Members and ensemble: sizes and errors, with baselines; calibration, coverage by stratum, spread and error."""

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from matscout import columns
from matscout.report import run_tables, wording
from matscout.report.figures import ensemble_figures
from matscout.report.figures.ensemble_figures import MOST_POINTS, errors, learning_curves, parity
from matscout.report.html_table import Cell, Column, Row, Table, count_cell, estimate_cell, text_cell
from matscout.report.run import Run, paper_of


def members(run: Run) -> tuple[dict[str, Any], dict[str, go.Figure]]:
    """The text and table of the section, and figures of errors, learning curves and parity for each target."""
    scores = {target: run_tables.scores(run, target) for target in run.targets}
    figures: dict[str, go.Figure] = {}
    listed = []
    for target, table in scores.items():
        name = wording.name_of(target)
        rows = run_tables.test_rows(run, target)
        figures[f"errors_{target}"] = errors(table, target)
        figures[f"learning_{target}"] = learning_curves({k: m.history for k, m in run.members.items()}, target)
        figures[f"parity_{target}"] = parity(
            rows[target + columns.TRUTH].to_numpy(),
            rows[target].to_numpy(),
            rows[target + columns.STD].to_numpy(),
            target,
        )
        listed += [
            _listed(
                f"errors_{target}",
                f"Test error, {name}",
                "Bars are 95 % bootstrap intervals. Baselines and members use the same known training crystals.",
            ),
            _listed(
                f"learning_{target}",
                f"Learning curves, {name}",
                "Error of the averaged weights on the validation fold after each epoch.",
            ),
            _listed(f"parity_{target}", f"Predicted and published {name}", _parity_caption(len(rows))),
        ]
    words = {
        "intro": _intro(run, scores),
        "table": _members_table(run, scores),
        "papers": [(wording.name_of(name), paper_of(member)) for name, member in run.params.ensembled.items()],
        "figures": sorted(listed, key=lambda f: ["errors", "parity", "learning"].index(f["key"].split("_")[0])),
    }
    return words, figures


def _listed(key: str, title: str, caption: str) -> dict[str, str]:
    return {"key": key, "title": title, "caption": caption}


def _parity_caption(n: int) -> str:
    drawn = f"{MOST_POINTS:,} of {n:,}" if n > MOST_POINTS else f"All {n:,}"
    return f"{drawn} test crystals, all real. On the dashed line, the prediction equals the published value."


def _intro(run: Run, scores: dict[str, pd.DataFrame]) -> str:
    sentences = [f"The ensemble combines {len(run.members)} models with different architectures and seeds."]
    for target, table in scores.items():
        rows = table.to_dict("records")
        best = min((row for row in rows if row["kind"] == "member"), key=lambda row: row["value"])
        ours = next(row for row in rows if row["kind"] == "ensemble")
        boosting = next(row for row in rows if row["key"] == "gradient_boosting")
        sentences.append(
            f"For the {wording.name_of(target)}, its error is {_beside(ours, best)} that of its best member "
            f"({best['name']}) and {_beside(ours, boosting)} that of {boosting['name']}."
        )
    return " ".join(sentences)


def _beside(ours: dict[str, Any], other: dict[str, Any]) -> str:
    change = 100 * (ours["value"] / other["value"] - 1)
    if abs(change) < 0.5:  # rounds to zero
        return "equal to"
    return f"{abs(change):.0f} % {'below' if change < 0 else 'above'}"


def _members_table(run: Run, scores: dict[str, pd.DataFrame]) -> Table:
    heads = [Column("model", numeric=False), Column("kind", numeric=False), Column("parameters"), Column("epochs")]
    heads += [Column(f"MAE {wording.name_of(t)}", f"{wording.unit_of(t)}, 95 % interval") for t in scores]
    first = next(iter(scores.values()))
    rows = []
    for entry in first.to_dict("records"):
        member = run.members.get(entry["key"])
        errors_of = [table[table["key"] == entry["key"]].iloc[0].to_dict() for table in scores.values()]
        rows.append(
            Row(
                (
                    text_cell(entry["name"]),
                    Cell(entry["kind"]),
                    count_cell(member.metrics["n_parameters"] if member else None),
                    count_cell(member.metrics["epochs"] if member else None),
                    *(estimate_cell(e) for e in errors_of),
                ),
                best=entry["kind"] == "ensemble",
            )
        )
    return Table("members", "Errors on held-out real crystals", tuple(heads), tuple(rows))


NOMINAL: Final = 0.9
METRICS: Final = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R², share of variance explained (no unit)",
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
    """The text and the figures of the section."""
    targets = run.targets
    strata = pd.concat(
        [run_tables.coverage_by_stratum(run_tables.test_rows(run, t), t).assign(target=t) for t in targets]
    )
    figures = {
        "calibration": ensemble_figures.calibration(
            _curves(run, "calibration"), {t: run_tables.interval_coverage(run.ensemble, t) for t in targets}
        ),
        "coverage": ensemble_figures.stratum_coverage(strata, nominal=NOMINAL),
        "spread": ensemble_figures.spread_against_error(_curves(run, "error_against_spread")),
        "confidence": ensemble_figures.confidence_curve(_curves(run, "confidence")),
        "width": ensemble_figures.interval_width({t: run_tables.interval_width(run.ensemble, t) for t in targets}),
        "distance": ensemble_figures.distance({t: run_tables.distance_deciles(run.ensemble, t) for t in targets}),
    }
    return _words(run), figures


def _curves(run: Run, name: str) -> Mapping[str, pd.DataFrame]:
    return {target: run_tables.curve(run.ensemble, target, name) for target in run.targets}


def _words(run: Run) -> dict[str, Any]:
    held = wording.sentence_list([_held(run, target) for target in run.targets])
    far = wording.percent(run.ensemble["flags"]["test_share_far"], 1)
    return {
        "intro": "Every prediction comes with a 90 % interval. On real crystals that no model has seen, the intervals "
        f"contain {held}. The figures show whether this holds for each kind of crystal, and whether a large spread "
        f"warns of a large error. {far} of the test crystals are far from the training data.",
        "calibration_caption": "Share of test crystals inside the central interval of each nominal level. Markers are "
        "the conformal intervals of the tables, with 95 % bootstrap intervals; lines are the underlying "
        "distributions. Above the dashed line intervals are too wide, below it too narrow.",
        "coverage_caption": "Bars are Wilson's 95 % intervals. The dashed line is the nominal coverage, 90 %. Strata "
        f"with fewer than {run_tables.FEWEST_ROWS} test crystals are not shown.",
        "spread_caption": "Test crystals in groups of equal size, ordered by predicted standard deviation. On the "
        "dashed line, the spread equals the actual error.",
        "confidence_caption": "Solid lines show the mean absolute error of the remaining crystals if those with the "
        "largest predicted spread are removed first. Dotted lines show the best possible order, by the error itself.",
        "width_caption": "Test crystals by the width of their 90 % interval, relative to the mean width. With one "
        "width for all there would be a single peak at the dashed line; a long tail shows that uncertain crystals get "
        "wider intervals.",
        "distance_caption": "Tenths of the test crystals by distance to the nearest training crystals, in the models' "
        "own description of a crystal. A well calibrated spread (dotted) rises with the error (solid).",
        "table": _trust_table(run),
    }


def _held(run: Run, target: str) -> str:
    metrics = run_tables.judged(run.ensemble, target)
    found = wording.percent(metrics["coverage_90"]["value"], 1)
    return f"{found} of {wording.count(metrics['n'])} labels of the {wording.name_of(target)}"


def _trust_table(run: Run) -> Table:
    judged = {target: run_tables.judged(run.ensemble, target) for target in run.targets}
    heads = [Column("metric", numeric=False)]
    heads += [Column(wording.name_of(t), f"{wording.unit_of(t)}, 95 % interval") for t in judged]
    rows = [
        Row((Cell(name), *(estimate_cell(metrics.get(key)) for metrics in judged.values())))
        for key, name in METRICS.items()
    ]
    return Table("trust", "The ensemble on held-out real crystals", tuple(heads), tuple(rows))
