"""Errors of the ensemble by what a crystal is: size, chemistry, metal or not."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from matscout import columns

SITES = (0, 5, 10, 20, 50, 200)
HALOGENS = {"F", "Cl", "Br", "I"}
NONMETALS = {
    "H", "He", "B", "C", "N", "O", "F", "Ne", "Si", "P", "S", "Cl", "Ar", "As", "Se", "Br", "Kr", "Te", "I", "Xe",
}  # fmt: skip  # a crystal without any of these is called an intermetallic; Ge and Sb count as metals


def chemistry(species: Sequence[str]) -> str:
    """One of oxide, halide, intermetallic, other; an oxide that holds a halogen is an oxide."""
    elements = set(species)
    if "O" in elements:
        return "oxide"
    if elements & HALOGENS:
        return "halide"
    return "other" if elements & NONMETALS else "intermetallic"


def errors_by_group(
    predictions: pd.DataFrame, materials: pd.DataFrame, targets: list[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """By target and group: mean absolute error and number of rows."""
    species = materials.set_index(columns.MATERIAL_ID)[columns.SPECIES].loc[predictions[columns.MATERIAL_ID]]
    n_sites = np.array([len(symbols) for symbols in species])
    kinds = np.array([chemistry(symbols) for symbols in species])
    gap = predictions["band_gap" + columns.TRUTH].to_numpy()
    groups = {f"{low + 1} to {high} sites": (n_sites > low) & (n_sites <= high) for low, high in pairwise(SITES)}
    groups |= {kind: kinds == kind for kind in ("oxide", "halide", "intermetallic", "other")}
    groups |= {"metal": gap == 0, "non-metal": gap > 0}
    results: dict[str, dict[str, dict[str, float]]] = {}
    for target in targets:
        error = np.abs(predictions[target] - predictions[target + columns.TRUTH]).to_numpy()
        results[target] = {
            name: {"n": int(mask.sum()), "mae": round(float(np.nanmean(error[mask])), 4)}
            for name, mask in groups.items()
            if mask.any()
        }
    return results
