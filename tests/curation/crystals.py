"""Small crystals for the tests of this folder, and the ways to write one down differently."""

import numpy as np
from scipy.spatial.transform import Rotation

from matscout.crystal import Crystal
from matscout.sources.record import Record


def rock_salt(a=5.64, species=("Na", "Cl")):
    lattice = a / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Crystal(lattice, tuple(species), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]))


def zinc_blende(a=5.41, species=("Zn", "S")):
    return Crystal(rock_salt(a).lattice, tuple(species), np.array([[0.0, 0, 0], [0.25, 0.25, 0.25]]))


def perovskite(a=4.0, shift=0.0, tetragonality=1.0, species=("Ba", "Ti", "O", "O", "O")):
    """ABX3, cubic; polar with the B atom moved by `shift` (Å) along c."""
    frac = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], dtype=float)
    frac[1, 2] += shift / (a * tetragonality)
    return Crystal(np.diag([a, a, a * tetragonality]), tuple(species), frac)


def quartz(*, left_handed=False):
    """Alpha quartz, P3_221 (154), or its mirror image, P3_121 (152)."""
    lattice = np.array([[4.913, 0, 0], [-4.913 / 2, 4.913 * np.sqrt(3) / 2, 0], [0, 0, 5.405]])
    x, (u, v, w) = 0.4697, (0.4135, 0.2669, 0.7858)
    silicon = [[x, 0, 2 / 3], [0, x, 1 / 3], [-x, -x, 0]]
    oxygen = [
        [u, v, w],
        [-v, u - v, w + 2 / 3],
        [v - u, -u, w + 1 / 3],
        [v, u, -w],
        [u - v, -v, 1 / 3 - w],
        [-u, v - u, 2 / 3 - w],
    ]
    frac = np.array(silicon + oxygen)
    lattice = lattice @ np.diag([1, 1, -1.0]) if left_handed else lattice
    return Crystal(lattice, ("Si",) * 3 + ("O",) * 6, frac)


def layered(stacking, a=4.24, height=6.84):
    """Layers X-M-X of CdI2, each in the place A, B or C of `stacking`: polytypes of one compound."""
    places = {"A": (0.0, 0.0), "B": (1 / 3, 2 / 3), "C": (2 / 3, 1 / 3)}
    lattice = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, height * len(stacking)]])
    frac = []
    for layer, place in enumerate(stacking):
        x, y = places[place]
        for shift, z in ((0.0, 0.0), (1 / 3, 0.25), (2 / 3, -0.25)):
            frac.append([x + shift, y - shift, (layer + z) / len(stacking)])
    return Crystal(lattice, ("Cd", "I", "I") * len(stacking), np.array(frac))


def repeat(crystal, times):
    shifts = np.stack(np.meshgrid(*(np.arange(n) for n in times), indexing="ij"), axis=-1).reshape(-1, 3)
    frac = (crystal.frac_coords[:, None, :] + shifts).reshape(-1, 3) / times
    species = tuple(symbol for symbol in crystal.species for _ in range(len(shifts)))
    return Crystal(crystal.lattice * np.array(times)[:, None], species, frac)


def rewrite(crystal, *, times=(1, 1, 1), seed=0):
    """The same crystal as a supercell, with another origin, orientation and order of sites."""
    rng = np.random.default_rng(seed)
    large = repeat(crystal, times)
    order = rng.permutation(large.n_atoms)
    rotation = Rotation.random(random_state=seed).as_matrix()
    frac = (large.frac_coords + rng.random(3))[order]
    return Crystal(large.lattice @ rotation, tuple(large.species[i] for i in order), frac)


def record(material_id, crystal=None, *, source="materials_project", **changes):
    values = {
        "functional": "PBE",
        "is_hubbard": False,
        "pseudopotentials": None,
        "energy_corrections": "mp2020",
        "synthetic": False,
        "band_gap": 1.0,
        "formation_energy_per_atom": -1.0,
        "energy_above_hull": None,
        "bulk_modulus": None,
        "shear_modulus": None,
        "year": None,
    }
    return Record(
        material_id=material_id, source=source, crystal=rock_salt() if crystal is None else crystal, **values | changes
    )
