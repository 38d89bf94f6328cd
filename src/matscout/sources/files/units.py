"""Units that files use, as factors to ours (`columns.UNITS`; CODATA 2018)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from matscout import columns
from matscout.errors import ParameterError

HARTREE: Final = 27.211386245988  # eV
KJ_PER_MOL: Final = 0.010364269656262175  # eV
BOHR: Final = 0.529177210903  # Å

ENERGY: Final = MappingProxyType(
    {"eV": 1.0, "meV": 1e-3, "Ha": HARTREE, "Ry": HARTREE / 2, "kJ/mol": KJ_PER_MOL, "kcal/mol": 4.184 * KJ_PER_MOL}
)
PER_CELL: Final = "/cell"  # marks a total energy, to be divided by the number of atoms
ENERGY_PER_ATOM: Final = MappingProxyType(
    {f"{unit}{per}": factor for unit, factor in ENERGY.items() for per in ("/atom", PER_CELL)}
)
PRESSURE: Final = MappingProxyType({"GPa": 1.0, "MPa": 1e-3, "kbar": 0.1, "Pa": 1e-9, "eV/Å³": 160.21766208})
LENGTH: Final = MappingProxyType({"Å": 1.0, "nm": 10.0, "pm": 0.01, "bohr": BOHR})
KNOWN: Final = MappingProxyType(
    {
        columns.LATTICE: LENGTH,
        columns.BAND_GAP: ENERGY,
        columns.FORMATION_ENERGY: ENERGY_PER_ATOM,
        columns.ENERGY_ABOVE_HULL: ENERGY_PER_ATOM,
        columns.BULK_MODULUS: PRESSURE,
        columns.SHEAR_MODULUS: PRESSURE,
    }
)


def check_units(units: Mapping[str, str], path: str) -> None:
    """Check names and units of `params.databases.<name>.file.units`.

    Args:
        units: unit by quantity.
        path: of the parameter, for the message.

    Raises:
        ParameterError: an unknown quantity or unit; the message lists the known ones.
    """
    for name, unit in units.items():
        if name not in KNOWN:
            raise ParameterError(f"{path}.{name}: unknown quantity; known are {', '.join(KNOWN)}")
        if unit not in KNOWN[name]:
            raise ParameterError(f"{path}.{name} = {unit!r}: unknown unit; known are {', '.join(KNOWN[name])}")


def to_ours(value: float | None, name: str, unit: str | None, n_atoms: int) -> float | None:
    """Convert a label to our unit.

    Args:
        value: in `unit`; None stays None.
        name: of the quantity.
        unit: its unit; None = ours.
        n_atoms: of the cell, for units per cell.

    Returns:
        The value in our unit.
    """
    if value is None or unit is None:
        return value
    scaled = value * KNOWN[name][unit]
    return scaled / n_atoms if unit.endswith(PER_CELL) else scaled
