"""The ensemble on subgroups of the test fold: coverage by kind of crystal, errors by element."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd
from pymatgen.core import Element

from matscout import columns
from matscout.report.run import Run
from matscout.report.wording import name_of

FEWEST_ROWS: Final = 20  # a smaller stratum is not shown
FEWEST_PER_ELEMENT: Final = 5
Z95: Final = 1.959964
CHEMISTRIES: Final = ("oxides", "halides", "chalcogenides", "pnictides", "intermetallics", "other")


def test_rows(run: Run, target: str) -> pd.DataFrame:
    """Test crystals with a label of `target`: label, estimate, spread, interval, flags, source and species.

    Raises:
        InputError: a file of an earlier stage is missing.
    """
    held_out = run.predictions
    rows = held_out[(held_out[columns.FOLD] == columns.TEST) & held_out[target + columns.TRUTH].notna()]
    species = run.materials[[columns.MATERIAL_ID, columns.SPECIES]]
    return rows.merge(species, on=columns.MATERIAL_ID, how="inner").sort_values(columns.MATERIAL_ID)


def error_of(rows: pd.DataFrame, target: str) -> pd.Series:
    """Absolute error of each row, in the target's unit."""
    return pd.Series(np.abs(rows[target + columns.TRUTH].to_numpy() - rows[target].to_numpy()), index=rows.index)


def chemistry_of(species: list[str]) -> str:
    """The class of a crystal by its most electronegative kind of anion."""
    elements = {symbol: Element(symbol) for symbol in set(species)}
    if "O" in elements:
        return "oxides"
    if any(e.is_halogen for e in elements.values()):
        return "halides"
    if any(e.is_chalcogen for e in elements.values()):
        return "chalcogenides"
    if elements.keys() & {"N", "P", "As", "Sb", "Bi"}:
        return "pnictides"
    return "intermetallics" if all(e.is_metal for e in elements.values()) else "other"


def coverage_by_stratum(rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """How many test crystals of each stratum lie inside their 90 % interval.

    Returns:
        `stratum`, `n`, `coverage`, `low`, `high` (Wilson's 95 % interval); strata of fewer than
        `FEWEST_ROWS` crystals are left out.
    """
    inside = rows[target + columns.TRUTH].between(rows[target + columns.LO90], rows[target + columns.HI90]).to_numpy()
    table = []
    for stratum, mask in _strata(rows, target):
        n, hits = int(mask.sum()), int(inside[mask].sum())
        if n >= FEWEST_ROWS:
            low, high = wilson(hits, n)
            table.append({"stratum": stratum, "n": n, "coverage": hits / n, "low": low, "high": high})
    return pd.DataFrame(table, columns=["stratum", "n", "coverage", "low", "high"])


def _strata(rows: pd.DataFrame, target: str) -> Iterator[tuple[str, np.ndarray]]:
    yield "all test crystals", np.ones(len(rows), bool)
    sources = rows[columns.SOURCE]
    names = sorted(sources.unique())
    if len(names) > 1:
        for source in names:
            yield name_of(source), (sources == source).to_numpy()
    if target == columns.BAND_GAP:
        metal = (rows[target] == 0).to_numpy()
        yield "predicted metals", metal
        yield "predicted non-metals", ~metal
    chemistry = np.array([chemistry_of(list(species)) for species in rows[columns.SPECIES]])
    for name in CHEMISTRIES:
        yield name, chemistry == name
    n_elements = rows[columns.SPECIES].map(lambda species: len(set(species))).to_numpy()
    far = rows[columns.FAR_FROM_TRAINING].to_numpy(bool)
    yield "near the training data", ~far
    yield "far from the training data", far
    yield "1 or 2 elements", n_elements <= 2
    yield "3 elements", n_elements == 3
    yield "4 or more elements", n_elements >= 4


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927)."""
    share = hits / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def crystals_by_element(species: pd.Series) -> dict[str, float]:
    """How many crystals hold each element."""
    counts = species.map(lambda symbols: sorted(set(symbols))).explode().value_counts()
    return {str(symbol): float(n) for symbol, n in sorted(counts.items())}


def error_by_element(rows: pd.DataFrame, target: str) -> dict[str, float]:
    """Mean absolute error of the test crystals that hold each element, where there are enough of them."""
    long = pd.DataFrame(
        {"symbol": rows[columns.SPECIES].map(lambda s: sorted(set(s))), "error": error_of(rows, target)}
    ).explode("symbol")
    found: dict[str, float] = {}
    for symbol, errors in long.groupby("symbol", sort=True)["error"]:
        if len(errors) >= FEWEST_PER_ELEMENT:
            found[str(symbol)] = float(errors.to_numpy().mean())
    return found
