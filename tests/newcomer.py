"""The folder of a newcomer: ten CIFs, of which a slab, a molecule in a box and an alloy are no ordered bulk crystals."""

from pathlib import Path

from pymatgen.core import Lattice, Structure


def write_cifs(folder: Path) -> None:
    """Four salts, silicon, a slab, water, an alloy, a sheet of BN with some vacuum, and a salt with too large a cell."""
    folder.mkdir()
    for cation, anion, edge in (("Na", "Cl", 5.64), ("K", "Br", 6.60), ("Mg", "O", 4.21), ("Li", "F", 4.03)):
        salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(edge), [cation, anion], [[0, 0, 0], [0.5] * 3])
        salt.to(filename=str(folder / f"{cation}{anion}.cif"))
    Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.431), ["Si"], [[0] * 3]).to(filename=str(folder / "si.cif"))
    slab = Structure(Lattice.orthorhombic(4, 4, 30), ["Na", "Cl"], [[0, 0, 0.1], [0.5, 0.5, 0.1]])
    water = Structure(Lattice.cubic(14), ["O", "H", "H"], [[0.5] * 3, [0.55, 0.55, 0.5], [0.45, 0.55, 0.5]])
    alloy = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.7), [{"Cu": 0.5, "Au": 0.5}], [[0] * 3])
    sheet = Structure(Lattice.hexagonal(2.50, 8), ["B", "N"], [[0, 0, 0.5], [1 / 3, 2 / 3, 0.5]])
    blown = Structure.from_spacegroup("Fm-3m", Lattice.cubic(9.0), ["Cs", "F"], [[0, 0, 0], [0.5] * 3])
    for name, structure in (("slab", slab), ("water", water), ("alloy", alloy), ("sheet", sheet), ("blown", blown)):
        structure.to(filename=str(folder / f"{name}.cif"))
