"""The estimate of the measured gap: the published fit, and intervals that hold."""

import numpy as np
import pandas as pd
import pytest
from benchmarks.accuracy.experimental_gap import ROWS, SETYAWAN, gaps, line

from matscout.discovery.rank.experimental_gap import ABOVE, BELOW, INTERCEPT, SLOPE, add_experimental_gap


def test_metals_get_none_and_intervals_add_in_quadrature():
    table = pd.DataFrame({"band_gap": [0.0, 2.0], "band_gap_lo90": [0.0, 1.0], "band_gap_hi90": [0.3, 2.0]})
    add_experimental_gap(table)
    assert np.isnan(table["band_gap_experimental"][0])
    assert table["band_gap_experimental"][1] == pytest.approx(2 * SLOPE + INTERCEPT)
    low = 2 * SLOPE + INTERCEPT - np.hypot(SLOPE, BELOW)
    assert table["band_gap_experimental_lo90"][1] == pytest.approx(low)
    assert table["band_gap_experimental_hi90"][1] == pytest.approx(2 * SLOPE + INTERCEPT + ABOVE)
    without = pd.DataFrame({"bulk_modulus": [1.0]})
    add_experimental_gap(without)
    assert list(without) == ["bulk_modulus"]


def test_the_coefficients_are_those_of_the_data():
    if not ROWS.is_file():
        pytest.skip(f"{ROWS} is absent: the coefficients cannot be fitted again")
    pbe, measured = gaps()
    assert len(pbe) == 431
    fitted = line(pbe, measured)
    assert (fitted.slope, fitted.intercept) == pytest.approx((SLOPE, INTERCEPT), abs=5e-4)
    assert (fitted.below, fitted.above) == pytest.approx((BELOW, ABOVE), abs=5e-3)
    assert fitted.mae < line(pbe, measured, SETYAWAN).mae < np.abs(measured - pbe).mean()
