"""Cross-database pairs: one material, two databases, two formation energies."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from matscout import columns
from matscout.composition_vectors import fractions_of_formulas


@dataclass(frozen=True)
class Pairs:
    """Formation energies of materials that a database shares with the reference.

    Attributes:
        groups: (n,) duplicate group of each pair.
        fractions: (n, 118) atomic fractions, column z - 1.
        hubbard: (n,) 1 where the database used +U, else 0.
        energies: (n,) the database's formation energy, eV/atom (median over its entries of the material).
        reference: (n,) the reference's, eV/atom.
    """

    groups: NDArray[np.object_]
    fractions: NDArray[np.float64]
    hubbard: NDArray[np.float64]
    energies: NDArray[np.float64]
    reference: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def differences(self) -> NDArray[np.float64]:
        """(n,) database minus reference, eV/atom."""
        return self.energies - self.reference

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "Pairs":
        """The pairs at `rows`."""
        return Pairs(
            self.groups[rows], self.fractions[rows], self.hubbard[rows], self.energies[rows], self.reference[rows]
        )


def make_pairs(moved: pd.DataFrame, reference: pd.DataFrame) -> Pairs:
    """Pairs of the rows to move and the reference rows that share a duplicate group.

    Each group counts once: several entries of one material in one database are not independent.
    """
    ours = _by_group(moved)
    theirs = _by_group(reference)
    both = ours.join(theirs.add_suffix("_reference"), how="inner").sort_index()
    return Pairs(
        groups=both.index.to_numpy(dtype=object),
        fractions=fractions_of_formulas(both[columns.FORMULA]),
        hubbard=both[columns.IS_HUBBARD].to_numpy(dtype=np.float64),
        energies=both[columns.FORMATION_ENERGY].to_numpy(dtype=np.float64),
        reference=both[f"{columns.FORMATION_ENERGY}_reference"].to_numpy(dtype=np.float64),
    )


def hubbard_flags(rows: pd.DataFrame) -> NDArray[np.float64]:
    """(n,) 1 where +U is known to have been used; unknown counts as not."""
    return (rows[columns.IS_HUBBARD].to_numpy(dtype=object) == True).astype(np.float64)  # noqa: E712  (null is not True)


def _by_group(rows: pd.DataFrame) -> pd.DataFrame:
    labelled = rows.loc[rows[columns.FORMATION_ENERGY].notna()]
    table = pd.DataFrame(
        {
            columns.DUPLICATE_GROUP: labelled[columns.DUPLICATE_GROUP],
            columns.FORMULA: labelled[columns.FORMULA],
            columns.IS_HUBBARD: hubbard_flags(labelled),
            columns.FORMATION_ENERGY: labelled[columns.FORMATION_ENERGY].astype(np.float64),
        }
    )
    return table.groupby(columns.DUPLICATE_GROUP).agg(
        {columns.FORMULA: "first", columns.IS_HUBBARD: "max", columns.FORMATION_ENERGY: "median"}
    )
