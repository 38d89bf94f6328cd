"""What goals are really about, for relaxed crystals, by the potential that relaxed them: columns with their errors.

- Surface energy: the lowest of the low-index surfaces, relaxed.
- Average voltage of a host: its mobile ion taken out fully, against the metal.
- Bulk modulus: energies over volumes, with an equation of state through them.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from ase.build import bulk
from ase.eos import EquationOfState
from ase.units import GPa
from pymatgen.core import Structure
from pymatgen.core.surface import Slab, SlabGenerator, get_symmetrically_distinct_miller_indices
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.relax.after_relaxation import VOLUME_CHANGED, NoValueError, at_rest
from matscout.discovery.relax.descent import SYMPREC, loaded, part_name
from matscout.engine import parallel_stream
from matscout.errors import StoreError
from matscout.params import Goal, Relaxation
from matscout.potentials.calculators import crystal_of
from matscout.potentials.potential import Potential
from matscout.resume.parts import Parts

LARGEST_INDEX: Final = 1
MOST_RELAXED: Final = 3  # slabs: those of the lowest energy before their relaxation
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
    potentials. All terminations with Miller indices up to 1 of the conventional standard cell are tried, and the
    `MOST_RELAXED` that cost least as cut are relaxed.

    Args:
        crystal: at rest.
        potential: that pulls.
        settings: limits of a relaxation, and `slab_atoms`.

    Returns:
        Surface energy in J/m², and which surface it is of how many relaxed ones.

    Raises:
        NoValueError: no slab can be used, or cutting the crystal sets energy free.
    """
    conventional = SpacegroupAnalyzer(crystal.to_structure(), symprec=SYMPREC).get_conventional_standard_structure()
    bulk = Crystal.from_structure(conventional)
    per_atom = float(potential.energies([bulk])[0]) / bulk.n_atoms
    fixed = settings.model_copy(update={"cell": False})
    usable, skipped = list[tuple[str, float, Crystal]](), Counter[str]()
    for facet, slab in _slabs(conventional):
        if fault := _fault(slab, conventional, settings.slab_atoms):
            skipped[fault] += 1
        else:
            usable.append((facet, 2 * slab.surface_area, Crystal.from_structure(slab)))
    energies = potential.energies([cut for _, _, cut in usable])
    as_cut = [(e - per_atom * cut.n_atoms) / area for e, (_, area, cut) in zip(energies, usable, strict=True)]
    found = list[tuple[float, str]]()
    for place in np.argsort(as_cut, kind="stable")[:MOST_RELAXED].tolist():
        facet, area, cut = usable[place]
        try:
            descent = at_rest(f"slab {facet}", cut, potential, fixed)
        except NoValueError as error:
            skipped[f"that failed ({error.reason})"] += 1
            continue
        excess = (descent.energy_after - per_atom) * cut.n_atoms
        found.append((JOULES * excess / area, facet))
    told = "".join(f"; skipped {n} {why}" for why, n in sorted(skipped.items()))
    if not found:
        raise NoValueError(NO_SLAB, f"no low-index slab can be used{told}")
    if (left := len(usable) - MOST_RELAXED) > 0:
        told += f"; left {left} that cost more as cut"
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


CHARGES: Final = {
    **dict.fromkeys(("Li", "Na", "K", "Rb", "Cs", "Ag"), 1),
    **dict.fromkeys(("Mg", "Ca", "Sr", "Ba", "Zn"), 2),
    **dict.fromkeys(("Al", "Y"), 3),
}

NO_ION: Final = "no_mobile_ion"
NO_HOST: Final = "no_host"


