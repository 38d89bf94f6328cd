"""Column names, targets, units and names in prose of every table that matscout writes: defined once."""

from types import MappingProxyType
from typing import Final

# identity
MATERIAL_ID: Final = "material_id"
SOURCE: Final = "source"
FUNCTIONAL: Final = "functional"
IS_HUBBARD: Final = "is_hubbard"
PSEUDOPOTENTIALS: Final = "pseudopotentials"  # family, such as PAW_PBE; null where not known
ENERGY_CORRECTIONS: Final = "energy_corrections"  # scheme of the formation energy; null where not known
SYNTHETIC: Final = "synthetic"
CALCULATION: Final = "calculation"  # what gave a label: one of the next three
BY_DFT: Final = "dft"
BY_POTENTIAL: Final = "potential"
COPIED: Final = "copied"  # DFT, for the crystal of which this one is a copy with another volume
YEAR: Final = "year"
IS_EXPERIMENTAL: Final = "is_experimental"  # its database says that it was made; null where not stated
BAND_GAP_FUNCTIONAL: Final = "band_gap_functional"  # of the published gap; another than the row's: the gap is withheld
YTTERBIUM: Final = "ytterbium_potential"  # of a row with Yb: one of the next two; null without Yb or where not known
YB_2: Final = "Yb_2"  # 4f electrons in the core for Yb2+: the Materials Project's until 2023
YB_3: Final = "Yb_3"  # the same for Yb3+: all its ytterbium compounds since
FORMULA: Final = "formula"
N_ATOMS: Final = "n_atoms"
SPACE_GROUP: Final = "space_group"
N_ATOMS_PRIMITIVE: Final = "n_atoms_primitive"  # atoms in the reduced primitive cell: matches share it

# schemes of energy corrections: `sources/energy_corrections.py` says what each adds
MP2018: Final = "mp2018"
MP2020: Final = "mp2020"
UNCORRECTED: Final = "none"

# crystal
LATTICE: Final = "lattice"  # 9 floats, row-major 3x3, rows are lattice vectors, Å
SPECIES: Final = "species"  # n_atoms element symbols
FRAC_COORDS: Final = "frac_coords"  # 3 * n_atoms floats, row-major, fractional
CRYSTAL: Final = (LATTICE, SPECIES, FRAC_COORDS)

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
CALIBRATION: Final = "calibration"  # hypothetical crystals that train nothing

# predictions: `<target>` is the point estimate; these suffixes stand beside it
STD: Final = "_std"
LO90: Final = "_lo90"
HI90: Final = "_hi90"
BAND_GAP_EXPERIMENTAL: Final = "band_gap_experimental"  # read off the PBE gap: `discovery/rank/experimental_gap.py`
METAL_PROBABILITY: Final = "metal_probability"
ALEATORIC_STD: Final = "_std_aleatoric"  # noise that the members agree is there
EPISTEMIC_STD: Final = "_std_epistemic"  # the members' disagreement
TRUTH: Final = "_true"  # suffix of a target's label in tables of held-out rows
TRAINING_DISTANCE: Final = "training_distance"  # about 1 within the training distribution
FAR_FROM_TRAINING: Final = "far_from_training"
CALIBRATED_FOR: Final = "calibrated_for"  # the kind of crystal for which the row's intervals hold: one of the next two
KNOWN: Final = "known"  # a database holds a crystal of the formula
HYPOTHETICAL: Final = "hypothetical"
UNSEEN_ELEMENTS: Final = "unseen_elements"  # comma-separated symbols; empty = all were trained on


def member_column(target: str, member: str) -> str:
    """Name of the column with one member's point estimate."""
    return f"{target}__{member}"


