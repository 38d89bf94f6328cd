"""Colours: readable on both pages, apart for the colour-blind."""

import itertools

import numpy as np
import pytest

from matscout.report.figures import chart

# Machado, Oliveira & Fernandes (2009), severity 1.0, on linear RGB
DEFICIENCY = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
}  # fmt: skip
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(color, matrix):
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    x, y, z = XYZ @ np.clip(matrix @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = [t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", DEFICIENCY)
def test_series_that_meet_in_one_figure_stay_apart(name, dark):
    """The first two are targets and meet most; all six meet with dashes that differ too."""
    colors = [chart.DARK_TWINS[c] if dark else c for c in chart.SERIES]
    points = [lab(color, DEFICIENCY[name]) for color in colors]
    assert np.linalg.norm(points[0] - points[1]) > 40
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(points, 2)]
    assert min(distances) > 15


@pytest.mark.parametrize("color", [*chart.SERIES, chart.INK, chart.MUTED])
def test_lines_and_words_stand_out_on_both_pages(color):
    wanted = 4.5 if color in {chart.INK, chart.MUTED} else 3.0
    assert chart.contrast(color, chart.SURFACE) >= wanted
    assert chart.contrast(chart.DARK_TWINS[color], chart.DARK_TWINS[chart.SURFACE]) >= wanted


def test_contrast_of_black_on_white_is_21():
    assert chart.contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("ramp", [chart.DATA_RAMP, chart.ERROR_RAMP])
def test_symbols_are_readable_all_along_a_ramp(ramp):
    for low, high in ramp:
        for share in np.linspace(0, 1, 101):
            color = chart.mix(low, high, share)
            assert chart.contrast(color, chart.readable_on(color)) >= 4.5


def test_mix_ends_at_its_ends():
    assert chart.mix("#102030", "#f0e0d0", 0) == "#102030"
    assert chart.mix("#102030", "#f0e0d0", 1) == "#f0e0d0"