def average_voltage(crystal: Crystal, potential: Potential, settings: Relaxation) -> tuple[dict[str, float], str]:
    """V = -(E(full) - E(host) - n E(metal)) / (n z), and what the host's volume does.

    Aydinol et al., Phys. Rev. B 56, 1354 (1997), eq. 4; entropy and volume work are left out. The host is relaxed like
    the crystal, the metal in its usual structure.

    Args:
        crystal: at rest, with all its ions.
        potential: that pulls.
        settings: limits of a relaxation, and `mobile_ions`.

    Returns:
        Voltage in V and relative change of the volume when the ion is out, and which ion it is.

    Raises:
        NoValueError: there is no such ion, nothing else, or the host does not survive.
    """
    ion = next((symbol for symbol in settings.mobile_ions if symbol in crystal.species), None)
    if ion is None:
        raise NoValueError(NO_ION, f"holds none of relaxation.mobile_ions = {list(settings.mobile_ions)}")
    stays = np.array([symbol != ion for symbol in crystal.species])
    if not stays.any():
        raise NoValueError(NO_HOST, f"holds nothing but {ion}")
    host = Crystal(crystal.lattice, tuple(s for s in crystal.species if s != ion), crystal.frac_coords[stays])
    free = settings.model_copy(update={"cell": True, "symmetry": True})
    metal = at_rest(f"metal {ion}", crystal_of(bulk(ion)), potential, free)
    emptied = at_rest(f"host without {ion}", host, potential, settings)
    ratio, (low, high) = emptied.crystal.volume / crystal.volume, settings.volume
    if not low <= ratio <= high:
        detail = f"without {ion} {ratio:.2f} times the volume, outside relaxation.volume = [{low:g}, {high:g}]"
        raise NoValueError(VOLUME_CHANGED, detail)
    n = crystal.n_atoms - host.n_atoms
    bound = float(potential.energies([crystal])[0]) - emptied.energy_after * host.n_atoms - n * metal.energy_after
    voltage = -bound / (n * CHARGES[ion])
    return {columns.AVERAGE_VOLTAGE: voltage, columns.VOLUME_CHANGE: ratio - 1}, f"{ion} out, {CHARGES[ion]} e each"


VOLUMES: Final = np.linspace(0.94, 1.06, 7)  # times that at rest
FORCE: Final = 0.02  # eV/Å at most: energies over volumes differ by a few meV/atom
LARGEST_MISFIT: Final = 0.05  # of the fit, root mean square, relative to the spread of the energies

NO_MINIMUM: Final = "no_minimum"
NOT_SMOOTH: Final = "energies_not_smooth"


def bulk_modulus(crystal: Crystal, potential: Potential, settings: Relaxation) -> tuple[dict[str, float], str]:
    """The third-order Birch-Murnaghan bulk modulus at the minimum over seven volumes.

    The cell keeps its shape and atoms relax with their symmetry, so that it is the Voigt average: the Reuss average of
    an anisotropic crystal is lower.

    Args:
        crystal: at rest.
        potential: that pulls.
        settings: limits of a relaxation; forces are at most `FORCE` here.

    Returns:
        Bulk modulus in GPa, and how well the curve fits.

    Raises:
        NoValueError: a volume does not come to rest, or the energies are no such curve.
    """
    fixed = settings.model_copy(update={"cell": False, "force": min(settings.force, FORCE)})
    volumes, energies, frac = VOLUMES * crystal.volume, np.zeros(len(VOLUMES)), crystal.frac_coords
    for place, ratio in enumerate(VOLUMES):
        cell = Crystal(crystal.lattice * np.cbrt(ratio), crystal.species, frac)
        descent = at_rest(f"at {ratio:.2f} of its volume", cell, potential, fixed)
        energies[place], frac = descent.energy_after * crystal.n_atoms, descent.crystal.frac_coords
    if not 0 < int(np.argmin(energies)) < len(VOLUMES) - 1:
        raise NoValueError(NO_MINIMUM, f"no minimum within {VOLUMES[0]:g} to {VOLUMES[-1]:g} of the volume at rest")
    curve = EquationOfState(volumes, energies, eos="birchmurnaghan")
    curve.fit(warn=False)
    said = np.array([curve.func(volume, *curve.eos_parameters) for volume in volumes])
    misfit = float(np.sqrt(np.square(said - energies).mean()) / np.ptp(energies))
    if misfit > LARGEST_MISFIT:
        raise NoValueError(NOT_SMOOTH, f"the fit misses the energies by {misfit:.0%} of their spread")
    return {columns.BULK_MODULUS_POTENTIAL: float(curve.B) / GPa}, f"fit within {misfit:.1%} of the energies' spread"


