"""A potential's energy scale and the curated table's: an offset per element, and corrections, lie between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.compositions import atomic_fractions, fractions_of_formulas
from matscout.crystal import Crystal, formula_key
from matscout.curation.reference_offsets import MAD_TO_STD, OffsetFit, Pairs, fit_offset
from matscout.errors import InputError
from matscout.hypothetical.potential_labels import (
    CORRECTION,
    ENERGY,
    EXCHANGED,
    ROUTE,
    SCALE,
    SECOND_ENERGY,
    Labels,
    drawn_from,
)
from matscout.params import Offsets

Array = NDArray[np.float64]

DISAGREEMENT_TO_ERROR: Final = 1.4  # a label's error over the difference of two potentials; chosen on WBM and OQMD
SHRINKAGE: Final = 20.0  # the error of all elements counts as much as this many rows of an element's own


@dataclass(frozen=True)
class EnergyScale:
    """Moves a potential's energies to the curated table's formation energies.

    Attributes:
        fit: the offset by composition, of energies without corrections.
        joined: (118,) elements that a known crystal of the fit holds.
        corrections: scheme that the potential's energies contain.
    """

    fit: OffsetFit
    joined: NDArray[np.bool_]
    corrections: str

    @classmethod
    def of(cls, pairs: Pairs, offsets: Offsets, corrections: str = columns.UNCORRECTED) -> "EnergyScale":
        """From known crystals; see `known_pairs`."""
        return cls(fit_offset(pairs, offsets), np.any(pairs.fractions != 0, axis=0).reshape(-1), corrections)

    def aligned(self, energies: Array, crystals: Sequence[Crystal]) -> Array:
        """(n,) formation energies, eV/atom, with MP2020 corrections; NaN with an element that no known crystal joins.

        Args:
            energies: (n,) the potential's, eV/atom.
            crystals: their cells.
        """
        from matscout.sources.energy_corrections import correction_per_atom  # here: it loads pymatgen's input sets

        fractions = atomic_fractions([crystal.species for crystal in crystals])
        offset, _ = self.fit.at(fractions, np.zeros(len(crystals)))
        structures = [crystal.to_structure() for crystal in crystals]
        target, own = (
            np.array([correction_per_atom(structure, scheme) for structure in structures])
            for scheme in (columns.MP2020, self.corrections)
        )
        is_joined = (fractions[:, ~self.joined] == 0).all(axis=1)
        return np.where(is_joined, energies - own - offset + target, np.nan)


def known_pairs(
    energies: pd.DataFrame, known: pd.DataFrame, offsets: Offsets, *, potential: str, column: str = ENERGY
) -> Pairs:
    """A potential's energies of known training crystals beside DFT's, both without corrections.

    Args:
        energies: rows of `potential_labels.KNOWN_SCHEMA`.
        known: curated rows with their fold.
        offsets: how many pairs are needed.
        potential: its name, for the message.
        column: column of the energies.

    Raises:
        InputError: too few known crystals.
    """
    train = known.loc[(known[columns.FOLD] == columns.TRAIN) & known[columns.FORMATION_ENERGY_ALIGNED].notna()]
    both = energies.dropna(subset=[column]).merge(train, on=columns.MATERIAL_ID)
    if len(both) < offsets.min_pairs:
        raise InputError(
            f"{len(both)} training crystals have an energy by {potential}; at least curation.offsets.min_pairs = "
            f"{offsets.min_pairs} are needed to fit its energy scale. Set hypothetical.n: 0 to train without such "
            "labels, or label crystals of your own"
        )
    formulas = [formula_key(species).replace(" ", "") for species in both[columns.SPECIES]]
    return Pairs(
        groups=both[columns.MATERIAL_ID].to_numpy(object),
        fractions=fractions_of_formulas(formulas),
        hubbard=np.zeros(len(both)),
        energies=both[column].to_numpy(np.float64),
        reference=(both[columns.FORMATION_ENERGY_ALIGNED] - both[CORRECTION]).to_numpy(np.float64),
    )


def disagreement_noise(
    labels: Labels, rows: pd.DataFrame, known: pd.DataFrame, offsets: Offsets, fractions: Array
) -> Array:
    """(m,) standard deviation of the potential's error by composition, eV/atom.

    The potential was trained on known crystals, so its errors on them are too small. Instead, two potentials label the
    same hypothetical crystals, and their difference contains the errors of both. But they share part of their errors,
    and the atoms of the labelled cells are not relaxed. `DISAGREEMENT_TO_ERROR` makes up for both: with it, 90 %
    intervals hold 85 to 95 % of the energies of four sets of hypothetical crystals (docs/hypothetical.md).

    Args:
        labels: labels by the potential and, in part, by another one.
        rows: rows of `labels.table`, to use.
        known: curated rows with their fold.
        offsets: how the scales are joined.
        fractions: (m, 118) atomic fractions of the crystals asked for.
    """
    both = rows.loc[rows[SECOND_ENERGY].notna()]
    compositions = atomic_fractions([crystal_of(labels, row).species for row in both.to_dict("records")])
    aligned = []
    for column in (ENERGY, SECOND_ENERGY):
        pairs = known_pairs(labels.known, known, offsets, potential=labels.potential.name, column=column)
        offset, _ = fit_offset(pairs, offsets).at(compositions, np.zeros(len(both)))
        aligned.append(both[column].to_numpy(np.float64) - offset)
    return DISAGREEMENT_TO_ERROR * element_noise(aligned[0] - aligned[1], compositions, fractions)


def crystal_of(labels: Labels, row: Mapping[str, Any]) -> Crystal:
    """The hypothetical crystal of a row of `labels.table`."""
    parent = str(row[columns.PARENT_ID])
    drawn = drawn_from(str(row[ROUTE]), parent, row[EXCHANGED], row[SCALE])
    return drawn.crystal(labels.parents[parent])


def element_noise(residuals: Array, known: Array, fractions: Array) -> Array:
    """(m,) standard deviation of the potential's error by composition, eV/atom.

    An element's error is the robust spread of the residuals of the known crystals that contain it, shrunk towards the
    spread of all residuals. A composition's error is the root mean square over its atoms.

    Args:
        residuals: (n,) residuals of known crystals, held out from the fit, eV/atom.
        known: (n, 118) their atomic fractions.
        fractions: (m, 118) atomic fractions of the crystals asked for.
    """
    everywhere = MAD_TO_STD * float(np.median(np.abs(residuals)))
    spread = np.full(known.shape[1], everywhere)
    for column in np.flatnonzero(known.any(axis=0)):
        own = np.abs(residuals[known[:, column] > 0])
        share = len(own) / (len(own) + SHRINKAGE)
        spread[column] = share * MAD_TO_STD * float(np.median(own)) + (1 - share) * everywhere
    return np.sqrt(fractions @ spread**2)
