"""Figures of members and ensemble: learning, errors, parity; calibration, coverage, spread and error, offsets."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from matscout.report.figures.chart import (
    BLUE,
    DASHES,
    FAINT,
    MUTED,
    SERIES,
    SLATE,
    SURFACE,
    SYMBOLS,
    VERMILLION,
    chart,
    positive_axis,
)
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
    """Test error with its 95 % interval, one line for each baseline, each member and the ensemble.

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
    """Predicted and published values of the test fold, shaded by the predicted spread.

    Args:
        truth: (n,) published values.
        estimate: (n,) predicted values.
        std: (n,) predicted standard deviations, in the same unit.
        target: target whose values they are.

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
    """Error of the remaining rows if the least certain are removed, and for the best possible order.

    Args:
        curves: curves by target: `share_kept`, `mae` of the most certain, `oracle` of the smallest errors.
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
                    hovertemplate="%{x:.0f} % removed: %{y:.0f} % of the error<extra></extra>",
                )
            )
    figure = chart(*traces, x="least certain crystals removed (%)", y="MAE of the rest (% of all)")
    return figure.update_yaxes(rangemode="tozero")


def calibration(curves: Mapping[str, pd.DataFrame], intervals: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Share of test crystals inside the central intervals of each nominal level.

    Args:
        curves: curves of the predicted distributions, by target: `predicted`, `observed` (shares from 0 to 1).
        intervals: coverage of the conformal intervals, by target: `nominal`, `value`, `low`, `high`.
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
                hovertemplate="central %{x:.0f} % of the distribution: %{y:.1f} % of the crystals<extra></extra>",
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
                hovertemplate="%{x:.0f} % intervals: %{y:.1f} % of the crystals<extra></extra>",
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


def stratum_coverage(strata: pd.DataFrame, *, nominal: float) -> go.Figure:
    """Observed coverage of the `nominal` intervals by stratum, with 95 % intervals.

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
        deciles: deciles by target: `mae`, `mean_std`, `coverage_90`, nearest tenth of the test crystals first.
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
        x="tenths of the crystals by distance, nearest first",
        y="relative to the mean error",
    )
    return figure.update_yaxes(rangemode="tozero")


def spread_against_error(bins: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Root-mean-square error of crystals grouped by predicted spread; on the diagonal the spread is right.

    Args:
        bins: bins by target: `spread` (root-mean-square predicted standard deviation), `error`.
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
            hovertemplate="predicted ±%{x:.3f}, actual %{y:.3f}<extra></extra>",
        )
        for i, (target, rows) in enumerate(bins.items())
    ]
    figure = chart(_diagonal(low, high, "ideal"), *traces, x="predicted spread", y="actual error (RMS)")
    figure.update_xaxes(**positive_axis(values[:, 0]))
    return figure.update_yaxes(**positive_axis(values[:, 1]))


def interval_width(histograms: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Widths of the 90 % intervals: share of the test crystals by width relative to the mean width.

    Args:
        histograms: histograms by target: `low`, `high` (a bin's edges) and `mean` (of all widths), unit of the target;
            `share`.
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
    """Fitted reference offsets with their 95 % intervals, and the known ones of synthetic rows.

    Args:
        table: `term`, `value`, `low`, `high` and `planted` (NaN where nothing was planted), eV/atom.
    """
    rows = table.iloc[::-1]
    fitted = go.Scatter(
        x=1000 * rows["value"],
        y=rows["term"],
        mode="markers",
        name="fitted, joint 95 % interval",
        error_x={
            "type": "data",
            "array": 1000 * (rows["high"] - rows["value"]),
            "arrayminus": 1000 * (rows["value"] - rows["low"]),
            "thickness": 1.5,
            "width": 3,
        },
        marker={"color": BLUE, "size": 8},
        hovertemplate="%{y}: %{x:.0f} meV/atom<extra>fitted</extra>",
    )
    traces = [fitted]
    if rows["planted"].notna().any():
        traces.append(
            go.Scatter(
                x=1000 * rows["planted"],
                y=rows["term"],
                mode="markers",
                name="known (synthetic)",
                marker={
                    "color": VERMILLION,
                    "size": 10,
                    "symbol": "x-thin",
                    "line": {"width": 2.5, "color": VERMILLION},
                },
                hovertemplate="%{y}: %{x:.0f} meV/atom<extra>known</extra>",
            )
        )
    figure = chart(*traces, x="offset of formation energy (meV/atom)", y="")
    figure.add_vline(x=0, line={"color": FAINT, "width": 1})
    return figure.update_yaxes(gridcolor="rgba(0,0,0,0)")
