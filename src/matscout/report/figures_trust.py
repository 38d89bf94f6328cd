"""Figures of how sure: calibration, coverage by stratum, spread against error, offsets."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from matscout.report.chart import chart
from matscout.report.labels import name_of, unit_of
from matscout.report.palette import BLUE, DASHES, FAINT, MUTED, SERIES, SYMBOLS, VERMILLION


def calibration(curves: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Share of test crystals inside the central intervals of each nominal level.

    Args:
        curves: by target: `nominal`, `observed` (shares from 0 to 1).
    """
    ideal = go.Scatter(
        x=[0, 100],
        y=[0, 100],
        mode="lines",
        name="perfect",
        hoverinfo="skip",
        line={"color": MUTED, "dash": "dash", "width": 1.2},
    )
    traces = [
        go.Scatter(
            x=100 * curve["nominal"],
            y=100 * curve["observed"],
            mode="lines+markers",
            name=name_of(target),
            line={"color": SERIES[i], "dash": DASHES[0], "width": 2},
            marker={"symbol": SYMBOLS[i], "size": 6},
            hovertemplate="%{x:.0f} % intervals hold %{y:.1f} %<extra></extra>",
        )
        for i, (target, curve) in enumerate(curves.items())
    ]
    return chart(ideal, *traces, x="nominal level of the interval (%)", y="test crystals inside (%)")


def coverage(strata: pd.DataFrame, *, nominal: float) -> go.Figure:
    """Observed coverage of the `nominal` intervals per stratum, with 95 % intervals.

    Args:
        strata: `target`, `stratum`, `n`, `coverage`, `low`, `high`; in the order to show.
        nominal: the promised share, from 0 to 1.
    """
    order = list(dict.fromkeys(strata["stratum"]))[::-1]
    traces = []
    for i, (target, rows) in enumerate(strata.groupby("target", sort=True)):
        above, below = 100 * (rows["high"] - rows["coverage"]), 100 * (rows["coverage"] - rows["low"])
        traces.append(
            go.Scatter(
                x=100 * rows["coverage"],
                y=rows["stratum"],
                mode="markers",
                name=name_of(str(target)),
                customdata=rows["n"],
                marker={"color": SERIES[i], "symbol": SYMBOLS[i], "size": 9},
                error_x={"type": "data", "array": above, "arrayminus": below, "thickness": 1.5, "width": 3},
                hovertemplate="%{y}: %{x:.1f} % of %{customdata:,}<extra></extra>",
            )
        )
    figure = chart(*traces, x="inside the 90 % interval (%)", y="")
    figure.add_vline(x=100 * nominal, line={"color": MUTED, "dash": "dash", "width": 1.2})
    return figure.update_yaxes(categoryorder="array", categoryarray=order, gridcolor="rgba(0,0,0,0)")


def spread_against_error(bins: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Root-mean-square error of crystals grouped by predicted spread; on the line the spread is honest.

    Args:
        bins: by target: `spread` (root-mean-square predicted standard deviation), `error`, `n`.
    """
    ends = [
        min(float(b[c].min()) for b in bins.values() for c in ("spread", "error")),
        max(float(b[c].max()) for b in bins.values() for c in ("spread", "error")),
    ]
    ideal = go.Scatter(
        x=ends,
        y=ends,
        mode="lines",
        name="honest",
        hoverinfo="skip",
        line={"color": MUTED, "dash": "dash", "width": 1.2},
    )
    traces = [
        go.Scatter(
            x=rows["spread"],
            y=rows["error"],
            mode="lines+markers",
            customdata=rows["n"],
            name=f"{name_of(target)} ({unit_of(target)})",
            line={"color": SERIES[i], "width": 1.5},
            marker={"symbol": SYMBOLS[i], "size": 8},
            hovertemplate="predicted ±%{x:.3f}, found %{y:.3f}, %{customdata:,} crystals<extra></extra>",
        )
        for i, (target, rows) in enumerate(bins.items())
    ]
    figure = chart(ideal, *traces, x="predicted spread", y="error found (RMS)")
    figure.update_xaxes(type="log", tickformat="~g", nticks=5)
    return figure.update_yaxes(type="log", tickformat="~g", nticks=5)


def offsets(table: pd.DataFrame) -> go.Figure:
    """Fitted reference offsets with their 95 % intervals, beside what was planted.

    Args:
        table: `term`, `value`, `low`, `high` and `planted` (NaN where nothing was planted), eV/atom.
    """
    rows = table.iloc[::-1]
    fitted = go.Scatter(
        x=1000 * rows["value"],
        y=rows["term"],
        mode="markers",
        name="recovered, 95 % interval",
        error_x={
            "type": "data",
            "array": 1000 * (rows["high"] - rows["value"]),
            "arrayminus": 1000 * (rows["value"] - rows["low"]),
            "thickness": 1.5,
            "width": 3,
        },
        marker={"color": BLUE, "size": 8},
        hovertemplate="%{y}: %{x:.0f} meV/atom<extra>recovered</extra>",
    )
    traces = [fitted]
    if rows["planted"].notna().any():
        traces.append(
            go.Scatter(
                x=1000 * rows["planted"],
                y=rows["term"],
                mode="markers",
                name="planted (synthetic)",
                marker={
                    "color": VERMILLION,
                    "size": 10,
                    "symbol": "x-thin",
                    "line": {"width": 2.5, "color": VERMILLION},
                },
                hovertemplate="%{y}: %{x:.0f} meV/atom<extra>planted</extra>",
            )
        )
    figure = chart(*traces, x="offset of formation energy (meV/atom)", y="")
    figure.add_vline(x=0, line={"color": FAINT, "width": 1})
    return figure.update_yaxes(gridcolor="rgba(0,0,0,0)")
