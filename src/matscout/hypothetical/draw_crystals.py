"""Draw hypothetical crystals from known ones: exchange elements for similar ones, or decorate prototypes.

Compounds in databases lie on the hull or slightly above it. A member that has seen nothing else expects the same of
every candidate that `propose` makes. These crystals therefore cover all chemistries of the training set, whether
charge-balanced or not.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element
from scipy.optimize import nnls

from matscout.crystal import ATOMIC_NUMBERS, SYMBOLS, Crystal, formula_key

EXCHANGE: Final = "exchange"
DECORATION: Final = "decoration"
SIMILAR_EXCHANGE: Final = "similar"
NEVER: Final = frozenset({"He", "Ne", "Ar", "Kr", "Xe", "Rn"})  # noble gases form hardly any compounds
ANIONS: Final = ("H", "N", "O", "F", "P", "S", "Cl", "As", "Se", "Br", "Te", "I")
KEEPS_ANIONS: Final = 0.5  # share of decorations that put an anion where the prototype's anion was
VOLUME_JITTER: Final = 0.08  # standard deviation of the logarithm of the cell's volume about its estimate
LARGEST_CELL: Final = 16  # atoms of a parent
LARGEST_PROTOTYPE: Final = 12
PROTOTYPE_POWER: Final = 1.5  # a prototype of n compounds is drawn with a probability proportional to n to this power
TRIES_PER_CRYSTAL: Final = 200
TRIES_WITHIN_ELEMENTS: Final = 20_000  # where few draws consist of the wanted elements alone


@dataclass(frozen=True)
class Recipe:
    """How crystals are drawn.

    Attributes:
        exchange: name of the route that exchanges elements of a compound.
        decorations: share of the draws that decorate a prototype instead.
        n_exchanged: probabilities of exchanging one, two or three elements.
        near: decay length of an exchange's probability along Mendeleev numbers.
        far, far_share: another decay length, and the share of the exchanges that have it.
    """

    exchange: str
    decorations: float
    n_exchanged: tuple[float, float, float]
    near: float
    far: float
    far_share: float


BROAD: Final = Recipe(
    EXCHANGE, 0.4, (0.5, 0.4, 0.1), near=3.0, far=12.0, far_share=0.3
)  # half lie .2 eV/atom above the hull
SIMILAR: Final = Recipe(
    SIMILAR_EXCHANGE, 0.0, (0.6, 0.35, 0.05), near=2.0, far=2.0, far_share=0.0
)  # most lie near the hull


@dataclass(frozen=True)
class Drawn:
    """One hypothetical crystal, described by how it was made.

    Attributes:
        route: `exchange`, `similar` or `decoration`.
        parent_id: the known crystal whose cell and sites it takes over.
        exchanged: pairs (element of the parent, element in its place) for all of the parent's elements, sorted.
        scale: volume of the cell divided by the parent's.
    """

    route: str
    parent_id: str
    exchanged: tuple[tuple[str, str], ...]
    scale: float

    def crystal(self, parent: Crystal) -> Crystal:
        """The unrelaxed cell, made from the parent's."""
        mapping = dict(self.exchanged)
        species = tuple(mapping[symbol] for symbol in parent.species)
        return Crystal(parent.lattice * np.cbrt(self.scale), species, parent.frac_coords)


def fit_atomic_volumes(crystals: Sequence[Crystal]) -> NDArray[np.float64]:
    """(119,) volume per atom by atomic number, Å³, such that the sum over a cell's atoms is about its volume.

    Non-negative least squares on relative errors; NaN for elements in none of the crystals.
    """
    counts = np.zeros((len(crystals), len(SYMBOLS)))
    for row, crystal in enumerate(crystals):
        np.add.at(counts[row], crystal.atomic_numbers.astype(np.int64), 1)
    volumes = np.array([crystal.volume for crystal in crystals])
    seen = counts.any(axis=0)
    fitted = np.full(len(SYMBOLS), np.nan)
    fitted[seen], _ = nnls(counts[:, seen] / volumes[:, None], np.ones(len(crystals)))
    return np.where(fitted > 0, fitted, np.nan)


