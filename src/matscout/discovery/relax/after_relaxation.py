"""The result of a relaxation: limits on its changes, the space group, and whether it became a known structure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal import Crystal, formula_key
from matscout.curated_table import CuratedTable
from matscout.discovery.propose.crystal_templates import make_template
from matscout.discovery.propose.gates import CONTACT
from matscout.discovery.propose.ionic_volumes import CLOSEST_CONTACT, SCALE_RANGE, contact_ratio
from matscout.discovery.propose.novelty import first_match, primitive_cell
from matscout.discovery.relax.descent import Descent, descend
from matscout.params import Relaxation
from matscout.potentials.potential import Potential

VOLUME_CHANGED: Final = "volume_changed"
BONDS_CHANGED: Final = "bonds_changed"
ENERGY_HOLE: Final = "energy_hole"
ISOLATED: Final = "isolated_atoms"
KNOWN_STRUCTURE: Final = "relaxed_into_known"
SAME_AS: Final = "relaxed_into_candidate"
RELAXED_INTO: Final = "relaxed_into"
LARGEST_GAIN: Final = 1.0  # eV/atom; typical candidates gain a few hundredths


class NoValueError(Exception):
    """A potential has no answer for this crystal.

    Args:
        reason: in one word, for counting.
        detail: value, rule and remedy.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Settled:
    """A crystal after its relaxation.

    Attributes:
        descent: the relaxation.
        space_group: number at the tolerance of curation; None if none is found.
        reason: why the crystal leaves the shortlist; empty if it stays.
        detail: value, rule and remedy.
        relaxed_into: id of the known crystal, or of the better candidate, that it became; empty if it is new.
    """

    descent: Descent
    space_group: int | None
    reason: str
    detail: str
    relaxed_into: str = ""


def settle(
    ids: Sequence[str], before: Sequence[Crystal], descents: Sequence[Descent], settings: Relaxation, materials: Path
) -> list[Settled]:
    """Apply the limits, then find candidates that became known structures or equal to each other.

    Args:
        ids: ids of the candidates, best first; of two that become equal, the first stays.
        before: the unrelaxed crystals.
        descents: their relaxations.
        settings: limits on the changes.
        materials: curated table.
    """
    known = _known_of(materials, {formula_key(crystal.species) for crystal in before})
    kept: dict[str, list[tuple[str, Crystal]]] = {}
    found = []
    for name, crystal, descent in zip(ids, before, descents, strict=True):
        template = None if descent.reason else make_template(name, descent.crystal)
        space_group = None if template is None else template.space_group
        reason, detail = (descent.reason, descent.detail) if descent.reason else _fault(crystal, descent, settings)
        relaxed_into = ""
        if not reason:
            key, cell = formula_key(crystal.species), primitive_cell(descent.crystal)
            reason, detail, relaxed_into = _became(cell, known.get(key, ()), kept.get(key, ()))
            if not reason:
                kept.setdefault(key, []).append((name, cell))
        found.append(Settled(descent, space_group, reason, detail, relaxed_into))
    return found


def at_rest(name: str, crystal: Crystal, potential: Potential, settings: Relaxation) -> Descent:
    """Relax a crystal without which nothing can be said.

    Args:
        name: of the crystal in errors.
        crystal: where to start.
        potential: that pulls.
        settings: see `descend`.

    Raises:
        NoValueError: it does not come to rest, or falls into a hole of the potential.
    """
    found = descend(name, crystal, potential, settings)
    reason, detail = (found.reason, found.detail) if found.reason else (ENERGY_HOLE, _hole(found))
    if detail:
        raise NoValueError(reason, f"{name}: {detail}")
    return found


def _hole(descent: Descent) -> str:
    """What was gained, where it is too much; else empty."""
    gained = descent.energy_before - descent.energy_after
    return (
        f"gained {gained:.2f} eV/atom, more than {LARGEST_GAIN:g}: a hole in the potential"
        if gained > LARGEST_GAIN
        else ""
    )


