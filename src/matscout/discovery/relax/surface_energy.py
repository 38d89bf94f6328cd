"""Surface energy by a potential: the lowest of the low-index surfaces, relaxed."""

import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Final

from pymatgen.core import Structure
from pymatgen.core.surface import Slab, SlabGenerator, get_symmetrically_distinct_miller_indices
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.relax.after_relaxation import NoValueError, at_rest
from matscout.discovery.relax.descent import SYMPREC
from matscout.params import Relaxation
from matscout.potentials.potential import Potential

LARGEST_INDEX: Final = 1
THICKNESS: Final = 10.0  # Å at least, as in Tran et al., Sci. Data 3, 160080 (2016)
VACUUM: Final = 12.0  # Å: more than the reach of a potential
JOULES: Final = 16.02176634  # J/m² in one eV/Å²

NO_SLAB: Final = "no_slab"
NEGATIVE: Final = "surface_energy_negative"
UNLIKE_FACES: Final = "whose faces differ"
TOO_LARGE: Final = "of more atoms than relaxation.slab_atoms"
NOT_STOICHIOMETRIC: Final = "of another composition"


def surface_energy(crystal: Crystal, potential: Potential, settings: Relaxation) -> tuple[dict[str, float], str]:
    """(E_slab - n E_bulk) / 2A of the surface that costs least, atoms relaxed in a fixed cell with their symmetry.

    Only slabs of the crystal's own composition whose two faces are alike have a surface energy without chemical
    potentials. All terminations with Miller indices up to 1 of the conventional standard cell are tried.

    Args:
        crystal: at rest.
        potential: that pulls.
        settings: limits of a relaxation, and `slab_atoms`.

    Returns:
        Surface energy in J/m², and which surface it is of how many.

    Raises:
        NoValueError: no slab can be used, or cutting the crystal sets energy free.
    """
    conventional = SpacegroupAnalyzer(crystal.to_structure(), symprec=SYMPREC).get_conventional_standard_structure()
    bulk = Crystal.from_structure(conventional)
    per_atom = float(potential.energies([bulk])[0]) / bulk.n_atoms
    fixed = settings.model_copy(update={"cell": False})
    found, skipped = list[tuple[float, str]](), Counter[str]()
    for facet, slab in _slabs(conventional):
        if fault := _fault(slab, conventional, settings.slab_atoms):
            skipped[fault] += 1
            continue
        cut = Crystal.from_structure(slab)
        try:
            descent = at_rest(f"slab {facet}", cut, potential, fixed)
        except NoValueError as error:
            skipped[f"that failed ({error.reason})"] += 1
            continue
        excess = (descent.energy_after - per_atom) * cut.n_atoms
        found.append((JOULES * excess / (2 * slab.surface_area), facet))
    told = "".join(f"; skipped {n} {why}" for why, n in sorted(skipped.items()))
    if not found:
        raise NoValueError(NO_SLAB, f"no low-index slab can be used{told}")
    lowest, facet = min(found)
    if lowest <= 0:
        raise NoValueError(NEGATIVE, f"{lowest:.2f} J/m² on {facet}: the potential would rather cut the crystal")
    return {columns.SURFACE_ENERGY: lowest}, f"{facet}, lowest of {len(found)} slab(s){told}"


def _slabs(conventional: Structure) -> Iterator[tuple[str, Slab]]:
    """All terminations with their facet; those of elements are made symmetric, which keeps their composition."""
    elemental = len(conventional.composition) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pymatgen, on its own arguments
        for index in get_symmetrically_distinct_miller_indices(conventional, LARGEST_INDEX):
            generator = SlabGenerator(conventional, index, THICKNESS, VACUUM, center_slab=True)
            for slab in generator.get_slabs(symmetrize=elemental):
                yield f"({' '.join(map(str, index))})", slab


def _fault(slab: Slab, bulk: Structure, most_atoms: int) -> str:
    """Why the slab has no surface energy, or is not worth its price; empty where it has one."""
    if slab.composition.reduced_composition != bulk.composition.reduced_composition:
        return NOT_STOICHIOMETRIC
    if len(slab) > most_atoms:
        return TOO_LARGE
    return "" if slab.is_symmetric() else UNLIKE_FACES
