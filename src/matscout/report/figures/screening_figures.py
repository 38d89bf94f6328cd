"""Figures of what came out: the candidates, their front and their survival."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from matscout import columns
from matscout.params import Objective
from matscout.report.figures.chart import chart
from matscout.report.figures.palette import BAND, BLUE, FAINT, INK, SURFACE, VERMILLION
from matscout.report.wording import name_of, titled, unit_of

MOST_DOTS = 3000  # background dots; more only slow the page and hide each other


def pareto_front(
    ranked: pd.DataFrame, *, x: str, y: str, objectives: Sequence[Objective], shown: Sequence[str]
) -> go.Figure:
    """Every candidate, those on the Pareto front, and those of the shortlist.

    Args:
        ranked: candidates with `candidate_id`, `formula`, `pareto_front`, `x` and `y`.
        x: column of the horizontal axis; its wanted window is shaded.
        y: column of the vertical axis.
        objectives: the goal's aims, for the shading.
        shown: candidate ids whose structure the page holds.
    """
    on_page = ranked[columns.CANDIDATE_ID].isin(list(shown)).to_numpy()
    front = ranked[columns.PARETO_FRONT].to_numpy(dtype=bool)
    others = ranked.loc[~front & ~on_page]
    others = others.iloc[np.linspace(0, len(others) - 1, min(len(others), MOST_DOTS)).astype(int)]
    figure = chart(
        _dots(others, x, y, name="other candidates", color=FAINT, size=4, opacity=0.55),
        _dots(ranked.loc[on_page & ~front], x, y, name="shortlist", color=BLUE, size=9, symbol="diamond"),
        _dots(ranked.loc[front], x, y, name="Pareto front", color=VERMILLION, size=10, symbol="circle"),
        go.Scatter(
            x=[None],
            y=[None],
            mode="markers",
            name="chosen",
            showlegend=False,
            hoverinfo="skip",
            marker={"size": 18, "symbol": "circle-open", "color": INK, "line": {"width": 2.5}},
        ),
        x=titled(x),
        y=titled(y),
        hovermode="closest",
        legend_itemsizing="constant",
    )
    for objective in objectives:
        if objective.window is not None and objective.column in {x, y}:
            _shade(figure, objective, ranked[objective.column].to_numpy(), horizontal=objective.column == x)
    return figure


def _dots(
    rows: pd.DataFrame,
    x: str,
    y: str,
    *,
    name: str,
    color: str,
    size: int,
    symbol: str = "circle",
    opacity: float = 1.0,
) -> go.Scatter:
    return go.Scatter(
        x=rows[x],
        y=rows[y],
        mode="markers",
        name=name,
        customdata=rows[columns.CANDIDATE_ID],
        text=rows[columns.FORMULA],
        marker={
            "color": color,
            "size": size,
            "symbol": symbol,
            "opacity": opacity,
            "line": {"width": 1 if size > 5 else 0, "color": SURFACE},
        },
        hovertemplate=f"<b>%{{text}}</b><br>{name_of(x)} %{{x:.2f}} {unit_of(x)}<br>{name_of(y)} %{{y:.2f}} "
        f"{unit_of(y)}<extra>{name}</extra>",
    )


def _shade(figure: go.Figure, objective: Objective, values: np.ndarray, *, horizontal: bool) -> None:
    """Shade a wanted window; one without an end reaches to the last value."""
    low, high = objective.window or (None, None)
    ends = [float(values.min()) if low is None else low, float(values.max()) if high is None else high]
    look: dict[str, Any] = {"fillcolor": BAND, "opacity": 0.55, "line_width": 0, "layer": "below"}
    if horizontal:
        figure.add_vrect(x0=ends[0], x1=ends[1], **look)
    else:
        figure.add_hrect(y0=ends[0], y1=ends[1], **look)
