"""Volumes of atoms in known crystals, for `discovery/screen/predict_usable.py`.

    python -m benchmarks.discovery.atomic_volumes

prints what each element's atom fills, fitted on the Materials Project rows of the bundled sample, and how far these
crystals lie from the sums.
"""

from pathlib import Path

import numpy as np

from matscout.crystal import SYMBOLS
from matscout.discovery.screen.predict_usable import VACUUM_REMARKED, empty_widths, volume_ratio
from matscout.hypothetical.draw_crystals import fit_atomic_volumes
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Print the volumes and the quantiles of known crystals."""
    rows = read_snapshot(ROOT / "data" / "sample" / "materials_project")
    crystals = [row.crystal for row in rows if isinstance(row, Record)]
    by_number = fit_atomic_volumes(crystals)
    fitted = {SYMBOLS[z]: round(float(by_number[z]), 1) for z in np.flatnonzero(np.isfinite(by_number))}
    print(fitted)
    quantiles = (0.001, 0.005, 0.01, 0.5, 0.99, 0.995, 0.999)
    ratios = np.array([volume_ratio(crystal, fitted) for crystal in crystals])
    widths = np.sort([empty_widths(crystal) for crystal in crystals], axis=1)
    for name, values in (("volume / sum of atoms", ratios), ("widest gap, Å", widths[:, 2]), ("second", widths[:, 1])):
        print(f"{name}: {', '.join(f'{q:g}: {np.quantile(values, q):.2f}' for q in quantiles)}")
    print(f"{(widths[:, 2] > VACUUM_REMARKED).mean():.2%} have more than {VACUUM_REMARKED} Å without an atom")


if __name__ == "__main__":
    main()
