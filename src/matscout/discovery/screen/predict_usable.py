"""Prediction of unchecked crystals: why some cannot be predicted, and remarks on cells unlike any known crystal.

A rejected crystal is a row of the quarantine, with its reason. Layers of vacuum, wires, molecules in a box and volumes
far from what the atoms fill get a remark: the ensemble has seen bulk crystals alone. A file with more than
`crystal_parser.VACUUM` without an atom is rejected earlier, as no bulk crystal; a narrower gap, or any in a pymatgen
`Structure`, is predicted with the remark.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.ensemble.mixture import Mixture
from matscout.ensemble.predictor import NOT_FINITE, EnsemblePredictor
from matscout.graphs.graph_store import GraphStore
from matscout.sources.formats.crystal_parser import empty_widths

VACUUM_REMARKED: Final = 5.0
"""Å without an atom across a cell: 99.8 % of the sample's known crystals have less, and all have along two axes."""

VOLUME_RATIOS: Final = (0.65, 2.0)
"""Volume of a cell over the sum of its atoms: of the sample's known crystals none has less, 0.5 % have more."""

KINDS: Final = ("", "a layer in vacuum", "a wire in vacuum", "a molecule in a box")

# fmt: off
ATOMIC_VOLUMES: Final[Mapping[str, float]] = MappingProxyType(
    {
        "H": 7.1, "He": 14.4, "Li": 11.7, "Be": 7.6, "B": 6.4, "C": 8.0, "N": 9.2, "O": 8.6, "F": 11.9, "Ne": 19.9,
        "Na": 20.5, "Mg": 18.4, "Al": 15.9, "Si": 15.6, "P": 18.7, "S": 23.6, "Cl": 30.6, "K": 35.1, "Ca": 26.5,
        "Sc": 19.4, "Ti": 15.0, "V": 13.3, "Cr": 11.1, "Mn": 11.5, "Fe": 10.6, "Co": 9.7, "Ni": 9.8, "Cu": 12.1,
        "Zn": 15.9, "Ga": 18.1, "Ge": 19.4, "As": 23.3, "Se": 28.6, "Br": 37.6, "Kr": 49.2, "Rb": 42.6, "Sr": 30.1,
        "Y": 26.8, "Zr": 20.2, "Nb": 16.7, "Mo": 15.1, "Tc": 15.0, "Ru": 12.6, "Rh": 13.4, "Pd": 15.2, "Ag": 21.1,
        "Cd": 25.0, "In": 26.0, "Sn": 26.8, "Sb": 29.0, "Te": 37.0, "I": 48.4, "Xe": 49.2, "Cs": 53.9, "Ba": 38.3,
        "La": 29.6, "Ce": 27.1, "Pr": 29.2, "Nd": 29.1, "Sm": 27.8, "Eu": 26.8, "Gd": 26.5, "Tb": 27.3, "Dy": 25.8,
        "Ho": 25.3, "Er": 25.0, "Tm": 23.2, "Yb": 24.3, "Lu": 23.0, "Hf": 19.5, "Ta": 16.8, "W": 17.0, "Re": 14.8,
        "Os": 13.9, "Ir": 14.0, "Pt": 15.7, "Au": 20.3, "Hg": 27.6, "Tl": 33.8, "Pb": 32.0, "Bi": 31.5, "Ac": 32.9,
        "Th": 29.4, "Pa": 25.1, "U": 21.8, "Np": 20.2, "Pu": 22.3,
    }
)
# fmt: on
"""Å³ that an element's atom fills in known crystals: `python -m benchmarks.discovery.atomic_volumes` fits them."""


def cell_remark(crystal: Crystal) -> str:
    """Say what tells a cell from those of known crystals; empty = nothing."""
    found = []
    widths = empty_widths(crystal)
    if n_empty := int((widths > VACUUM_REMARKED).sum()):
        named = zip("abc", widths.tolist(), strict=True)
        gaps = [f"{width:.1f} Å along {axis}" for axis, width in named if width > VACUUM_REMARKED]
        found.append(f"{KINDS[n_empty]}? no atom in {', '.join(gaps)}")
    ratio = volume_ratio(crystal)
    if ratio is not None and not VOLUME_RATIOS[0] <= ratio <= VOLUME_RATIOS[1]:
        size = f"{ratio:.1f} times the volume" if ratio > 1 else f"{100 * ratio:.0f} % of the volume"
        found.append(f"{size} that its atoms fill in known crystals")
    return "; ".join(found)


def volume_ratio(crystal: Crystal, volumes: Mapping[str, float] = ATOMIC_VOLUMES) -> float | None:
    """Volume of the cell over the sum of its atoms' volumes.

    Args:
        crystal: n_atoms atoms.
        volumes: Å³ by element symbol.

    Returns:
        Dimensionless, about 1; None where an element's volume is not known.
    """
    counts = Counter(crystal.species)
    if not volumes.keys() >= counts.keys():
        return None
    return crystal.volume / sum(number * volumes[symbol] for symbol, number in counts.items())


PREDICTION_NOT_FINITE = "prediction_not_finite"  # a reason beside those of `crystal_checks`


@dataclass(frozen=True)
class Predicted:
    """Predictions for the crystals that have a graph and a finite prediction.

    Attributes:
        rows: (n,) their places among the crystals that were given.
        table: one row each, see `EnsemblePredictor.predict`.
        mixtures: each target's calibrated distribution of the same rows.
        rejections: the others, with reasons.
    """

    rows: NDArray[np.int64]
    table: pd.DataFrame
    mixtures: Mapping[str, Mixture]
    rejections: Sequence[Rejection]


def predict_usable(predictor: EnsemblePredictor, ids: Sequence[str], crystals: Sequence[Crystal]) -> Predicted:
    """Predict the crystals that have a graph and a finite prediction.

    Args:
        predictor: the ensemble.
        ids: n unique ids.
        crystals: n cells, Å.

    Returns:
        Predictions of the usable crystals, in their order, and why the others have none.
    """
    store, rejections = GraphStore.from_usable(ids, crystals, predictor.graphs)
    table, mixtures = predictor.predict_mixtures(store)
    without = {rejection.row for rejection in rejections}
    rows = np.array([row for row in range(len(ids)) if row not in without], dtype=np.int64)
    said = np.isin(store.ids, table[columns.MATERIAL_ID].to_numpy(dtype=np.str_))
    rejections += [
        Rejection(material_id=ids[row], row=row, reason=PREDICTION_NOT_FINITE, detail=NOT_FINITE)
        for row in map(int, rows[~said])
    ]
    return Predicted(rows[said], table, mixtures, sorted(rejections, key=lambda rejection: rejection.row))


QUARANTINE_NAME: Final = "quarantine.parquet"


REASON: Final = "reason"


DETAIL: Final = "detail"


QUARANTINE_SCHEMA: Final = pa.schema([(name, pa.string()) for name in (columns.CANDIDATE_ID, REASON, DETAIL)])


def quarantine_table(rejections: Sequence[Rejection]) -> pa.Table:
    """One row a rejection, in their order."""
    rows = [{columns.CANDIDATE_ID: item.material_id, REASON: item.reason, DETAIL: item.detail} for item in rejections]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def summarise_quarantine(quarantine: pa.Table) -> dict[str, object]:
    """How many could not be judged, in all and by reason."""
    reasons = Counter(quarantine.column(REASON).to_pylist())
    return {"n_quarantined": quarantine.num_rows, "quarantined_by_reason": dict(sorted(reasons.items()))}