def draw(
    parents: Mapping[str, Crystal],
    prototypes: Mapping[str, str],
    *,
    barred: frozenset[str],
    seed: int,
    recipe: Recipe = BROAD,
    within: frozenset[str] = frozenset(),
) -> Iterator[Drawn]:
    """Draw distinct hypothetical crystals endlessly; the same arguments give the same crystals.

    Args:
        parents: known crystals by id, those of the training fold.
        prototypes: name of each crystal's prototype by id, for example anonymous formula and space group.
        barred: `formula_key`s that are never drawn: those of all known crystals, so that no crystal that tests a
            model is labelled.
        seed: seed of the draws.
        recipe: how they are drawn.
        within: the elements that a crystal may consist of; empty = all.

    Yields:
        Crystals in the order in which they were drawn. Ends after `TRIES_PER_CRYSTAL` consecutive draws that were
        barred or repeated (`TRIES_WITHIN_ELEMENTS` with `within`).
    """
    rng = np.random.default_rng(seed)
    usable = {key: crystal for key, crystal in sorted(parents.items()) if crystal.n_atoms <= LARGEST_CELL}
    volumes = fit_atomic_volumes(list(parents.values()))
    elements = tuple(
        symbol
        for z, symbol in enumerate(SYMBOLS)
        if z and np.isfinite(volumes[z]) and symbol not in NEVER and (not within or symbol in within)
    )
    whole = [key for key, crystal in usable.items() if not set(crystal.species) & NEVER]
    groups = _prototype_groups(usable, prototypes)
    weights = np.array([len(group) for group in groups]) ** PROTOTYPE_POWER
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    tries, most_tries = 0, TRIES_WITHIN_ELEMENTS if within else TRIES_PER_CRYSTAL
    while tries < most_tries:
        tries += 1
        route = str(rng.choice([recipe.exchange, DECORATION], p=[1 - recipe.decorations, recipe.decorations]))
        if route == recipe.exchange or not groups:
            route = recipe.exchange
            parent_id = whole[rng.integers(len(whole))]
            mapping = _exchange(sorted(set(usable[parent_id].species)), elements, recipe, rng)
        else:
            group = groups[rng.choice(len(groups), p=weights / weights.sum())]
            parent_id = group[rng.integers(len(group))]
            mapping = _decorate(sorted(set(usable[parent_id].species)), elements, rng)
        parent = usable[parent_id]
        if within and not within.issuperset(mapping.values()):
            continue
        exchanged = tuple(sorted(mapping.items()))
        jitter = float(np.exp(rng.normal(0.0, VOLUME_JITTER)))
        if (parent_id, exchanged) in seen or _formula(parent, mapping) in barred:
            continue
        seen.add((parent_id, exchanged))
        tries = 0
        yield Drawn(route, parent_id, exchanged, round(_volume_ratio(parent, mapping, volumes) * jitter, 4))


def _formula(parent: Crystal, mapping: Mapping[str, str]) -> str:
    return formula_key([mapping[symbol] for symbol in parent.species])


def _volume_ratio(parent: Crystal, mapping: Mapping[str, str], volumes: NDArray[np.float64]) -> float:
    """Estimated volume of the new cell divided by the parent's."""
    old = [ATOMIC_NUMBERS[symbol] for symbol in parent.species]
    new = [ATOMIC_NUMBERS[mapping[symbol]] for symbol in parent.species]
    return float(volumes[new].sum() / volumes[old].sum()) if np.isfinite(volumes[old]).all() else 1.0


def _prototype_groups(parents: Mapping[str, Crystal], prototypes: Mapping[str, str]) -> list[list[str]]:
    """Ids of the small compounds, one list per prototype."""
    groups: dict[str, list[str]] = {}
    for key, crystal in parents.items():
        if crystal.n_atoms <= LARGEST_PROTOTYPE and len(set(crystal.species)) > 1 and key in prototypes:
            groups.setdefault(prototypes[key], []).append(key)
    return [groups[name] for name in sorted(groups)]


def _exchange(own: Sequence[str], elements: Sequence[str], recipe: Recipe, rng: np.random.Generator) -> dict[str, str]:
    """Exchange one to three elements for others with a near Mendeleev number (Pettifor, J. Phys. C 19, 285 (1986))."""
    number = min(int(rng.choice(len(recipe.n_exchanged), p=recipe.n_exchanged)) + 1, len(own))
    mapping = {symbol: symbol for symbol in own}
    for symbol in rng.choice(list(own), size=number, replace=False):
        free = [element for element in elements if element not in mapping.values()]
        if not free:
            break
        decay = recipe.far if rng.random() < recipe.far_share else recipe.near
        distance = np.abs(np.array([_mendeleev(element) for element in free]) - _mendeleev(str(symbol)))
        chances = np.exp(-distance / decay)
        mapping[str(symbol)] = str(rng.choice(free, p=chances / chances.sum()))
    return mapping


def _decorate(own: Sequence[str], elements: Sequence[str], rng: np.random.Generator) -> dict[str, str]:
    """Put any elements on the sites of a prototype; in half of the draws anions stay on the sites of anions."""
    mapping: dict[str, str] = {}
    with_anions = rng.random() < KEEPS_ANIONS
    top = max(own, key=lambda symbol: Element(symbol).X if symbol not in NEVER else 0.0)
    for symbol in own:
        is_anion = with_anions and symbol == top and symbol in ANIONS
        choices = ANIONS if is_anion else elements
        free = [element for element in choices if element not in mapping.values() and element in elements]
        mapping[symbol] = str(free[rng.integers(len(free))]) if free else symbol
    return mapping


@cache
def _mendeleev(symbol: str) -> float:
    return float(Element(symbol).mendeleev_no)
