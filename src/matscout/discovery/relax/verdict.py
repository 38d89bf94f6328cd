"""Combine the formation energies that ensemble and potential predict for a relaxed crystal."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.discovery.relax.potential_judge import Opinion
from matscout.ensemble.mixture import Mixture
from matscout.hypothetical.potential_scale import DISAGREEMENT_TO_ERROR
from matscout.models.families.laplace import Laplace

Array = NDArray[np.float64]

Z90: Final = 1.6448536269514722  # half width of the central 90 % of a Gaussian, in standard deviations
LAPLACE_90: Final = float(np.log(10.0))  # half width of the central 90 % of a Laplace distribution, in scales
FARTHEST: Final = 5.0  # standard deviations between the two predictions beyond which the potential is ignored
BY_ENSEMBLE: Final = "_by_ensemble"
BY_POTENTIAL: Final = "_by_potential"
WEIGHT: Final = "weight_of_potential"
DISAGREE: Final = "judges_disagree"
REMARK: Final = "judges_remark"


@dataclass(frozen=True)
class Combined:
    """The combined formation energies of n crystals, eV/atom; NaN where the potential is not used.

    Attributes:
        energy: (n,) weighted mean.
        std: (n,) standard deviation of its error.
        weight: (n,) weight of the potential, 0 to 1.
        distance: (n,) difference of the two predictions, in its standard deviations; NaN where the potential gives
            no energy.
    """

    energy: Array
    std: Array
    weight: Array
    distance: Array


def combine(ensemble: Array, ensemble_std: Array, potential: Opinion, correlation: float) -> Combined:
    """The linear combination of least variance of two predictions with correlated errors.

    An ensemble that was trained on such crystals with labels by a potential has the error of the labels and its own
    error in addition, so the covariance of both errors is at least the smaller variance. The more certain prediction,
    nearly always that of the potential, then gets all of the weight. The standard deviation is never below the error
    of the potential's labels, because agreement of the two predictions proves little. If they differ by more than one
    standard deviation of their difference, it grows by that factor (Birge, Phys. Rev. 40, 207, 1932). Beyond `FARTHEST`
    standard deviations the potential is ignored: its energy surface may have holes, while the ensemble's predictions
    stay within the range of its training.

    Args:
        ensemble: (n,) formation energies by the ensemble, eV/atom.
        ensemble_std: (n,) standard deviations of their errors.
        potential: predictions of the potential for the same crystals.
        correlation: correlation of the two errors, below 1.
    """
    second, second_std = potential.energy, potential.std
    shared = correlation * ensemble_std * second_std
    variance = ensemble_std**2 + second_std**2 - 2 * shared  # of the difference
    if potential.taught:
        shared = np.maximum(shared, np.minimum(ensemble_std, second_std) ** 2)
    separate = ensemble_std**2 + second_std**2 - 2 * shared
    weight = np.divide(ensemble_std**2 - shared, separate, out=np.ones_like(separate), where=separate > 0).clip(
        0.0, 1.0
    )
    energy = weight * second + (1 - weight) * ensemble
    std = np.sqrt(weight**2 * second_std**2 + (1 - weight) ** 2 * ensemble_std**2 + 2 * weight * (1 - weight) * shared)
    distance = np.abs(second - ensemble) / np.sqrt(variance)
    std = np.maximum(std, DISAGREEMENT_TO_ERROR * second_std) * np.maximum(1.0, distance)
    unknown = ~np.isfinite(second) | (distance > FARTHEST)
    energy, std, weight = (np.where(unknown, np.nan, value) for value in (energy, std, weight))
    return Combined(energy, std, weight, distance)


def with_verdict(
    predicted: pd.DataFrame, mixtures: Mapping[str, Mixture], potential: Opinion, correlation: float
) -> tuple[pd.DataFrame, dict[str, Mixture]]:
    """The ensemble's table and distributions of n relaxed crystals, with the combined formation energy.

    Further columns hold both predictions, the weight of the potential, and whether the predictions differ by more than
    their errors allow in nine of ten cases. A crystal without an energy by the potential keeps the ensemble's.

    Args:
        predicted: table of the ensemble.
        mixtures: distributions of the ensemble.
        potential: predictions of the potential for the same crystals.
        correlation: correlation of the two errors.
    """
    target = columns.FORMATION_ENERGY
    table = predicted.copy()
    ensemble, spread = (predicted[name].to_numpy(np.float64) for name in (target, target + columns.STD))
    found = combine(ensemble, spread, potential, correlation)
    known = np.isfinite(found.energy)
    reach = LAPLACE_90 / np.sqrt(2.0) * found.std
    table[target] = np.where(known, found.energy, ensemble)
    table[target + columns.STD] = np.where(known, found.std, spread)
    for end, sign in ((columns.LO90, -1), (columns.HI90, 1)):
        table[target + end] = np.where(known, found.energy + sign * reach, predicted[target + end])
    table[target + BY_ENSEMBLE], table[target + BY_ENSEMBLE + columns.STD] = ensemble, spread
    table[target + BY_POTENTIAL] = potential.energy
    table[target + BY_POTENTIAL + columns.STD] = np.where(known, potential.std, np.nan)
    table[WEIGHT] = np.where(known, found.weight, 0.0)
    apart = found.distance > Z90
    table[DISAGREE] = apart
    differences = potential.energy - ensemble
    table[REMARK] = [_words(*row) for row in zip(known, differences, found.distance, strict=True)]
    return table, {**mixtures, target: _moved(mixtures[target], found, known)}


def _words(known: bool, difference: float, distance: float) -> str:
    if not np.isfinite(distance):
        return "the potential gives no energy on this scale; only the ensemble is used"
    if distance <= Z90:
        return ""
    side = "above" if difference > 0 else "below"
    words = f"the potential lies {abs(difference):.2f} eV/atom {side} the ensemble, {distance:.1f} standard deviations"
    return words if known else f"{words}; only the ensemble is used"


def _moved(mixture: Mixture, found: Combined, known: NDArray[np.bool_]) -> Mixture:
    """Replace the distribution of every member by the combined one, where there is one."""
    components = []
    for component in mixture.components:
        if not isinstance(component, Laplace):
            raise TypeError(f"{type(component).__name__}: only Laplace-distributed energies can be combined")
        loc = np.where(known, found.energy, component.loc)
        components.append(Laplace(loc, np.where(known, found.std / np.sqrt(2.0), component.scale)))
    return replace(mixture, components=tuple(components))
