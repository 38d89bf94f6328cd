"""The curated table, `materials.parquet`, and the views of it that stages, commands and notebooks read.

The training set is the same table with hypothetical crystals added; it is read through the same views.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from matscout import columns
from matscout.errors import InputError
from matscout.layout import CURATED

if TYPE_CHECKING:  # stages that read crystals alone start without pandas
    import pandas as pd

MATERIALS_NAME: Final = "materials.parquet"
QUARANTINE_NAME: Final = "quarantine.parquet"
DUPLICATES_NAME: Final = "duplicates.parquet"
SUMMARY_NAME: Final = "summary.json"
# standard errors of the aligned formation energy, independent of each other
ENERGY_ERRORS: Final = (columns.FORMATION_ENERGY_NOISE, columns.FORMATION_ENERGY_ALIGNED_STD)


@dataclass(frozen=True)
class CuratedTable:
    """One `materials.parquet`. Each view reads only the columns that it needs; units are in `columns.py`.

    Attributes:
        path: the file.
    """

    path: Path

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns that the file has.

        Raises:
            InputError: there is no such file.
        """
        if not Path(self.path).is_file():
            raise InputError(
                f"{self.path} not found: run `dvc repro curate` in the repository root, or give the path of a curated "
                "table"
            )
        return tuple(pq.read_schema(self.path).names)

    def rows(self, names: Iterable[str] | None = None, *, optional: Iterable[str] = ()) -> "pd.DataFrame":
        """Read columns by name.

        Args:
            names: columns that the file must have; None = all columns of the file.
            optional: further columns, which are left out if the file lacks them.

        Returns:
            One row a material, in the order of the file.

        Raises:
            InputError: the file or one of its columns is missing.
        """
        return self._arrow(self.names if names is None else names, optional).to_pandas()

    def with_folds(
        self,
        split: Path,
        names: Iterable[str] | None = None,
        *,
        optional: Iterable[str] = (),
        complete: bool = False,
    ) -> "pd.DataFrame":
        """Read columns by name, and the fold of each row.

        Args:
            split: table of material_id and fold, parquet.
            names: columns to read besides material_id; None = all.
            optional: further columns, which are left out if the file lacks them.
            complete: whether every row must have a fold; if not, rows without one are left out.

        Returns:
            One row a material, in the order of the file; the last column is the fold.

        Raises:
            InputError: the file or a column is missing, or a row has no fold although `complete`.
        """
        asked = None if names is None else dict.fromkeys([columns.MATERIAL_ID, *names])
        table = self.rows(asked, optional=optional)
        folds = pq.read_table(split, columns=[columns.MATERIAL_ID, columns.FOLD]).to_pandas()
        if complete:
            lost = table.loc[~table[columns.MATERIAL_ID].isin(folds[columns.MATERIAL_ID]), columns.MATERIAL_ID]
            if len(lost):
                raise InputError(
                    f"{len(lost)} rows of {self.path} have no fold in {split}, such as {lost.iloc[0]}; run "
                    "`dvc repro split`"
                )
        return table.merge(folds, on=columns.MATERIAL_ID, validate="one_to_one")

    def labels(self, names: Iterable[str], others: Iterable[str] = ()) -> "pd.DataFrame":
        """Read labels, and what calculated them.

        Args:
            names: columns of labels.
            others: further columns.

        Returns:
            material_id, `synthetic`, `calculation` (DFT for all rows of a table without that column), `others`, then
            the labels in alphabetical order.

        Raises:
            InputError: the file or one of its columns is missing.
        """
        first = [columns.MATERIAL_ID, columns.SYNTHETIC]
        rest = list(dict.fromkeys([*others, *sorted(set(names))]))
        table = self.rows([*first, *rest], optional=[columns.CALCULATION])
        if columns.CALCULATION not in table:
            table[columns.CALCULATION] = columns.BY_DFT
        return table.loc[:, [*first, columns.CALCULATION, *rest]]

    def phases(self) -> "pd.DataFrame":
        """Read the real rows that have an aligned formation energy: the known phases.

        Returns:
            material_id, species, the energy (eV/atom), `synthetic` (always False), and those of `ENERGY_ERRORS` that
            the file has (eV/atom).

        Raises:
            InputError: the file or one of its columns is missing.
        """
        names = [columns.MATERIAL_ID, columns.SPECIES, columns.FORMATION_ENERGY_ALIGNED, columns.SYNTHETIC]
        table = self.rows(names, optional=ENERGY_ERRORS)
        is_real = ~table[columns.SYNTHETIC].to_numpy(dtype=bool)
        return table.loc[is_real & table[columns.FORMATION_ENERGY_ALIGNED].notna().to_numpy()]

    def crystals(self, others: Sequence[str] = ()) -> pa.Table:
        """Read the crystals, as arrow, so that hundreds of thousands fit into memory.

        Args:
            others: further columns.

        Returns:
            material_id, `others`, lattice (Å), species, fractional coordinates; one row a material.

        Raises:
            InputError: the file or a column is missing, there are no rows, or an id occurs twice.
        """
        table = self._arrow([columns.MATERIAL_ID, *others, *columns.CRYSTAL])
        if table.num_rows == 0:
            raise InputError(f"{self.path} has no rows; look into quarantine.parquet beside it for the reasons")
        ids, counts = np.unique(np.array(table.column(columns.MATERIAL_ID).to_pylist()), return_counts=True)
        if (most := counts.max()) > 1:
            raise InputError(f"{self.path}: material_id {ids[counts.argmax()]} occurs {most} times; it must be unique")
        return table

    def sources(self) -> dict[str, str]:
        """The database of each material, by material id."""
        table = self.rows([columns.MATERIAL_ID, columns.SOURCE])
        return dict(zip(table[columns.MATERIAL_ID], table[columns.SOURCE], strict=True))

    def _arrow(self, names: Iterable[str], optional: Iterable[str] = ()) -> pa.Table:
        names = list(names)
        if missing := sorted(set(names) - set(self.names)):
            raise InputError(f"{self.path} lacks the columns {missing}: rerun the stage `curate`")
        present = [name for name in optional if name in self.names]
        return pq.read_table(self.path, columns=list(dict.fromkeys([*names, *present])))


def load_materials_database(curated: Path = CURATED) -> "pd.DataFrame":
    """Every usable row with its labels, its crystal and its duplicate group; columns and units as in `columns.py`.

    Args:
        curated: folder that the stage `curate` wrote.

    Returns:
        One row a material.

    Raises:
        InputError: there is no table yet.
    """
    return CuratedTable(Path(curated) / MATERIALS_NAME).rows()
