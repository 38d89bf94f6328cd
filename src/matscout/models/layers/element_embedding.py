"""Elements as vectors: tabulated physics beside a learned embedding.

A network that knows electronegativities and radii extrapolates to rarely seen elements, and a one-hot code does
not (Li et al., "Probing out-of-distribution generalization in machine learning for
materials", 2024); the learned part is zero at the start, so an element that never trains stays
described by its physics alone.
"""

import hashlib
import math
import warnings
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.core import Element
from torch import Tensor, nn

from matscout.crystal import N_ELEMENTS

PROPERTIES = (
    "group",
    "row",
    "atomic_mass",
    "atomic_radius",
    "atomic_radius_calculated",
    "van_der_waals_radius",
    "average_ionic_radius",
    "X",
    "ionization_energy",
    "electron_affinity",
    "mendeleev_no",
    "molar_volume",
    "melting_point",
    "boiling_point",
    "density_of_solid",
)
BLOCKS = "spdf"
SHELL_CAPACITY = {"s": 2, "p": 6, "d": 10, "f": 14}
HEAVIEST_COMMON = 94  # plutonium; beyond it values are rare and some, as Ds's ionisation energy, far off
DECIMALS = 5  # the table's hash must not depend on the last bit of a platform's arithmetic


@lru_cache(maxsize=1)
def element_table() -> NDArray[np.float32]:
    """(119, n_features) float32; row z describes the element of atomic number z, row 0 is zero.

    Columns: properties of pymatgen's periodic table, standardised over the elements up to plutonium that
    have them (zero where missing); one flag per property that is missing for some element; outer electrons and
    holes per shell type over the shell's capacity; block.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns for each property that an element lacks
        raw = np.array([[_property(z, name) for name in PROPERTIES] for z in range(1, N_ELEMENTS + 1)])
    is_missing = ~np.isfinite(raw)
    known = np.ma.masked_array(raw, is_missing)
    reference = known[:HEAVIEST_COMMON]
    standardised = ((known - reference.mean(axis=0)) / reference.std(axis=0)).filled(0.0)
    flags = is_missing[:, is_missing.any(axis=0)].astype(float)
    electrons = np.array([_outer_electrons(z) for z in range(1, N_ELEMENTS + 1)])
    features = np.round(np.hstack([standardised, flags, electrons]), DECIMALS)
    table = np.vstack([np.zeros(features.shape[1]), features]).astype(np.float32)
    table.setflags(write=False)
    return table


def element_table_sha256(table: NDArray[np.float32] | Tensor | None = None) -> str:
    """SHA-256 of an element table's little-endian bytes and shape, as hex; by default this package's own."""
    values = np.asarray(element_table() if table is None else table, dtype="<f4")
    values = values + np.float32(0.0)  # -0.0 and 0.0 are one value
    return hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()


class ElementEmbedding(nn.Module):
    """Atomic numbers to vectors: x_z = W f_z + b + E_z, with f_z the element table and E_z learned from zero.

    The table is a buffer, so that it lives in the checkpoint.

    Args:
        dim: length of the vectors.
    """

    element_table: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("element_table", torch.from_numpy(element_table().copy()))
        self.physical = nn.Linear(self.element_table.shape[1], dim)
        self.learned = nn.Embedding(N_ELEMENTS + 1, dim)
        nn.init.zeros_(self.learned.weight)

    def forward(self, atomic_numbers: Tensor) -> Tensor:
        """(n_atoms,) int64 -> (n_atoms, dim)."""
        by_element = self.physical(self.element_table) + self.learned.weight
        return by_element.index_select(0, atomic_numbers)


def _property(z: int, name: str) -> float:
    try:
        value = getattr(Element.from_Z(z), name)
    except KeyError:  # what pymatgen gives, for some properties, where it has no value
        value = None
    number = math.nan if value is None else float(value)
    return math.log(number) if name == "atomic_mass" else number


def _outer_electrons(z: int) -> list[float]:
    """Electrons and holes in the outermost shell of each type, and a one-hot block (zeros if unknown)."""
    element = Element.from_Z(z)
    try:
        structure = element.full_electronic_structure
    except KeyError:  # pymatgen knows no configuration beyond rutherfordium
        structure = []
    outermost = {kind: count for _, kind, count in sorted(structure)}
    electrons = [outermost.get(kind, 0) / SHELL_CAPACITY[kind] for kind in BLOCKS]
    holes = [1.0 - share if kind in outermost else 0.0 for kind, share in zip(BLOCKS, electrons, strict=True)]
    block = [float(element.block == kind) for kind in BLOCKS]
    return [*electrons, *holes, *block]
