"""Column names, targets and units of every table that matscout writes: defined once."""

from types import MappingProxyType
from typing import Final

# identity
MATERIAL_ID: Final = "material_id"
SOURCE: Final = "source"
FUNCTIONAL: Final = "functional"
IS_HUBBARD: Final = "is_hubbard"
SYNTHETIC: Final = "synthetic"
YEAR: Final = "year"
FORMULA: Final = "formula"
N_ATOMS: Final = "n_atoms"
SPACE_GROUP: Final = "space_group"

# crystal
LATTICE: Final = "lattice"  # 9 floats, row-major 3x3, rows are lattice vectors, Å
SPECIES: Final = "species"  # n_atoms element symbols
FRAC_COORDS: Final = "frac_coords"  # 3 * n_atoms floats, row-major, fractional

# labels as published
BAND_GAP: Final = "band_gap"
FORMATION_ENERGY: Final = "formation_energy_per_atom"
ENERGY_ABOVE_HULL: Final = "energy_above_hull"
BULK_MODULUS: Final = "bulk_modulus"
SHEAR_MODULUS: Final = "shear_modulus"
LABELS: Final = (BAND_GAP, FORMATION_ENERGY, ENERGY_ABOVE_HULL, BULK_MODULUS, SHEAR_MODULUS)

# what curation adds
FORMATION_ENERGY_ALIGNED: Final = "formation_energy_aligned"
FORMATION_ENERGY_ALIGNED_STD: Final = "formation_energy_aligned_std"
FORMATION_ENERGY_NOISE: Final = "formation_energy_noise"
BAND_GAP_NOISE: Final = "band_gap_noise"
DUPLICATE_GROUP: Final = "duplicate_group"
IS_REPRESENTATIVE: Final = "is_representative"

# splits
FOLD: Final = "fold"
TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"
UNUSED: Final = "unused"
FOLDS: Final = (TRAIN, VALIDATION, TEST, UNUSED)

# predictions: `<target>` is the point estimate; these suffixes stand beside it
STD: Final = "_std"
LO90: Final = "_lo90"
HI90: Final = "_hi90"
METAL_PROBABILITY: Final = "metal_probability"

UNITS: Final = MappingProxyType(
    {
        LATTICE: "Å",
        BAND_GAP: "eV",
        FORMATION_ENERGY: "eV/atom",
        FORMATION_ENERGY_ALIGNED: "eV/atom",
        FORMATION_ENERGY_ALIGNED_STD: "eV/atom",
        FORMATION_ENERGY_NOISE: "eV/atom",
        BAND_GAP_NOISE: "eV",
        ENERGY_ABOVE_HULL: "eV/atom",
        BULK_MODULUS: "GPa",
        SHEAR_MODULUS: "GPa",
    }
)
