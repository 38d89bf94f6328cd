"""Energy corrections of the Materials Project: what each scheme adds to a formation energy.

GGA errs by a nearly constant energy for each atom that becomes an anion, and calculations with a Hubbard U lie
on another scale than those without. A scheme fits one number to each anion and each +U metal. Two databases of
equal calculations and different schemes therefore differ by tenths of an eV/atom. All numbers are pymatgen's:

- `mp2018`, used until 2020 (`MaterialsProjectCompatibility`; Jain et al., Phys. Rev. B 84, 045115, 2011): O by the
  kind of oxide, S in any role, +U metals of oxides and fluorides. H, N, F and Cl have no correction of their own;
  the *elements* were given fitted energies, which moves every compound that contains them.
- `mp2020`, used since (`MaterialsProject2020Compatibility`; Wang et al., Sci. Rep. 11, 15496, 2021): O by the kind
  of oxide, S except in sulfates, ten more anions where they are anions, +U metals of oxides and fluorides. The
  elements keep the energies of their calculations.
- `none`: energies as calculated.
"""

import gzip
import json
import warnings
from collections.abc import Mapping
from functools import lru_cache
from math import comb
from pathlib import Path
from typing import Final

from pymatgen.analysis import compatibility
from pymatgen.core import Composition, Element, Structure
from pymatgen.core.entries import ComputedEntry
from pymatgen.core.structure_analyzer import oxide_type, sulfide_type
from pymatgen.io.vasp.sets import MPRelaxSet

from matscout import columns
from matscout.errors import ParameterError

SCHEMES: Final = (columns.MP2018, columns.MP2020, columns.UNCORRECTED)
TABLES: Final = Path(compatibility.__file__).parent
OXYGEN_BOND_TOLERANCE: Final = 1.05  # on 1.49 Å (peroxide) and 1.35 Å (superoxide): the Materials Project's
ANIONS_BY_ROLE: Final = ("Br", "I", "Se", "Si", "Sb", "Te", "H", "N", "F", "Cl")
MOST_ATOMS: Final = 20  # of a reduced formula whose oxidation states are guessed: the Materials Project's
MOST_TRIALS: Final = 200_000  # in a guess of oxidation states: about a second
SUMS_PER_TRIAL: Final = 10  # that cost what one look-up of an oxidation state costs


def correction_per_atom(structure: Structure, scheme: str) -> float:
    """The part of a formation energy per atom that is correction, not calculation.

    `e_form(mp2020) = e_form(mp2018) - correction(mp2018) + correction(mp2020)`.

    Oxides, peroxides, superoxides and ozonides are distinguished by O-O distances, sulfates by the neighbours of S.
    Every other anion is one by its oxidation state, guessed from the composition; where no guess balances, the
    formula is too large or the guess would take seconds, only the most electronegative element is an anion.

    Args:
        structure: an ordered cell, calculated with the Materials Project's settings (PBE, and +U on V, Cr, Mn, Fe,
            Co, Ni, Mo and W where O or F is the most electronegative element).
        scheme: `mp2018`, `mp2020` or `none`.

    Returns:
        eV/atom; zero for elements.

    Raises:
        ParameterError: an unknown scheme.
    """
    if scheme not in SCHEMES:
        raise ParameterError(f"corrections = {scheme!r}: no such scheme; choose one of {', '.join(SCHEMES)}")
    composition = structure.composition
    if scheme == columns.UNCORRECTED or composition.is_element:
        return 0.0
    with warnings.catch_warnings():
        # a noble gas has no electronegativity: it is never the most electronegative element
        warnings.filterwarnings("ignore", "No Pauling electronegativity", UserWarning)
        oxide = oxide_type(structure, OXYGEN_BOND_TOLERANCE) if Element("O") in composition else ""
        has_sulfur = Element("S") in composition and scheme == columns.MP2020
        sulfide = (sulfide_type(structure) or "sulfate") if has_sulfur else "sulfide"
        # pymatgen's alphabetical formula of the reduced cell, the one that needs no electronegativity
        return _of_formula(composition.reduced_composition.hill_formula, str(oxide), sulfide, scheme)


