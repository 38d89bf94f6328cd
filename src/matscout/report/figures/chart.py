"""The common style of all figures, with colours for colour-blind readers, and stable JSON of a figure."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

WIDE = 6.0  # ratio of the largest to the smallest value from which an axis is logarithmic
LONG = 100.0  # ratio from which only powers of ten are ticks; below it, 1, 2 and 5 are too
SIGNIFICANT = 5  # digits kept of every number in a figure
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif'


def chart(*traces: Any, x: str, y: str, **layout: Any) -> go.Figure:
    """A figure with the axes of the page.

    Args:
        traces: traces of plotly.
        x: title of the horizontal axis, with its unit.
        y: title of the vertical axis, with its unit.
        layout: layout of plotly, over the page's own.

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
    """An axis for positive values: logarithmic if they span a wide range, otherwise linear."""
    usable = values[np.isfinite(values) & (values > 0)]
    if len(usable) == 0 or usable.max() < WIDE * usable.min():
        return {"type": "linear"}
    is_long = usable.max() > LONG * usable.min()
    return {"type": "log", "dtick": 1 if is_long else "D2", "tickformat": "~g"}


def to_json(figures: Mapping[str, go.Figure]) -> str:
    """Figures by name as JSON; keys are sorted and numbers rounded, so that equal data give equal bytes."""
    plain = {name: _plain(_parts(figure)) for name, figure in figures.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _parts(figure: Any) -> dict[str, Any]:
    """Traces and layout with plain arrays; `Figure.to_dict` would encode them as base64."""
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


# Okabe & Ito's first three hues (https://jfly.uni-koeln.de/color) and three that differ from them in
# lightness too, so that colour-blind readers can separate them; contrast with the page is at least 3:1.
# Figures contain the light colours; a dark page replaces them by their twins.
BLUE: Final = "#0072b2"
VERMILLION: Final = "#d55e00"
GREEN: Final = "#009e73"
PURPLE: Final = "#8a1c6b"
OCHRE: Final = "#5f4b00"
SLATE: Final = "#1f2937"
SERIES: Final = (BLUE, VERMILLION, GREEN, PURPLE, OCHRE, SLATE)

INK: Final = "#1c2430"
MUTED: Final = "#5b6675"
FAINT: Final = "#b6c0cc"
GRID: Final = "#e3e8ee"
SURFACE: Final = "#ffffff"
BAND: Final = "#cfe4f5"

DARK_TWINS: Final = MappingProxyType(
    {
        BLUE: "#4fb0ee",
        VERMILLION: "#ff8b45",
        GREEN: "#35c99b",
        PURPLE: "#d957a8",
        OCHRE: "#f5e663",
        SLATE: "#e8edf3",
        INK: "#e8edf3",
        MUTED: "#9eabba",
        FAINT: "#56616e",
        GRID: "#2a333e",
        SURFACE: "#161c24",
        BAND: "#1d3f58",
    }
)

# sequential ramps, (light page, dark page): larger values are darker on white and brighter on black
DATA_RAMP: Final = (("#d3e6f6", "#0b3c6f"), ("#1b2a38", "#a9d6ff"))
ERROR_RAMP: Final = (("#fbe3d0", "#7a2b00"), ("#33231a", "#ffb88a"))

DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "x", "cross")


def mix(low: str, high: str, share: float) -> str:
    """Mix two colours in sRGB.

    Args:
        low: `#rrggbb`, for the share 0.
        high: `#rrggbb`, for the share 1.
        share: share of `high`, from 0 to 1.

    Returns:
        `#rrggbb`.
    """
    parts = (round(int(low[i : i + 2], 16) * (1 - share) + int(high[i : i + 2], 16) * share) for i in (1, 3, 5))
    return "#" + "".join(f"{part:02x}" for part in parts)


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def readable_on(background: str) -> str:
    """Black or white: whichever contrasts more with `background`."""
    return max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, background))
