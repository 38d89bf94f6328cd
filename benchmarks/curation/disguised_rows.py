"""Crystals for `python -m benchmarks.curation`: rows of ../shared/data, and copies known to be the same."""

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from matscout.crystal import Crystal
from matscout.sources.record import Record

STRAIN = 0.01  # largest principal strain: no length changes by more
SITE_NOISE = 0.03  # largest displacement of a site, Å

# elements of one column or row of the periodic table that stand in for one another
ISOVALENT = (
    ("Li", "Na", "K", "Rb", "Cs"),
    ("Be", "Mg", "Ca", "Sr", "Ba"),
    ("F", "Cl", "Br", "I"),
    ("O", "S", "Se", "Te"),
    ("N", "P", "As", "Sb", "Bi"),
    ("Al", "Ga", "In", "Tl"),
    ("Si", "Ge", "Sn", "Pb"),
    ("Ti", "Zr", "Hf"),
    ("V", "Nb", "Ta"),
    ("Cr", "Mo", "W"),
    ("Mn", "Re"),
    ("Fe", "Ru", "Os"),
    ("Co", "Rh", "Ir"),
    ("Ni", "Pd", "Pt"),
    ("Cu", "Ag", "Au"),
    ("Zn", "Cd", "Hg"),
    ("Sc", "Y", "La", "Ce", "Pr", "Nd", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu"),
)


def record_of(material_id: str, source: str, crystal: Crystal, **labels: float | None) -> Record:
    """A record with the labels given and nothing else."""
    known = {"band_gap": None, "formation_energy_per_atom": None, **labels}
    return Record(
        material_id=material_id,
        source=source,
        functional="PBE",
        is_hubbard=None,
        pseudopotentials=None,
        energy_corrections=None,
        synthetic=False,
        crystal=crystal,
        energy_above_hull=None,
        bulk_modulus=None,
        shear_modulus=None,
        year=None,
        **known,  # type: ignore[arg-type]
    )


def disguise(
    crystal: Crystal, rng: np.random.Generator, *, max_atoms: int = 200, by_component: bool = False
) -> Crystal:
    """The same material written down differently: strain, site noise, supercell, origin, orientation, site order.

    `by_component` draws each component of the symmetric strain tensor up to 1 % instead of the principal strains.
    """
    lattice = crystal.lattice @ (strain_by_component(rng) if by_component else principal_strain(rng))
    supercell = Crystal(lattice, crystal.species, crystal.frac_coords)
    cells = [m for m in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)) if np.prod(m) * crystal.n_atoms <= max_atoms]
    supercell = repeat(supercell, cells[rng.integers(len(cells))])
    direction = rng.normal(size=(supercell.n_atoms, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    displaced = direction * rng.uniform(0, SITE_NOISE, size=(supercell.n_atoms, 1))
    frac = supercell.frac_coords + displaced @ np.linalg.inv(supercell.lattice) + rng.random(3)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(supercell.n_atoms)
    return Crystal(supercell.lattice @ rotation, tuple(supercell.species[i] for i in order), frac[order])


def principal_strain(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 3) deformation whose principal strains are at most `STRAIN`, along random axes."""
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return axes @ np.diag(1 + rng.uniform(-STRAIN, STRAIN, size=3)) @ axes.T


def strain_by_component(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 3) symmetric deformation, each component of the strain up to `STRAIN`: lengths change by up to 3 %."""
    strain = np.triu(rng.uniform(-STRAIN, STRAIN, size=(3, 3)))
    return np.eye(3) + strain + np.triu(strain, 1).T


def repeat(crystal: Crystal, times: tuple[int, int, int]) -> Crystal:
    """A supercell of `times` cells along each lattice vector."""
    shifts = np.stack(np.meshgrid(*(np.arange(n) for n in times), indexing="ij"), axis=-1).reshape(-1, 3)
    frac = (crystal.frac_coords[:, None, :] + shifts).reshape(-1, 3) / times
    species = tuple(symbol for symbol in crystal.species for _ in range(len(shifts)))
    return Crystal(crystal.lattice * np.array(times)[:, None], species, frac)


def substitute(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """One element replaced by an isovalent one; the volume follows the atomic radii."""
    families = {symbol: family for family in ISOVALENT for symbol in family}
    elements = [symbol for symbol in sorted(crystal.element_counts) if symbol in families]
    if not elements:
        return crystal
    old = elements[rng.integers(len(elements))]
    choices = [symbol for symbol in families[old] if symbol != old]
    new = choices[rng.integers(len(choices))]
    share = crystal.element_counts[old] / crystal.n_atoms
    growth = 1 + share * (float(Element(new).atomic_radius) / float(Element(old).atomic_radius) - 1)
    species = tuple(new if symbol == old else symbol for symbol in crystal.species)
    return Crystal(crystal.lattice * growth, species, crystal.frac_coords)
