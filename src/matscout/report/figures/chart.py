"""The common look of every figure, and its stable JSON."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from matscout.report.figures.palette import FAINT, GRID, INK, MUTED, SURFACE

WIDE = 6.0  # ratio from which an axis is logarithmic: three labelled ticks or more
LONG = 100.0  # ratio from which powers of ten are ticks enough; below, 1, 2 and 5 are
SIGNIFICANT = 5  # digits kept of every number drawn
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif'


def chart(*traces: Any, x: str, y: str, **layout: Any) -> go.Figure:
    """A figure with the page's axes.

    Args:
        traces: of plotly.
        x: title of the horizontal axis, with its unit.
        y: title of the vertical axis, with its unit.
        layout: of plotly, over the page's own.

    Returns:
        The figure.
    """
    figure = go.Figure(list(traces))
    axis = {"gridcolor": GRID, "linecolor": FAINT, "zeroline": False, "ticks": "", "automargin": True}
    titles = {"font": {"size": 12, "color": MUTED}, "standoff": 8}
    figure.update_layout(
        template="none",
        font={"family": FONT, "size": 12, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 56, "r": 12, "t": 12, "b": 48},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left", "font": {"size": 12}},
        hoverlabel={"bgcolor": SURFACE, "bordercolor": FAINT, "font": {"color": INK, "size": 12}},
        xaxis=axis | {"title": {"text": x} | titles},
        yaxis=axis | {"title": {"text": y} | titles},
        dragmode=False,
    )
    return figure.update_layout(**layout)


def positive_axis(values: np.ndarray) -> dict[str, Any]:
    """An axis for positive values: logarithmic where they span enough, else linear."""
    usable = values[np.isfinite(values) & (values > 0)]
    if len(usable) == 0 or usable.max() < WIDE * usable.min():
        return {"type": "linear"}
    is_long = usable.max() > LONG * usable.min()
    return {"type": "log", "dtick": 1 if is_long else "D2", "tickformat": "~g"}


def to_json(figures: Mapping[str, go.Figure]) -> str:
    """Figures by name as JSON with sorted keys, plain lists and rounded numbers: same data, same bytes."""
    plain = {name: _plain(_parts(figure)) for name, figure in figures.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _parts(figure: Any) -> dict[str, Any]:
    """Traces and layout with their arrays as they are; `Figure.to_dict` would pack them as base64."""
    return {"data": [trace.to_plotly_json() for trace in figure.data], "layout": figure.layout.to_plotly_json()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT}g}") if np.isfinite(value) else None
    return value
