"""Figures of the results: the candidates and their Pareto front."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from matscout import columns
from matscout.params import Objective
from matscout.report.figures.chart import BAND, BLUE, FAINT, INK, SURFACE, VERMILLION, chart
from matscout.report.wording import name_of, titled, unit_of

LEAST_CHANCE = 0.05  # probability of meeting the goal below which a candidate is not drawn on the front
OUTSIDE = 0.005  # share of the candidates that may lie outside the figure at each end
MOST_DOTS = 3000  # background dots; more would slow the page and overlap


def pareto_front(
    ranked: pd.DataFrame, *, x: str, y: str, objectives: Sequence[Objective], shown: Sequence[str]
) -> go.Figure:
    """All candidates, with those on the Pareto front and on the shortlist marked.

    Args:
        ranked: candidates with `candidate_id`, `formula`, `pareto_front`, `x` and `y`.
        x: column of the horizontal axis; its wanted window is shaded.
        y: column of the vertical axis.
        objectives: the goal's aims, for the shading.
        shown: candidate ids whose structure the page holds.

    Returns:
        The figure.
    """
    on_page = ranked[columns.CANDIDATE_ID].isin(list(shown)).to_numpy()
    front = ranked[columns.PARETO_FRONT].to_numpy(dtype=bool) & can_meet(ranked)
    others = ranked.loc[~front & ~on_page]
    others = others.iloc[np.linspace(0, len(others) - 1, min(len(others), MOST_DOTS)).astype(int)]
    figure = chart(
        _dots(others, x, y, name="other candidates", edge=SURFACE, size=4, opacity=0.55),
        _dots(ranked.loc[on_page & ~front], x, y, name="shortlist", edge=BLUE, size=9, symbol="diamond"),
        _dots(ranked.loc[front], x, y, name="Pareto front", edge=VERMILLION, size=11, symbol="circle"),
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
        coloraxis={
            "cmin": 0.0,
            "cmax": 1.0,
            "colorscale": [[0.0, FAINT], [0.5, BLUE], [1.0, INK]],
            "colorbar": {"title": {"text": "meets the goal", "side": "right"}, "tickformat": ".0%", "thickness": 12},
        },
    )
    figure.update_xaxes(range=_reach(ranked[x].to_numpy(), ranked.loc[on_page | front, x].to_numpy()))
    figure.update_yaxes(range=_reach(ranked[y].to_numpy(), ranked.loc[on_page | front, y].to_numpy()))
    for objective in objectives:
        if objective.window is not None and objective.column in {x, y}:
            _shade(figure, objective, ranked[objective.column].to_numpy(), horizontal=objective.column == x)
    return figure


def can_meet(ranked: pd.DataFrame) -> NDArray[np.bool_]:
    """(n,) whether a candidate's probability of meeting the goal is at least `LEAST_CHANCE`."""
    return ranked[columns.GOAL_PROBABILITY].to_numpy() >= LEAST_CHANCE


def _dots(
    rows: pd.DataFrame,
    x: str,
    y: str,
    *,
    name: str,
    edge: str,
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
            "color": rows[columns.GOAL_PROBABILITY],
            "coloraxis": "coloraxis",
            "size": size,
            "symbol": symbol,
            "opacity": opacity,
            "line": {"width": 2 if size > 5 else 0, "color": edge},
        },
        hovertemplate=f"<b>%{{text}}</b><br>{name_of(x)} %{{x:.2f}} {unit_of(x)}<br>{name_of(y)} %{{y:.2f}} "
        f"{unit_of(y)}<br>meets the goal: %{{marker.color:.0%}}<extra>{name}</extra>",
    )


def _reach(values: NDArray[np.float64], needed: NDArray[np.float64]) -> list[float]:
    """Ends of an axis that contains all needed values and nearly all others: a few far ones would compress the rest."""
    low, high = np.quantile(values[np.isfinite(values)], [OUTSIDE, 1 - OUTSIDE])
    low, high = min(low, *needed), max(high, *needed)
    air = 0.04 * (high - low or 1.0)
    return [float(low - air), float(high + air)]


def _shade(figure: go.Figure, objective: Objective, values: np.ndarray, *, horizontal: bool) -> None:
    """Shade a wanted window; an open one extends to the last value."""
    low, high = objective.window or (None, None)
    ends = [float(values.min()) if low is None else low, float(values.max()) if high is None else high]
    look: dict[str, Any] = {"fillcolor": BAND, "opacity": 0.55, "line_width": 0, "layer": "below"}
    if horizontal:
        figure.add_vrect(x0=ends[0], x1=ends[1], **look)
    else:
        figure.add_hrect(y0=ends[0], y1=ends[1], **look)
