"""The members: size and errors of each, and the ensemble compared with them and with baselines."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from matscout import columns
from matscout.report import json_tables, subgroups, wording
from matscout.report.figures.learning_figures import MOST_POINTS, errors, learning_curves, parity
from matscout.report.html_table import Cell, Column, Row, Table, count_cell, estimate_cell, text_cell
from matscout.report.run import Run, paper_of


def members(run: Run) -> tuple[dict[str, Any], dict[str, go.Figure]]:
    """The section's text and table, and its figures: errors, learning curves and parity of each target."""
    scores = {target: json_tables.scores(run, target) for target in run.targets}
    figures: dict[str, go.Figure] = {}
    listed = []
    for target, table in scores.items():
        name = wording.name_of(target)
        rows = subgroups.test_rows(run, target)
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
                "Bars: 95 % bootstrap intervals. Baselines and members learned from the same training crystals.",
            ),
            _listed(
                f"learning_{target}",
                f"Learning curves, {name}",
                "Error on the validation fold after each epoch, of the averaged weights.",
            ),
            _listed(f"parity_{target}", f"Ensemble against published, {name}", _parity_caption(len(rows))),
        ]
    words = {
        "intro": _intro(run, scores),
        "table": _table(run, scores),
        "papers": [(wording.name_of(name), paper_of(member)) for name, member in run.params.ensembled.items()],
        "figures": sorted(listed, key=lambda f: ["errors", "parity", "learning"].index(f["key"].split("_")[0])),
    }
    return words, figures


def _listed(key: str, title: str, caption: str) -> dict[str, str]:
    return {"key": key, "title": title, "caption": caption}


def _parity_caption(n: int) -> str:
    drawn = f"{MOST_POINTS:,} of {n:,}" if n > MOST_POINTS else f"All {n:,}"
    return f"{drawn} test crystals, all real. On the dashed line the prediction is the published value."


def _intro(run: Run, scores: dict[str, pd.DataFrame]) -> str:
    sentences = [f"{len(run.members)} models with different architectures and seeds vote."]
    for target, table in scores.items():
        rows = table.to_dict("records")
        best = min((row for row in rows if row["kind"] == "member"), key=lambda row: row["value"])
        ours = next(row for row in rows if row["kind"] == "ensemble")
        boosting = next(row for row in rows if row["key"] == "gradient_boosting")
        sentences.append(
            f"For the {wording.name_of(target)} the ensemble's error is {_beside(ours, best)} its best member's "
            f"({best['name']}) and {_beside(ours, boosting)} that of {boosting['name']}."
        )
    return " ".join(sentences)


def _beside(ours: dict[str, Any], other: dict[str, Any]) -> str:
    change = 100 * (ours["value"] / other["value"] - 1)
    if abs(change) < 0.5:  # what rounds to nothing
        return "equal to"
    return f"{abs(change):.0f} % {'below' if change < 0 else 'above'}"


def _table(run: Run, scores: dict[str, pd.DataFrame]) -> Table:
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
