"""Do two reduced cells show the same arrangement of atoms? pymatgen's matcher, asked in both directions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pymatgen.analysis.structure_matcher import StructureMatcher

from matscout.crystal import Crystal
from matscout.params import Matching


@dataclass(frozen=True)
class Match:
    """A pair of cells that match, and how closely.

    Attributes:
        first, second: positions in the sequence that was compared.
        rms: root mean square site displacement, in units of (volume per atom)^(1/3).
        max_distance: largest site displacement, same unit.
        volume_difference: |V_1 - V_2| / mean, per atom (the matcher scales both to one volume).
    """

    first: int
    second: int
    rms: float
    max_distance: float
    volume_difference: float


def match_pairs(cells: Sequence[Crystal], pairs: Iterable[tuple[int, int]], settings: Matching) -> list[Match]:
    """The pairs of reduced `cells` that match in both directions (the matcher is directional)."""
    matcher = StructureMatcher(
        ltol=settings.ltol, stol=settings.stol, angle_tol=settings.angle_tol, primitive_cell=False, scale=True
    )
    structures = [cell.to_structure() for cell in cells]
    volumes = [cell.volume / cell.n_atoms for cell in cells]
    matches: list[Match] = []
    for first, second in pairs:
        if not matcher.fit(structures[first], structures[second], symmetric=True, skip_structure_reduction=True):
            continue
        distances = matcher.get_rms_dist(structures[first], structures[second])
        if distances is None:  # found at the very edge of the tolerances: one rounding away from no match
            continue
        difference = 2 * abs(volumes[first] - volumes[second]) / (volumes[first] + volumes[second])
        matches.append(Match(first, second, float(distances[0]), float(distances[1]), difference))
    return matches
