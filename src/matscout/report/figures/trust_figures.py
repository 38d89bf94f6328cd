"""Figures of the uncertainty: calibration, coverage by stratum, spread against error, offsets."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from matscout.report.figures.chart import chart, positive_axis
from matscout.report.figures.palette import BLUE, DASHES, FAINT, MUTED, SERIES, SYMBOLS, VERMILLION
from matscout.report.wording import name_of, unit_of


def calibration(curves: Mapping[str, pd.DataFrame], intervals: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Share of test crystals inside the central intervals of each nominal level.

    Args:
        curves: of the predicted distributions, by target: `predicted`, `observed` (shares from 0 to 1).
        intervals: of the conformal intervals, by target: `nominal`, `value`, `low`, `high`.
    """
    traces = [_diagonal(0, 100, "perfect")]
    for i, (target, curve) in enumerate(curves.items()):
        traces.append(
            go.Scatter(
                x=100 * curve["predicted"],
                y=100 * curve["observed"],
                mode="lines",
                name=f"{name_of(target)}, distribution",
                line={"color": SERIES[i], "width": 1.5, "dash": DASHES[i]},
                hovertemplate="%{x:.0f} % of the distribution hold %{y:.1f} %<extra></extra>",
            )
        )
        traces.append(
            go.Scatter(
                x=100 * intervals[target]["nominal"],
                y=100 * intervals[target]["value"],
                mode="markers",
                name=f"{name_of(target)}, intervals",
                error_y=_bars(intervals[target], "value", 100),
                marker={"symbol": SYMBOLS[i], "size": 9, "color": SERIES[i]},
                hovertemplate="%{x:.0f} % intervals hold %{y:.1f} %<extra></extra>",
            )
        )
    return chart(*traces, x="nominal level (%)", y="test crystals inside (%)")


def _diagonal(low: float, high: float, name: str) -> go.Scatter:
    line = {"color": MUTED, "dash": "dash", "width": 1.2}
    return go.Scatter(x=[low, high], y=[low, high], mode="lines", name=name, hoverinfo="skip", line=line)


def _bars(rows: pd.DataFrame, column: str, factor: float) -> dict[str, Any]:
    """Error bars from the columns `low` and `high` around `column`."""
    above, below = factor * (rows["high"] - rows[column]), factor * (rows[column] - rows["low"])
    return {"type": "data", "array": above, "arrayminus": below, "thickness": 1.5, "width": 3}


def coverage(strata: pd.DataFrame, *, nominal: float) -> go.Figure:
    """Observed coverage of the `nominal` intervals per stratum, with 95 % intervals.

    Args:
        strata: `target`, `stratum`, `n`, `coverage`, `low`, `high`; in the order to show.
        nominal: the promised share, from 0 to 1.
    """
    order = list(dict.fromkeys(strata["stratum"]))[::-1]
    traces = [
        go.Scatter(
            x=100 * rows["coverage"],
            y=rows["stratum"],
            orientation="h",
            offsetgroup=str(target),
            mode="markers",
            name=name_of(str(target)),
            customdata=rows["n"],
            marker={"color": SERIES[i], "symbol": SYMBOLS[i], "size": 8},
            error_x=_bars(rows, "coverage", 100),
            hovertemplate="%{y}: %{x:.1f} % of %{customdata:,}<extra></extra>",
        )
        for i, (target, rows) in enumerate(strata.groupby("target", sort=False))
    ]
    figure = chart(*traces, x=f"inside the {100 * nominal:.0f} % interval (%)", y="", scattermode="group")
    figure.add_vline(x=100 * nominal, line={"color": MUTED, "dash": "dash", "width": 1.2})
    figure.update_xaxes(range=[100 * min(float(strata["low"].to_numpy().min()), nominal) - 2, 101])
    return figure.update_yaxes(categoryorder="array", categoryarray=order, gridcolor="rgba(0,0,0,0)")