# candidates and their ranking
CANDIDATE_ID: Final = "candidate_id"
PARENT_ID: Final = "parent_id"
PARENT_IS_EXPERIMENTAL: Final = "parent_is_experimental"  # its own, or of a duplicate; null where none is stated
PARENT_MADE: Final = "parent_made"  # 1 where the parent is known to have been made, else 0: what goals can ask for
ROUTE: Final = "route"
SUBSTITUTION: Final = "substitution"
PROBABILITY: Final = "probability"
VOLUME_PER_ATOM: Final = "volume_per_atom"
ENERGY_ABOVE_KNOWN_HULL: Final = "energy_above_known_hull"  # of known phases alone; energy_above_hull: of all rivals
COMPETING_PHASES: Final = "competing_phases"  # what the candidate would decay to, with shares of the atoms
MISSING_REFERENCES: Final = "missing_references"  # chemical systems without a known phase, comma-separated
STABILITY_JUDGED: Final = "stability_judged"  # its rivals are known well enough to say how stable it is
STABILITY_REMARK: Final = "stability_remark"  # why not, or what replaces a known phase; else empty
CELL_REMARK: Final = "cell_remark"  # on a cell unlike any known crystal; empty for others
KNOWN_FORMULA: Final = "known_formula"  # id of the lowest known phase of the same formula; empty = none is known
HULL_STD: Final = "hull_energy_std"  # of the phases that it competes with
ELEMENTAL_COST: Final = "elemental_cost"  # of the elements, by mass
HHI_PRODUCTION: Final = "hhi_production"  # Herfindahl-Hirschman index of the elements' production, by mass
HHI_RESERVE: Final = "hhi_reserve"
CRUSTAL_ABUNDANCE: Final = "crustal_abundance"  # of the rarest element
RESOURCES: Final = (ELEMENTAL_COST, HHI_PRODUCTION, HHI_RESERVE, CRUSTAL_ABUNDANCE)
JUDGED_BY: Final = "judged_by"  # with a cascade: `ensemble`, or the fast member that alone looked at the row
ELEMENT_RULES_MET: Final = "element_rules_met"
GOAL_PROBABILITY: Final = "goal_probability"
GOAL_MET: Final = "goal_met"
PARETO_FRONT: Final = "pareto_front"  # True on the first front
PARETO_LAYER: Final = "pareto_layer"  # 1 = first front
RANK: Final = "rank"
FRONT_PROBABILITY: Final = "front_probability"  # share of the ensemble's draws in which it is on the front
EXPECTED_IMPROVEMENT: Final = "expected_improvement"  # hypervolume it may add to the known materials' front
BATCH: Final = "batch"  # place in the diverse batch, 1 = first; 0 = not in it

# properties of relaxed crystals by a potential: unknown before the stage `relax`
SURFACE_ENERGY: Final = "surface_energy"  # of the lowest low-index surface
AVERAGE_VOLTAGE: Final = "average_voltage"  # of taking out the mobile ion, against its metal
VOLUME_CHANGE: Final = "volume_change"  # when the ion is out, relative to the volume with it
BULK_MODULUS_POTENTIAL: Final = "bulk_modulus_potential"  # of an equation of state
BY_RELAXATION: Final = (SURFACE_ENERGY, AVERAGE_VOLTAGE, VOLUME_CHANGE, BULK_MODULUS_POTENTIAL)

UNITS: Final = MappingProxyType(
    {
        LATTICE: "Å",
        BAND_GAP: "eV",
        BAND_GAP_EXPERIMENTAL: "eV",
        FORMATION_ENERGY: "eV/atom",
        FORMATION_ENERGY_ALIGNED: "eV/atom",
        FORMATION_ENERGY_ALIGNED_STD: "eV/atom",
        FORMATION_ENERGY_NOISE: "eV/atom",
        BAND_GAP_NOISE: "eV",
        ENERGY_ABOVE_HULL: "eV/atom",
        ENERGY_ABOVE_KNOWN_HULL: "eV/atom",
        BULK_MODULUS: "GPa",
        SHEAR_MODULUS: "GPa",
        VOLUME_PER_ATOM: "Å³/atom",
        HULL_STD: "eV/atom",
        ELEMENTAL_COST: "$/kg",
        CRUSTAL_ABUNDANCE: "mg/kg",
        SURFACE_ENERGY: "J/m²",
        AVERAGE_VOLTAGE: "V",
        BULK_MODULUS_POTENTIAL: "GPa",
    }
)

NAMES: Final = MappingProxyType(  # in prose: columns, databases and architectures
    {
        BAND_GAP: "PBE band gap",
        FORMATION_ENERGY: "formation energy",
        ENERGY_ABOVE_HULL: "energy above hull",
        BULK_MODULUS: "bulk modulus",
        SHEAR_MODULUS: "shear modulus",
        ELEMENTAL_COST: "cost of the elements",
        HHI_PRODUCTION: "HHI, production",
        HHI_RESERVE: "HHI, reserves",
        CRUSTAL_ABUNDANCE: "crustal abundance",
        VOLUME_CHANGE: "volume change without the ion",
        BULK_MODULUS_POTENTIAL: "bulk modulus by the potential",
        "materials_project": "Materials Project",
        "aflow": "AFLOW",
        "oqmd": "OQMD",
        "cgcnn": "CGCNN",
        "megnet": "MEGNet",
        "alignn": "ALIGNN",
        "cogn": "coGN",
        "comformer": "ComFormer",
        "composition": "composition only",
    }
)


def name_of(key: str) -> str:
    """A column, database or member as prose: `band_gap` -> `band gap`."""
    return NAMES.get(key, key.replace("_", " "))


def key_of(name: str) -> str:
    """The name as a key of `metrics/`, which does not include the functional."""
    return name_of(name).removeprefix("PBE ")
