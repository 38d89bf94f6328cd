"""pymatgen's structure matching with its results, to the last bit, in a fraction of the time.

`StructureMatcher` tries every mapping of one lattice onto the other with every origin, one after the other. Nearly all
fail because some site has no partner inside a box. Here that test is made for all mappings and origins at once, with
boxes larger by `SLACK`, so that rounding can only let too many through. What passes is computed with pymatgen's own
functions, in its order. Tests compare the results with `StructureMatcher`'s.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice

SLACK: Final = 1e-8  # fractional; rounding is below 1e-12
TESTED_AT_ONCE: Final = 400_000  # pairs of sites, about 10 MB
SAME: Final = 1e-5  # a closest match is not looked for below this distance, as in pymatgen


@dataclass(frozen=True)
class Arrangement:
    """A cell for the matcher.

    Attributes:
        lattice: vectors in Å.
        frac_coords: (n_atoms, 3) fractional.
        species: (n_atoms,) numbers of the elements.
    """

    lattice: Lattice
    frac_coords: NDArray[np.float64]
    species: NDArray[np.uint8]

    def cart_coords(self) -> NDArray[np.float64]:
        """(n_atoms, 3) Å; one product per site, as pymatgen rounds them."""
        return np.array([self.lattice.get_cartesian_coords(site) for site in self.frac_coords])


@dataclass(frozen=True)
class Tolerances:
    """Those of `StructureMatcher`: shares of lengths and of (volume per atom)^(1/3), and degrees."""

    ltol: float
    stol: float
    angle_tol: float


@dataclass(frozen=True)
class BestMapping:
    """The mapping with the smallest distance.

    Attributes:
        distance: what was minimised.
        distances: (n_atoms,) of the sites, in units of (volume per atom)^(1/3).
        transformation: (3, 3) integers; its rows are the mapped lattice vectors.
    """

    distance: float
    distances: NDArray[np.float64]
    transformation: NDArray[np.int64]


def at_one_volume(first: Arrangement, second: Arrangement) -> tuple[Arrangement, Arrangement]:
    """Both cells, scaled to the geometric mean of their volumes."""
    ratio = (second.lattice.volume / first.lattice.volume) ** (1 / 6)
    return (
        Arrangement(Lattice(first.lattice.matrix * ratio), first.frac_coords, first.species),
        Arrangement(Lattice(second.lattice.matrix / ratio), second.frac_coords, second.species),
    )


def matches(first: Arrangement, second: Arrangement, tolerances: Tolerances) -> bool:
    """Whether each cell maps onto the other: `StructureMatcher.fit(..., symmetric=True)`.

    Args:
        first: a cell.
        second: another of the same atoms, not scaled.
        tolerances: how far apart sites may be.
    """
    first, second = at_one_volume(first, second)
    if best_mapping(first, second, tolerances, any_match=True) is None:
        return False
    second, first = at_one_volume(second, first)
    return best_mapping(second, first, tolerances, any_match=True) is not None


def best_mapping(
    first: Arrangement,
    second: Arrangement,
    tolerances: Tolerances,
    *,
    any_match: bool = False,
    onto_first: bool = False,
) -> BestMapping | None:
    """The mapping with the smallest rms distance of sites; None if no mapping is within tolerance.

    Args:
        first: a cell.
        second: another of the same atoms and volume.
        tolerances: how far apart sites may be.
        any_match: return the first mapping whose largest distance is within tolerance.
        onto_first: map the second lattice onto the first instead of the first onto the second.
    """
    forbidden = second.species[:, None] != first.species[None, :]
    from pymatgen.util.coord_cython import is_coord_subset_pbc  # here: predicting starts without it

    origin = int(np.argmax(forbidden.sum(axis=1)))
    partners = np.flatnonzero(~forbidden[origin])
    moved, target = (second, first) if onto_first else (first, second)
    cart_coords, integers = moved.cart_coords(), forbidden.astype(np.int64)
    averages: dict[bytes, _Average] = {}
    best: BestMapping | None = None
    for matrix, transformation, partner in _possible(
        moved, target, forbidden, origin, partners, tolerances, onto_first=onto_first
    ):
        lattice = Lattice(matrix)
        frac = lattice.get_fractional_coords(cart_coords)
        frac -= np.floor(frac)
        ours, theirs = (first.frac_coords, frac) if onto_first else (frac, second.frac_coords)
        parameters = (np.array(lattice.parameters) + np.array(target.lattice.parameters)) / 2
        average = averages.get(key := parameters.tobytes())
        if average is None:
            average = averages[key] = _Average(parameters, len(frac), tolerances.stol)
        shifted = theirs + (ours[partner] - theirs[origin])
        if not is_coord_subset_pbc(shifted, ours, average.box, integers):
            continue
        distances = average.distances(ours, shifted, integers)
        distance = max(distances) if any_match else np.linalg.norm(distances) / len(distances) ** 0.5
        if best is None or distance < best.distance:
            best = BestMapping(distance, distances, transformation)
            if (any_match or distance < SAME) and distance < tolerances.stol:
                return best
    return best if best is not None and best.distance < tolerances.stol else None


class _Average:
    """The lattice between the two, in which distances are measured, and its boxes of tolerance."""

    def __init__(self, parameters: NDArray[np.float64], n_atoms: int, stol: float) -> None:
        self.lattice = Lattice.from_parameters(*parameters)
        self.normalization = (n_atoms / self.lattice.volume) ** (1 / 3)
        self._stol = stol
        self.box = self._box_of(self.lattice)
        self._reduced_box: NDArray[np.float64] | None = None

    def _box_of(self, lattice: Lattice) -> NDArray[np.float64]:
        return np.array(lattice.reciprocal_lattice.abc) * self._stol / (np.pi * self.normalization)

    def distances(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64], forbidden: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(n_atoms,) of the paired sites, after the shift that makes their squares smallest."""
        # here: predicting starts without them
        from pymatgen.util.coord_cython import pbc_shortest_vectors
        from scipy.optimize import linear_sum_assignment

        if self._reduced_box is None:
            self._reduced_box = self._box_of(self.lattice.get_lll_reduced_lattice())
        vectors, squares = pbc_shortest_vectors(
            self.lattice, theirs, ours, forbidden, return_d2=True, lll_frac_tol=self._reduced_box
        )
        _, pairing = linear_sum_assignment(squares)
        short = vectors[np.arange(len(pairing)), pairing]
        return np.sum((short - np.mean(short, axis=0)) ** 2, axis=-1) ** 0.5 * self.normalization


