"""Fit the line from PBE gaps to measured ones: python -m benchmarks.accuracy.experimental_gap.

Prints what stands in `matscout.discovery.rank.experimental_gap`: slope, intercept, errors, and the same for the line of
Setyawan et al. (2011). Needs ../shared/data/gaps_beyond_pbe; says so and stops where it is absent.
"""

import gzip
import json
import sys
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.shared_rows import SHARED

ROWS: Final = SHARED / "gaps_beyond_pbe" / "borlido2019_472.jsonl.gz"
METAL: Final = 0.05  # eV: below it PBE calls a crystal a metal, and the line says nothing
SETYAWAN: Final = (1.348, 0.913)  # ACS Comb. Sci. 13, 382 (2011)


@dataclass(frozen=True)
class Line:
    """`measured = slope * PBE + intercept`, its mean absolute error and how far nine gaps in ten lie about it, eV."""

    slope: float
    intercept: float
    mae: float
    below: float
    above: float


def gaps() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) PBE and measured gaps, eV, of the crystals that PBE calls no metals."""
    with gzip.open(ROWS, "rt") as stream:
        rows = [json.loads(line) for line in stream]
    pairs = np.array([(row["PBE"], row["experimental"]) for row in rows], dtype=np.float64)
    pairs = pairs[np.isfinite(pairs).all(axis=1) & (pairs[:, 0] > METAL)]
    return pairs[:, 0], pairs[:, 1]


def line(pbe: NDArray[np.float64], measured: NDArray[np.float64], known: tuple[float, float] | None = None) -> Line:
    """The line of least squares, or a known one, and how it errs."""
    slope, intercept = np.polyfit(pbe, measured, 1) if known is None else known
    missed = measured - (slope * pbe + intercept)
    below, above = np.quantile(missed, [0.05, 0.95])
    return Line(float(slope), float(intercept), float(np.abs(missed).mean()), float(-below), float(above))


def main() -> None:
    """Print the fit and the older line."""
    if not ROWS.is_file():
        sys.exit(f"{ROWS} is absent: nothing was fitted")
    pbe, measured = gaps()
    print(f"{len(pbe)} crystals; PBE itself: mean absolute error {np.abs(measured - pbe).mean():.2f} eV")
    for name, found in (("fitted", line(pbe, measured)), ("Setyawan 2011", line(pbe, measured, SETYAWAN))):
        print(f"{name}: {found}")


if __name__ == "__main__":
    main()
