"""Volumes of atoms in known crystals, for `discovery/screen/unusual_cells.py`.

    python -m benchmarks.discovery.atomic_volumes

prints what each element's atom fills, fitted on the Materials Project rows of the bundled sample, and how far these
crystals lie from the sums.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from matscout.crystal import Crystal
from matscout.discovery.screen.unusual_cells import VACUUM_REMARKED, empty_widths, volume_ratio
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 30
USUAL = 0.3  # error of ln(volume) beyond which a crystal counts less: layers and molecules say little about atoms
FADING = 3.0
RIDGE = 0.02  # keeps elements that always occur together from having volumes of 0


def fit_atomic_volumes(crystals: Sequence[Crystal]) -> dict[str, float]:
    """Volumes, Å³, whose sums over the atoms give the crystals' volumes: non-negative least squares of relative errors.

    Args:
        crystals: known ones.

    Returns:
        Å³ by element symbol.
    """
    symbols = sorted({symbol for crystal in crystals for symbol in crystal.species})
    place = {symbol: column for column, symbol in enumerate(symbols)}
    counts = np.zeros((len(crystals), len(symbols)))
    for row, crystal in enumerate(crystals):
        np.add.at(counts[row], [place[symbol] for symbol in crystal.species], 1.0)
    volumes = np.array([crystal.volume for crystal in crystals])
    typical = float(np.median(volumes / counts.sum(axis=1)))
    weights = np.ones(len(crystals))
    fitted: NDArray[np.float64] = np.full(len(symbols), typical)
    for _ in range(ROUNDS):
        design = np.vstack([counts * (weights / volumes)[:, None], RIDGE / typical * np.eye(len(symbols))])
        fitted, _ = nnls(design, np.concatenate([weights, np.full(len(symbols), RIDGE)]))
        off = np.abs(np.log(volumes / (counts @ fitted)))
        weights = np.exp(-FADING * np.clip(off - USUAL, 0, None))
    return {symbol: round(float(volume), 1) for symbol, volume in zip(symbols, fitted, strict=True)}


def main() -> None:
    """Print the volumes and the quantiles of known crystals."""
    rows = read_snapshot(ROOT / "data" / "sample" / "materials_project")
    crystals = [row.crystal for row in rows if isinstance(row, Record)]
    fitted = fit_atomic_volumes(crystals)
    print(fitted)
    quantiles = (0.001, 0.005, 0.01, 0.5, 0.99, 0.995, 0.999)
    ratios = np.array([volume_ratio(crystal, fitted) for crystal in crystals])
    widths = np.sort([empty_widths(crystal) for crystal in crystals], axis=1)
    for name, values in (("volume / sum of atoms", ratios), ("widest gap, Å", widths[:, 2]), ("second", widths[:, 1])):
        print(f"{name}: {', '.join(f'{q:g}: {np.quantile(values, q):.2f}' for q in quantiles)}")
    print(f"{(widths[:, 2] > VACUUM_REMARKED).mean():.2%} have more than {VACUUM_REMARKED} Å without an atom")


if __name__ == "__main__":
    main()
