"""Figures of the members: learning curves, errors of members, ensemble and baselines, parity."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from matscout.report.figures.chart import chart, positive_axis
from matscout.report.figures.palette import BLUE, DASHES, MUTED, SERIES, SLATE, SURFACE, SYMBOLS, VERMILLION
from matscout.report.wording import name_of, unit_of

MOST_POINTS = 3000


def learning_curves(histories: Mapping[str, pd.DataFrame], target: str) -> go.Figure:
    """Validation error of each member over its epochs, on a logarithmic axis."""
    traces = [
        go.Scatter(
            x=history["epoch"],
            y=history[f"mae_{target}"],
            mode="lines",
            name=name_of(member),
            line={"color": SERIES[i % len(SERIES)], "dash": DASHES[i % len(DASHES)], "width": 2},
            hovertemplate=f"{name_of(member)}, epoch %{{x}}<br>%{{y:.3f}} {unit_of(target)}<extra></extra>",
        )
        for i, (member, history) in enumerate(histories.items())
    ]
    figure = chart(*traces, x="epoch", y=f"validation MAE ({unit_of(target)})")
    values = np.concatenate([history[f"mae_{target}"].to_numpy(dtype=float) for history in histories.values()])
    return figure.update_yaxes(**positive_axis(values))


def errors(figures: pd.DataFrame, target: str) -> go.Figure:
    """Test error with its 95 % interval, one line each for baselines, members and the ensemble.

    Args:
        figures: `name`, `kind` ("baseline", "member" or "ensemble"), `value`, `low`, `high`.
        target: the predicted property.
    """
    ordered = figures.sort_values(["value", "name"], ascending=[False, True])
    colors = {"baseline": SLATE, "member": BLUE, "ensemble": VERMILLION}
    symbols = {"baseline": SYMBOLS[1], "member": SYMBOLS[0], "ensemble": SYMBOLS[2]}
    traces = []
    for kind, rows in ordered.groupby("kind", sort=True):
        above, below = rows["high"] - rows["value"], rows["value"] - rows["low"]
        traces.append(
            go.Scatter(
                x=rows["value"],
                y=rows["name"],
                mode="markers",
                name=str(kind),
                error_x={"type": "data", "array": above, "arrayminus": below, "thickness": 1.5, "width": 4},
                marker={"color": colors[str(kind)], "symbol": symbols[str(kind)], "size": 10},
                hovertemplate=f"%{{y}}: %{{x:.3f}} {unit_of(target)}<extra></extra>",
            )
        )
    figure = chart(*traces, x=f"test MAE ({unit_of(target)})", y="")
    figure.update_xaxes(rangemode="tozero")
    return figure.update_yaxes(categoryorder="array", categoryarray=list(ordered["name"]), gridcolor="rgba(0,0,0,0)")


def parity(truth: np.ndarray, estimate: np.ndarray, std: np.ndarray, target: str) -> go.Figure:
    """Predicted against published values of the test fold, shaded by the predicted spread.

    Args:
        truth: (n,) published values.
        estimate: (n,) predicted values.
        std: (n,) predicted standard deviations, in the same unit.
        target: whose values they are.

    Returns:
        The figure.
    """
    keep = np.linspace(0, len(truth) - 1, min(len(truth), MOST_POINTS)).astype(int)
    ends = [float(min(truth.min(), estimate.min())), float(max(truth.max(), estimate.max()))]
    line = go.Scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": MUTED, "width": 1.2, "dash": "dash"},
        hoverinfo="skip",
        name="perfect",
    )
    dots = go.Scatter(
        x=truth[keep],
        y=estimate[keep],
        mode="markers",
        name="test crystals",
        customdata=std[keep],
        marker={"size": 5, "color": BLUE, "opacity": 0.5, "line": {"width": 0.3, "color": SURFACE}},
        hovertemplate="published %{x:.2f}, predicted %{y:.2f} ± %{customdata:.2f}<extra></extra>",
    )
    unit = unit_of(target)
    return chart(
        line,
        dots,
        x=f"published {name_of(target)} ({unit})",
        y=f"predicted ({unit})",
        showlegend=False,
        hovermode="closest",
    )


def confidence_curve(curves: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Error of the rows that stay when the least certain are set aside, and of the best possible order.

    Args:
        curves: by target: `share_kept`, `mae` of the most certain, `oracle` of the smallest errors.
    """
    traces = []
    for color, (target, curve) in zip(SERIES, curves.items(), strict=False):
        whole = float(curve["mae"].iloc[-1])
        for column, dash, label in (("mae", "solid", "by predicted spread"), ("oracle", "dot", "best possible")):
            traces.append(
                go.Scatter(
                    x=100 * (1 - curve["share_kept"]),
                    y=100 * curve[column] / whole,
                    mode="lines",
                    name=f"{name_of(target)}, {label}",
                    line={"color": color, "dash": dash, "width": 2},
                    hovertemplate="%{x:.0f} % set aside: %{y:.0f} % of the error<extra></extra>",
                )
            )
    figure = chart(*traces, x="least certain crystals set aside (%)", y="MAE of the rest (% of all)")
    return figure.update_yaxes(rangemode="tozero")
