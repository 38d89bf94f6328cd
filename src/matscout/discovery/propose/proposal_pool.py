"""The pool of all fillings of templates that passed their gates, as compact arrays."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matscout.crystal import Crystal
from matscout.discovery.known_materials import formula_key
from matscout.discovery.propose.crystal_templates import Parent, Template
from matscout.discovery.propose.oxidation_states import IonTable

MOST_SLOTS = 8


@dataclass(frozen=True)
class Proposal:
    """One filling of one template, ready to be built."""

    template: Template
    old: tuple[str, ...]
    ions: tuple[str, ...]
    elements: tuple[str, ...]
    route: str
    probability: float
    volume_scale: float

    @property
    def formula_key(self) -> str:
        """See `crystal.formula_key`; made from the slots, without building the crystal."""
        species: list[str] = []
        for element, ratio in zip(self.elements, self.template.ratios, strict=True):
            species += [element] * int(ratio)
        return formula_key(species)

    def crystal(self) -> Crystal:
        """The candidate: the template filled, at its predicted volume."""
        return self.template.fill(self.elements, self.volume_scale)

    @property
    def substitution(self) -> str:
        """The replacements, by slot: `Sr2+>Ba2+ O2->O2-`."""
        return " ".join(f"{old}>{new}" for old, new in zip(self.old, self.ions, strict=True))


@dataclass
class Pool:
    """Fillings of templates by route; grows by `add`, is read by `proposal`.

    Attributes:
        table: the ions.
        parents: one for each block of fillings.
    """

    table: IonTable
    parents: list[Parent] = field(default_factory=list)
    _blocks: list[dict[str, NDArray]] = field(default_factory=list)
    _routes: list[str] = field(default_factory=list)

    def add(
        self,
        parent: Parent,
        *,
        filled: NDArray[np.int64],
        route: str,
        probability: NDArray[np.float64],
        scale: NDArray[np.float64],
    ) -> None:
        """Add fillings of one parent.

        Args:
            parent: parent that is filled.
            filled: (m, n_slots) rows of the ion table, one filling per row.
            route: how they were found.
            probability: (m,) probability of the substitution; NaN for intermetallics.
            scale: (m,) volume over the parent's.
        """
        if route not in self._routes:
            self._routes.append(route)
        code = self._routes.index(route)
        self._blocks.append(_block(len(self.parents), code, filled, probability, scale))
        self.parents.append(parent)

    def freeze(self) -> "FrozenPool":
        """The same fillings as flat arrays."""
        blocks = self._blocks or [_block(0, 0, np.empty((0, 1)), np.empty(0), np.empty(0))]
        arrays = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
        return FrozenPool(self.table, tuple(self.parents), tuple(self._routes), **arrays)


def _block(parent: int, route: int, filled: NDArray, probability: NDArray, scale: NDArray) -> dict[str, NDArray[Any]]:
    padded = np.full((len(filled), MOST_SLOTS), -1, dtype=np.int16)
    padded[:, : filled.shape[1]] = filled
    return {
        "parent": np.full(len(filled), parent, dtype=np.int32),
        "route": np.full(len(filled), route, dtype=np.int8),
        "ions": padded,
        "probability": probability.astype(np.float32),
        "scale": scale.astype(np.float32),
    }


@dataclass(frozen=True)
class FrozenPool:
    """A read-only pool."""

    table: IonTable
    parents: tuple[Parent, ...]
    routes: tuple[str, ...]
    parent: NDArray[np.int32]
    route: NDArray[np.int8]
    ions: NDArray[np.int16]
    probability: NDArray[np.float32]
    scale: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.parent)

    def proposal(self, row: int) -> Proposal:
        """The filling in one row."""
        parent = self.parents[self.parent[row]]
        ions = self.ions[row, : parent.template.n_slots]
        return Proposal(
            parent.template,
            tuple(self.table.names[ion] for ion in parent.ions),
            tuple(self.table.names[ion] for ion in ions),
            tuple(self.table.elements[ion] for ion in ions),
            self.routes[self.route[row]],
            float(self.probability[row]),
            float(self.scale[row]),
        )

    def formula_hashes(self) -> NDArray[np.uint64]:
        """(n,) equal for rows of one reduced formula: sum over slots of ratio times a random integer of the element."""
        words = np.random.default_rng(0).integers(1 << 63, size=len(self.table.names) + 1, dtype=np.uint64)
        first = np.array([self.table.elements.index(element) for element in self.table.elements])
        words[:-1] = words[first]  # ions of one element share an integer
        words[-1] = 0  # of the padding, -1
        ratios = np.zeros((len(self.parents), MOST_SLOTS), dtype=np.uint64)
        for row, parent in enumerate(self.parents):
            ratios[row, : parent.template.n_slots] = parent.template.ratios
        total = np.zeros(len(self), dtype=np.uint64)
        for slot in range(MOST_SLOTS):
            total += words[self.ions[:, slot]] * ratios[self.parent, slot]
        return total

    def draw_order(self, shares: dict[str, float], rng: np.random.Generator) -> NDArray[np.int64]:
        """All rows, in the order in which to take them.

        Within a route this is a draw without replacement with probabilities proportional to the
        substitution probability (Gumbel top-k: Kool et al., ICML 2019; rows without one are equal).
        Routes are interleaved by `shares`; if one is exhausted, the others continue.
        """
        weight = np.where(np.isfinite(self.probability) & (self.probability > 0), self.probability, 1.0)
        keys = -(np.log(weight.astype(np.float64)) + rng.gumbel(size=len(self)))
        priority = np.empty(len(self))
        for code, route in enumerate(self.routes):
            rows = np.flatnonzero(self.route == code)
            rank = np.empty(len(rows))
            rank[np.argsort(keys[rows], kind="stable")] = np.arange(1, len(rows) + 1)
            priority[rows] = rank / shares[route]
        return np.lexsort((np.arange(len(self)), priority))
