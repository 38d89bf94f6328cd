"""Cells unlike any known crystal: layers of vacuum, wires, molecules in a box, volumes far from what the atoms fill.

A file with more than `crystal_parser.VACUUM` without an atom is rejected as no bulk crystal. A narrower gap, or any in
a pymatgen `Structure`, is predicted with a remark: the ensemble has seen bulk crystals alone.
"""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from matscout.crystal import Crystal
from matscout.sources.formats.crystal_parser import empty_widths

CELL_REMARK: Final = "cell_remark"
"""Column with what is unusual about the cell; empty = nothing."""

VACUUM_REMARKED: Final = 5.0
"""Å without an atom across a cell: 99.8 % of the sample's known crystals have less, and all have along two axes."""

VOLUME_RATIOS: Final = (0.65, 2.0)
"""Volume of a cell over the sum of its atoms: of the sample's known crystals none has less, 0.5 % have more."""

KINDS: Final = ("", "a layer in vacuum", "a wire in vacuum", "a molecule in a box")

# fmt: off
ATOMIC_VOLUMES: Final[Mapping[str, float]] = MappingProxyType(
    {
        "Ac": 33.1, "Ag": 21.0, "Al": 16.0, "As": 23.4, "Au": 20.2, "B": 6.5, "Ba": 38.1, "Be": 7.7, "Bi": 31.8,
        "Br": 37.6, "C": 7.3, "Ca": 26.3, "Cd": 25.1, "Ce": 27.2, "Cl": 30.5, "Co": 9.7, "Cr": 11.0, "Cs": 52.9,
        "Cu": 12.0, "Dy": 25.9, "Er": 25.0, "Eu": 26.9, "F": 11.8, "Fe": 10.6, "Ga": 18.2, "Gd": 26.6, "Ge": 19.5,
        "H": 6.8, "He": 14.4, "Hf": 19.6, "Hg": 27.6, "Ho": 25.2, "I": 48.5, "In": 26.0, "Ir": 14.0, "K": 35.3,
        "Kr": 49.2, "La": 29.9, "Li": 11.7, "Lu": 23.1, "Mg": 18.6, "Mn": 11.5, "Mo": 15.0, "N": 8.4, "Na": 20.5,
        "Nb": 16.8, "Nd": 29.3, "Ne": 19.9, "Ni": 9.7, "Np": 20.3, "O": 8.4, "Os": 13.9, "P": 18.8, "Pa": 25.3,
        "Pb": 31.6, "Pd": 15.2, "Pr": 29.3, "Pt": 15.7, "Pu": 21.9, "Rb": 42.5, "Re": 14.7, "Rh": 13.5, "Ru": 12.7,
        "S": 23.2, "Sb": 29.1, "Sc": 19.6, "Se": 28.5, "Si": 15.5, "Sm": 27.9, "Sn": 26.7, "Sr": 29.7, "Ta": 17.1,
        "Tb": 27.4, "Tc": 15.0, "Te": 37.0, "Th": 29.8, "Ti": 15.0, "Tl": 33.9, "Tm": 23.2, "U": 22.1, "V": 13.3,
        "W": 16.8, "Xe": 49.4, "Y": 27.0, "Yb": 24.5, "Zn": 15.9, "Zr": 20.3,
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