def _possible(
    moved: Arrangement,
    target: Arrangement,
    forbidden: NDArray[np.bool_],
    origin: int,
    partners: NDArray[np.int64],
    tolerances: Tolerances,
    *,
    onto_first: bool,
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64], int]]:
    """Mapped lattice vectors, their integers and the origin's partner, where every site may have a partner."""
    matrices, transformations = lattice_mappings(moved.lattice, target.lattice, tolerances)
    cart_coords = moved.frac_coords @ moved.lattice.matrix
    allowed = [np.flatnonzero(~row) for row in forbidden]
    sites = sorted((site for site in range(len(allowed)) if site != origin), key=lambda site: len(allowed[site]))
    step = max(1, TESTED_AT_ONCE // (len(partners) * len(allowed)))
    for start in range(0, len(matrices), step):
        chunk = matrices[start : start + step]
        frac = cart_coords @ np.linalg.inv(chunk)
        boxes = _boxes(chunk, target.lattice, len(allowed), tolerances.stol) + SLACK
        fixed = np.broadcast_to(target.frac_coords, frac.shape)
        ours, theirs = (fixed, frac) if onto_first else (frac, fixed)
        mapping = np.repeat(np.arange(len(chunk)), len(partners))
        partner = np.tile(partners, len(chunk))
        for site in sites:
            shift = ours[mapping, partner] - theirs[mapping, origin]
            apart = ours[mapping[:, None], allowed[site][None, :]] - (theirs[mapping, site] + shift)[:, None, :]
            apart -= np.round(apart)
            kept = (np.abs(apart) <= boxes[mapping, None, :]).all(axis=-1).any(axis=-1)
            mapping, partner = mapping[kept], partner[kept]
            if not len(mapping):
                break
        for place, atom in zip(mapping.tolist(), partner.tolist(), strict=True):
            yield chunk[place], transformations[start + place], atom


def lattice_mappings(
    moved: Lattice, target: Lattice, tolerances: Tolerances
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All bases of one lattice with about the lengths and angles of the other: `Lattice.find_all_mappings`.

    Args:
        moved: the lattice.
        target: the other, of the same volume.
        tolerances: of lengths and angles.

    Returns:
        (n, 3, 3) bases, Å, and (n, 3, 3) integers, which give them in terms of `moved`.
    """
    longest = 1 + tolerances.ltol
    frac, dist, _, _ = moved.get_points_in_sphere(  # type: ignore[misc]
        [[0, 0, 0]], [0, 0, 0], max(target.lengths) * longest, zip_results=False
    )
    cart = moved.get_cartesian_coords(frac)  # type: ignore[reportArgumentType]
    chosen = [(dist / length < longest) & (dist / length > 1 / longest) for length in target.lengths]  # type: ignore[operator]
    a, b, c = (cart[where] for where in chosen)
    lengths_a, lengths_b, lengths_c = (np.sum(vectors**2, axis=-1) ** 0.5 for vectors in (a, b, c))
    alpha, beta, gamma = target.angles
    tolerance = tolerances.angle_tol
    alphas = np.abs(_angles(b, c, lengths_b, lengths_c) - alpha) <= tolerance
    betas = np.abs(_angles(a, c, lengths_a, lengths_c) - beta) <= tolerance
    i, j = np.nonzero(np.abs(_angles(a, b, lengths_a, lengths_b) - gamma) <= tolerance)
    pair, k = np.nonzero(alphas[j] & betas[i])
    i, j = i[pair], j[pair]
    f_a, f_b, f_c = (frac[where].astype(np.int64) for where in chosen)  # type: ignore[index]
    integers = np.stack([f_a[i], f_b[j], f_c[k]], axis=1)
    primitive = np.abs(np.sum(np.cross(integers[:, 0], integers[:, 1]) * integers[:, 2], axis=-1)) == 1
    return np.stack([a[i], b[j], c[k]], axis=1)[primitive], integers[primitive]


def _angles(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    first_lengths: NDArray[np.float64],
    second_lengths: NDArray[np.float64],
) -> NDArray[np.float64]:
    cosines = np.inner(first, second) / first_lengths[:, None] / second_lengths
    return np.rad2deg(np.arccos(np.clip(cosines, -1, 1)))


def _boxes(matrices: NDArray[np.float64], target: Lattice, n_atoms: int, stol: float) -> NDArray[np.float64]:
    """(n, 3) half edges, fractional, of the boxes in the average of each mapped lattice and the target."""
    lengths = np.linalg.norm(matrices, axis=-1)
    pairs = np.stack([matrices[:, k % 3] * matrices[:, (k + 1) % 3] for k in (1, 2, 3)], axis=1).sum(axis=-1)
    products = np.stack([lengths[:, k % 3] * lengths[:, (k + 1) % 3] for k in (1, 2, 3)], axis=1)
    angles = np.arccos(np.clip(pairs / products, -1, 1))
    lengths = (lengths + np.array(target.lengths)) / 2
    angles = (angles + np.radians(target.angles)) / 2
    cosines = np.cos(angles)
    share = 1 - np.sum(cosines**2, axis=-1) + 2 * np.prod(cosines, axis=-1)  # squared, of the box with these lengths
    flat = share < 1e-6  # rounding matters: every mapping passes
    volume = np.prod(lengths, axis=-1) * np.sqrt(np.where(flat, 1, share))
    inverse_heights = np.sin(angles) * (np.prod(lengths, axis=-1) / volume)[:, None] / lengths
    boxes = 2 * stol * inverse_heights * ((volume / n_atoms) ** (1 / 3))[:, None]
    return np.where(flat[:, None], np.inf, boxes)