def distance(deciles: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Error and predicted spread by distance from the training set, each relative to the mean error.

    Args:
        deciles: by target: `mae`, `mean_std`, `coverage_90`, nearest tenth of the test crystals first.
    """
    traces = []
    for i, (target, rows) in enumerate(deciles.items()):
        for column, dash, what in (("mae", "solid", "error"), ("mean_std", "dot", "predicted spread")):
            traces.append(
                go.Scatter(
                    x=list(range(1, len(rows) + 1)),
                    y=rows[column] / rows["mae"].mean(),
                    customdata=100 * rows["coverage_90"],
                    mode="lines+markers",
                    name=f"{name_of(target)}, {what}",
                    line={"color": SERIES[i], "dash": dash, "width": 2},
                    marker={"symbol": SYMBOLS[i], "size": 6},
                    hovertemplate="tenth %{x}: %{y:.2f} times the mean error, coverage %{customdata:.0f} %"
                    "<extra></extra>",
                )
            )
    figure = chart(
        *traces,
        x="tenths by distance, nearest first",
        y="relative to the mean error",
    )
    return figure.update_yaxes(rangemode="tozero")


def spread_against_error(bins: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Root-mean-square error of crystals grouped by predicted spread; on the line the spread is right.

    Args:
        bins: by target: `spread` (root-mean-square predicted standard deviation), `error`.
    """
    values = np.concatenate([rows[["spread", "error"]].to_numpy(dtype=float) for rows in bins.values()])
    low, high = float(values[values > 0].min(initial=np.inf)), float(values.max())
    traces = [
        go.Scatter(
            x=rows["spread"],
            y=rows["error"].where(rows["error"] > 0),
            mode="lines+markers",
            name=f"{name_of(target)} ({unit_of(target)})",
            line={"color": SERIES[i], "width": 1.5},
            marker={"symbol": SYMBOLS[i], "size": 8},
            hovertemplate="predicted ±%{x:.3f}, found %{y:.3f}<extra></extra>",
        )
        for i, (target, rows) in enumerate(bins.items())
    ]
    figure = chart(_diagonal(low, high, "honest"), *traces, x="predicted spread", y="error found (RMS)")
    figure.update_xaxes(**positive_axis(values[:, 0]))
    return figure.update_yaxes(**positive_axis(values[:, 1]))


def interval_width(histograms: Mapping[str, pd.DataFrame]) -> go.Figure:
    """How wide the 90 % intervals are: share of the test crystals by width relative to the mean width.

    Args:
        histograms: by target: `low`, `high` (a bin's edges) and `mean` (of all widths), unit of the target; `share`.
    """
    traces = []
    for i, (target, bins) in enumerate(histograms.items()):
        labels = [
            f"{low:.3g} to {high:.3g} {unit_of(target)}" for low, high in zip(bins["low"], bins["high"], strict=True)
        ]
        traces.append(
            go.Scatter(
                x=(bins["low"] + bins["high"]) / (2 * bins["mean"]),
                y=100 * bins["share"],
                customdata=labels,
                mode="lines+markers",
                name=name_of(target),
                line={"color": SERIES[i], "width": 1.5, "shape": "hvh"},
                marker={"symbol": SYMBOLS[i], "size": 6},
                hovertemplate="%{customdata}: %{y:.1f} % of the crystals<extra></extra>",
            )
        )
    figure = chart(*traces, x="width of the 90 % interval, 1 = mean", y="test crystals (%)")
    figure.add_vline(x=1, line={"color": MUTED, "dash": "dash", "width": 1.2})
    return figure.update_yaxes(rangemode="tozero")


def offsets(table: pd.DataFrame) -> go.Figure:
    """Fitted reference offsets with their 95 % intervals, beside the planted ones.

    Args:
        table: `term`, `value`, `low`, `high` and `planted` (NaN where nothing was planted), eV/atom.
    """
    rows = table.iloc[::-1]
    fitted = go.Scatter(
        x=1000 * rows["value"],
        y=rows["term"],
        mode="markers",
        name="recovered, joint 95 % interval",
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