def _fault(before: Crystal, descent: Descent, settings: Relaxation) -> tuple[str, str]:
    """Reason and detail of the first limit that the change exceeds; empty if it exceeds none."""
    after = descent.crystal
    ratio, (low, high) = after.volume / before.volume, settings.volume
    if not low <= ratio <= high:
        return VOLUME_CHANGED, f"volume {ratio:.2f} times the original, outside relaxation.volume = [{low:g}, {high:g}]"
    if hole := _hole(descent):
        return ENERGY_HOLE, hole
    nearest = [distances_to_nearest(crystal) for crystal in (before, after)]
    change = float(np.abs(nearest[1] / nearest[0] - 1).max())
    if change > settings.bonds:
        return (
            BONDS_CHANGED,
            f"a nearest neighbour moved by {change:.0%}, more than relaxation.bonds = {settings.bonds:g}",
        )
    template = make_template("relaxed", after)
    closest = np.nan if template is None else contact_ratio(template)
    if closest < CLOSEST_CONTACT:
        return CONTACT, f"two atoms at {closest:.2f} typical bond lengths, less than {CLOSEST_CONTACT:g}"
    if closest**3 > SCALE_RANGE[1]:
        return ISOLATED, f"no atoms nearer than {closest:.2f} typical bond lengths"
    return "", ""


def distances_to_nearest(crystal: Crystal) -> NDArray[np.float64]:
    """(n_atoms,) distance of each atom to its nearest neighbour, images included, Å."""
    lattice, frac = crystal.lattice, crystal.frac_coords
    spans = np.linalg.norm(np.linalg.inv(lattice), axis=0)  # inverse distances between lattice planes
    reach = np.ceil(np.cbrt(crystal.volume) * 1.5 * spans).astype(int)
    images = np.indices(2 * reach + 1).reshape(3, -1).T - reach
    steps = frac[None, :, None] - frac[:, None, None] + images
    between = np.linalg.norm(steps @ lattice, axis=-1)
    between[between < 1e-8] = np.inf
    return between.min(axis=(1, 2))


def _became(
    cell: Crystal, known: Sequence[tuple[str, Crystal]], kept: Sequence[tuple[str, Crystal]]
) -> tuple[str, str, str]:
    """Reason, detail and id if the relaxed cell equals a known structure or another candidate; empty if it is new."""
    for reason, others, words in ((KNOWN_STRUCTURE, known, "known"), (SAME_AS, kept, "a better candidate")):
        place = first_match(cell, [crystal for _, crystal in others])
        if place is not None:
            return reason, f"relaxed into {others[place][0]}, {words}", others[place][0]
    return "", "", ""


def _known_of(materials: Path, keys: set[str]) -> Mapping[str, list[tuple[str, Crystal]]]:
    """Primitive cells of the known crystals of these formulas, by formula and then by id."""
    elements = {frozenset(part.rstrip("0123456789") for part in key.split()) for key in keys}
    found: dict[str, list[tuple[str, Crystal]]] = {}
    table = CuratedTable(materials).crystals([columns.SYNTHETIC])
    species = table.column(columns.SPECIES).to_pylist()
    rows = [row for row, symbols in enumerate(species) if frozenset(symbols) in elements]
    for row in table.take(pa.array(rows, pa.int64())).to_pylist():
        key = formula_key(row[columns.SPECIES])
        if key in keys and not row[columns.SYNTHETIC]:
            cell = primitive_cell(Crystal.from_row(row))
            found.setdefault(key, []).append((str(row[columns.MATERIAL_ID]), cell))
    return {key: sorted(rows, key=lambda item: item[0]) for key, rows in found.items()}


def told(settled: Settled) -> dict[str, Any]:
    """The columns of one relaxation, without the crystals."""
    descent = settled.descent
    return {
        "converged": not descent.reason,
        "steps": descent.steps,
        "largest_force": descent.force,
        "moved": descent.moved,
        "potential_energy_before": descent.energy_before,
        "potential_energy_after": descent.energy_after,
        "energy_gained": descent.energy_before - descent.energy_after,
        RELAXED_INTO: settled.relaxed_into,
        "reason": settled.reason,
        "detail": settled.detail,
    }
