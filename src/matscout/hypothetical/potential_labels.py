"""The folder of a potential's labels: a few numbers a crystal, from which the stage `hypothetical` makes its table.

A hypothetical crystal is its parent's cell with elements exchanged and the volume scaled. A row therefore holds the
parent's id, the exchange, the scale and the energies. The folder also holds the parents' cells, so it is
self-contained.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from matscout import columns
from matscout.crystal import Crystal
from matscout.errors import InputError
from matscout.files import write_json, write_parquet
from matscout.hypothetical.draw_crystals import Drawn
from matscout.potentials.potential import Facts

PARENTS_NAME: Final = "parents.parquet"
LABELS_NAME: Final = "labels.parquet"
KNOWN_NAME: Final = "known.parquet"
MANIFEST_NAME: Final = "manifest.json"

ROUTE: Final = "route"
EXCHANGED: Final = "exchanged"  # `O>S Ti>Zr`: parent's element, element in its place
SCALE: Final = "scale"  # volume of the cell divided by the parent's
ENERGY: Final = "energy"  # the potential's, at the volume that minimises it; eV/atom
SECOND_ENERGY: Final = "second_energy"  # a second potential's at the same volume, for a share of the crystals; eV/atom
MINIMUM: Final = "minimum"  # volume at the minimum divided by the cell's; missing in labels of 0.2.0
POINTS: Final = "points"  # volumes whose energies gave the label: 3, or 1 where a network knew the minimum's volume
CORRECTION: Final = "correction"  # by the manifest's scheme of corrections; eV/atom

LABELS_SCHEMA: Final = pa.schema(
    [
        (ROUTE, pa.dictionary(pa.int8(), pa.string())),
        (columns.PARENT_ID, pa.dictionary(pa.int32(), pa.string())),
        (EXCHANGED, pa.string()),
        (SCALE, pa.float32()),
        (ENERGY, pa.float32()),
        (SECOND_ENERGY, pa.float32()),
        (CORRECTION, pa.float32()),
        (MINIMUM, pa.float32()),
        (POINTS, pa.int8()),
    ]
)
KNOWN_SCHEMA: Final = pa.schema(
    [
        (columns.MATERIAL_ID, pa.string()),
        (ENERGY, pa.float32()),
        (SECOND_ENERGY, pa.float32()),
        (CORRECTION, pa.float32()),
    ]
)


@dataclass(frozen=True)
class Labels:
    """The content of a folder of labels.

    Attributes:
        potential: the one that gave them; `corrections` names the scheme of the column `correction`, which the
            energies do not contain.
        parents: known crystals by id.
        table: one row a hypothetical crystal, `LABELS_SCHEMA`.
        known: energies of known crystals at their own volume, `KNOWN_SCHEMA`; they align its scale with DFT's.
    """

    potential: Facts
    parents: Mapping[str, Crystal]
    table: pd.DataFrame
    known: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a folder of labels.

        Args:
            folder: as `write` leaves it.

        Returns:
            The labels, with the cells of their parents.

        Raises:
            InputError: a file is missing or broken.
        """
        folder = Path(folder)
        try:
            potential = Facts(**json.loads((folder / MANIFEST_NAME).read_text()))
            parents = pd.read_parquet(folder / PARENTS_NAME)
            table, known = pd.read_parquet(folder / LABELS_NAME), pd.read_parquet(folder / KNOWN_NAME)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{folder} holds no labels by a potential ({error}); restore it with git, or name another folder in "
                "hypothetical.path"
            ) from error
        cells = [Crystal.from_row(row) for row in parents.to_dict("records")]
        return cls(potential, dict(zip(parents[columns.MATERIAL_ID], cells, strict=True)), table, known)

    def joined(self, more: "Labels") -> "Labels":
        """These labels, and those of `more` with another parent or exchange.

        Args:
            more: further labels by the same potential; its energies of known crystals are kept.

        Returns:
            Labels of both.

        Raises:
            InputError: another potential, or another cell of a parent.
        """
        if self.potential.weights_sha256 != more.potential.weights_sha256:
            raise InputError(
                f"labels of {self.potential.name} and {more.potential.name} are on two scales; label all with one"
            )
        for key in self.parents.keys() & more.parents.keys():
            one, other = self.parents[key], more.parents[key]
            if one.species != other.species or not np.allclose(one.lattice, other.lattice, atol=1e-4):
                raise InputError(f"parent {key} has two cells; draw all labels from one curated table")
        table = pd.concat([self.table, more.table], ignore_index=True)
        first = ~table[[columns.PARENT_ID, EXCHANGED]].astype(str).duplicated()
        parents = {**more.parents, **self.parents}
        return Labels(more.potential, parents, table.loc[first].reset_index(drop=True), more.known)

    def write(self, folder: Path) -> None:
        """Write the folder's files; equal content gives equal bytes."""
        used = sorted(set(self.table[columns.PARENT_ID].astype(str)))
        rows = [{columns.MATERIAL_ID: key, **self.parents[key].to_row()} for key in used]
        schema = pa.schema(
            [
                (columns.MATERIAL_ID, pa.string()),
                (columns.LATTICE, pa.list_(pa.float32())),
                (columns.SPECIES, pa.list_(pa.string())),
                (columns.FRAC_COORDS, pa.list_(pa.float32())),
            ]
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_parquet(folder / PARENTS_NAME, pd.DataFrame(rows), schema)
        write_parquet(folder / LABELS_NAME, self.table, LABELS_SCHEMA)
        write_parquet(folder / KNOWN_NAME, self.known, KNOWN_SCHEMA)
        write_json(folder / MANIFEST_NAME, asdict(self.potential))


def exchanged_text(drawn: Drawn) -> str:
    """`O>S Ti>Zr`, all of the parent's elements in alphabetical order."""
    return " ".join(f"{old}>{new}" for old, new in drawn.exchanged)


def drawn_from(route: str, parent_id: str, exchanged: str, scale: float) -> Drawn:
    """Read a row of `LABELS_SCHEMA` back.

    Args:
        route: `exchange`, `similar` or `decoration`.
        parent_id: material id of the known crystal.
        exchanged: as `exchanged_text` writes it.
        scale: volume divided by the parent's, dimensionless.

    Returns:
        How the crystal is made from its parent.
    """
    pairs = tuple((old, new) for old, _, new in (part.partition(">") for part in exchanged.split(" ")))
    return Drawn(route, parent_id, pairs, scale)