@lru_cache(maxsize=100_000)
def _of_formula(formula: str, oxide: str, sulfide: str, scheme: str) -> float:
    composition = Composition(formula)
    if scheme == columns.MP2018:
        return _mp2018(composition, oxide) / composition.num_atoms
    entry = ComputedEntry(
        composition,
        energy=0.0,
        parameters={"run_type": "GGA+U", "hubbards": _hubbard(composition), "software": "vasp"},
        data={"oxide_type": oxide, "sulfide_type": sulfide, "oxidation_states": _oxidation_states(composition)},
    )
    adjustments = compatibility.MaterialsProject2020Compatibility(check_potcar=False).get_adjustments(entry)
    return sum(adjustment.value for adjustment in adjustments) / composition.num_atoms


def _mp2018(composition: Composition, oxide: str) -> float:
    """eV; pymatgen's own class of that scheme is deprecated, its table is not."""
    table = compatibility.MP_COMPAT_CONFIG
    oxygen = table["OxideCorrections"].get(oxide, table["OxideCorrections"]["oxide"])  # hydroxides are oxides
    metals = table["Advanced"]["UCorrections"].get(_most_electronegative(composition), {})
    per_atom = {**metals, "O": oxygen, "S": table["SulfideCorrections"]["sulfide"]}
    in_compound = sum(composition[symbol] * energy for symbol, energy in per_atom.items())
    return in_compound - sum(composition[symbol] * energy for symbol, energy in _moved_elements().items())


def _hubbard(composition: Composition) -> dict[str, float]:
    """Hubbard U by metal, eV, as the Materials Project's input set applies it."""
    settings = MPRelaxSet.CONFIG["INCAR"]["LDAUU"].get(_most_electronegative(composition), {})
    return {symbol: u for symbol, u in settings.items() if Element(symbol) in composition}


def _most_electronegative(composition: Composition) -> str:
    return max(composition.elements, key=lambda element: element.X).symbol


def _oxidation_states(composition: Composition) -> dict[str, float]:
    """The most probable balanced guess by element; zeros where there is none, which pymatgen reads as "not known"."""
    unknown = {element.symbol: 0.0 for element in composition}
    if not any(Element(anion) in composition for anion in ANIONS_BY_ROLE):
        return unknown  # nothing depends on them
    if composition.num_atoms > MOST_ATOMS or _n_trials(composition) > MOST_TRIALS:
        return unknown
    guesses = composition.oxi_state_guesses()
    return dict(guesses[0]) if guesses else unknown


def _n_trials(composition: Composition) -> int:
    """Look-ups in `oxi_state_guesses`: every atom of each combination for an element, then every set of their sums."""
    n_trials, n_sums = 0, 1
    for element, amount in composition.items():
        n_atoms, states = int(amount), element.icsd_oxidation_states or element.common_oxidation_states or (0,)
        n_combinations = comb(n_atoms + len(states) - 1, n_atoms)
        n_trials += n_atoms * n_combinations
        n_sums *= min(n_combinations, (max(states) - min(states)) * n_atoms + 1)
    return n_trials + n_sums // SUMS_PER_TRIAL


@lru_cache(maxsize=1)
def _moved_elements() -> Mapping[str, float]:
    """By how much `mp2018` raised the energies of the elements H, N, F and Cl over their calculations, eV/atom."""
    calculated = json.loads(gzip.decompress((TABLES / "calc_compounds.json.gz").read_bytes()))
    fitted: dict[str, float] = compatibility.MP_COMPAT_CONFIG["Advanced"]["CompoundEnergies"]
    moved = {}
    for formula, energy in fitted.items():
        entry = calculated[formula]
        ((symbol, n_atoms),) = entry["composition"].items()
        moved[symbol] = energy - entry["energy"] / n_atoms
    return moved
