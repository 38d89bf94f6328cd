"""The known materials of the curated table: parents of candidates, and what counts as known."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal, formula_key
from matscout.curated_table import CuratedTable


@dataclass(frozen=True)
class KnownMaterials:
    """The curated crystals, kept as arrow so that hundreds of thousands fit in memory."""

    table: pa.Table

    @classmethod
    def read(cls, path: Path) -> "KnownMaterials":
        """Read the columns that discovery needs.

        Args:
            path: path of `materials.parquet`.

        Returns:
            The rows, sorted by material id.

        Raises:
            InputError: the file is missing, lacks a column or has no rows.
        """
        others = (columns.SYNTHETIC, columns.DUPLICATE_GROUP, columns.IS_EXPERIMENTAL, columns.N_ATOMS)
        table = CuratedTable(path).crystals(others)
        return cls(table.sort_by(columns.MATERIAL_ID).combine_chunks())

    def __len__(self) -> int:
        return self.table.num_rows

    @cached_property
    def ids(self) -> list[str]:
        """Material ids, ascending."""
        return self.table.column(columns.MATERIAL_ID).to_pylist()

    @cached_property
    def species(self) -> list[list[str]]:
        """Element symbols of each row's atoms."""
        return self.table.column(columns.SPECIES).to_pylist()

    @cached_property
    def formula_keys(self) -> list[str]:
        """`formula_key` of each row."""
        return [formula_key(symbols) for symbols in self.species]

    @cached_property
    def rows_of_formula(self) -> dict[str, list[int]]:
        """Rows by `formula_key`, synthetic ones too, since they count as known."""
        rows: dict[str, list[int]] = {}
        for row, key in enumerate(self.formula_keys):
            rows.setdefault(key, []).append(row)
        return rows

    @cached_property
    def is_real(self) -> NDArray[np.bool_]:
        """(n,) rows that a database published: the synthetic stand-ins are known but never parents."""
        return ~self.table.column(columns.SYNTHETIC).to_numpy(zero_copy_only=False).astype(bool)

    @cached_property
    def parents(self) -> NDArray[np.int64]:
        """The first real row of each group of duplicates."""
        groups = np.array(self.table.column(columns.DUPLICATE_GROUP).to_pylist(), dtype=object)[self.is_real]
        _, first = np.unique(groups.astype(str), return_index=True)
        return np.flatnonzero(self.is_real)[np.sort(first)]

    @cached_property
    def made(self) -> dict[str, bool]:
        """Whether a material has been made, by id, as stated by its own row or one of the same group of duplicates."""
        groups = self.table.column(columns.DUPLICATE_GROUP).to_pylist()
        stated = self.table.column(columns.IS_EXPERIMENTAL).to_pylist()
        of_group: dict[str, bool] = {}
        for group, flag in zip(groups, stated, strict=True):
            if flag is not None:
                of_group[group] = of_group.get(group, False) or flag
        return {name: of_group[group] for name, group in zip(self.ids, groups, strict=True) if group in of_group}

    @cached_property
    def elements(self) -> frozenset[str]:
        """Elements of the real rows, the only ones that a model can have learned."""
        return frozenset(symbol for row in np.flatnonzero(self.is_real) for symbol in self.species[row])

    def crystal(self, row: int) -> Crystal:
        """The crystal of one row."""
        return Crystal.from_row({name: self.table.column(name)[row].as_py() for name in columns.CRYSTAL})