Compute = Callable[[Crystal, Potential, Relaxation], tuple[dict[str, float], str]]

PROPERTIES: Final[dict[str, tuple[Compute, tuple[str, ...]]]] = {  # of `relaxation.properties`: how, and its columns
    columns.SURFACE_ENERGY: (surface_energy, (columns.SURFACE_ENERGY,)),
    columns.AVERAGE_VOLTAGE: (average_voltage, (columns.AVERAGE_VOLTAGE, columns.VOLUME_CHANGE)),
    columns.BULK_MODULUS_POTENTIAL: (bulk_modulus, (columns.BULK_MODULUS_POTENTIAL,)),
}
ERRORS: Final = {  # in the column's unit, of the value: root mean squares of benchmarks/discovery/potential_properties
    columns.SURFACE_ENERGY: (0.0, 0.12),
    columns.AVERAGE_VOLTAGE: (0.5, 0.0),
    columns.VOLUME_CHANGE: (0.1, 0.0),
    columns.BULK_MODULUS_POTENTIAL: (0.0, 0.075),
}
REASON: Final = "_reason"
DETAIL: Final = "_detail"
FAILED: Final = "failed"


def asked_properties(settings: Relaxation, goal: Goal) -> tuple[str, ...]:
    """Names of `PROPERTIES`: those of the settings, and those whose columns the goal names."""
    wanted = {*settings.properties, *(aim.column for aim in goal.relaxed)}
    return tuple(name for name, (_, made) in PROPERTIES.items() if wanted & {name, *made})


def properties_of_all(
    crystals: Sequence[Crystal], names: Sequence[str], settings: Relaxation, parts: Parts, *, workers: int
) -> pd.DataFrame:
    """Compute properties of relaxed crystals side by side; a killed run goes on with the one that it was at.

    Args:
        crystals: n at rest.
        names: of `PROPERTIES`.
        settings: the section `relaxation`.
        parts: of this very run; what they hold already is not done again.
        workers: processes; the results do not depend on their number.

    Returns:
        n rows: each column with its error (`_std`); NaN where a property cannot be told, for the reason in
        `<property>_reason` and, in words, `<property>_detail`.

    Raises:
        StoreError: the parts were changed from outside.
    """
    tasks = [[(part_name(name, [crystal]), name, crystal) for name in names] for crystal in crystals]
    todo = [task for row in tasks for task in row if parts.table(task[0]) is None]
    function = partial(_compute_one, settings, parts.folder.resolve())
    for _ in parallel_stream(function, todo, workers=workers, description="properties", unit="property"):
        pass
    rows: list[dict[str, Any]] = [{} for _ in crystals]
    for place, own in enumerate(tasks):
        for part, _, _ in own:
            if (table := parts.table(part)) is None:
                raise StoreError(f"{parts.folder} was changed while it was read; run the stage again")
            rows[place] |= table.to_pylist()[0]
    return pd.DataFrame(rows, index=range(len(crystals)))


def _compute_one(settings: Relaxation, folder: Path, task: tuple[str, str, Crystal]) -> None:
    part, name, crystal = task
    row = _row(name, crystal, loaded(settings), settings)
    Parts(folder).save_table(part, pa.Table.from_pylist([row]))


def _row(name: str, crystal: Crystal, potential: Potential, settings: Relaxation) -> dict[str, Any]:
    compute, made = PROPERTIES[name]
    values, reason = dict.fromkeys(made, np.nan), ""
    try:
        values, detail = compute(crystal, potential, settings)
    except NoValueError as error:
        reason, detail = error.reason, error.detail
    except Exception as error:  # noqa: BLE001 -- libraries fail on odd crystals in many ways; none stops the stage
        reason, detail = FAILED, f"{type(error).__name__}: {error}"
    if not reason and not np.isfinite(list(values.values())).all():
        reason, detail = FAILED, "the potential gives no finite energy"
        values = dict.fromkeys(made, np.nan)
    row: dict[str, Any] = {}
    for column, value in values.items():
        absolute, relative = ERRORS[column]
        row |= {column: float(value), column + columns.STD: float(np.hypot(absolute, relative * value))}
    return row | {name + REASON: reason, name + DETAIL: detail}
