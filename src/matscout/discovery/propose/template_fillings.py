"""Gather: from the curated table to a pool of gated fillings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matscout import params
from matscout.discovery.known_materials import CuratedTable
from matscout.discovery.propose.crystal_templates import Parent, balanced, template_blocks
from matscout.discovery.propose.gates import GENERATED, Attrition, pass_in_turn
from matscout.discovery.propose.ionic_volumes import fit_ionic_volumes, geometric_gates
from matscout.discovery.propose.oxidation_states import IonTable
from matscout.discovery.propose.proposal_pool import FrozenPool, Pool
from matscout.discovery.propose.substitution_routes import (
    aflow_templates,
    decorations,
    distinct_prototypes,
    joint_probability,
    metal_substitutions,
    metallic_parents,
    substitutions,
)

SUBSTITUTION_ROUTE = "substitution"  # the names of the shares in `candidates.routes`
PROTOTYPE_ROUTE = "prototype"
METAL_ROUTE = "intermetallic"
OVERDRAW = 8  # fillings gathered per candidate wanted: room for duplicates, bounded memory
FEWEST_OF_A_PARENT = 20  # fewest intermetallics kept of one parent, where there are that many
DRAWS_PER_KEPT = 24  # random decorations per one that passes the ionic gates, on the bundled sample


@dataclass
class Gathering:
    """What the steps of gathering share.

    Attributes:
        table: the ions.
        settings: the section `candidates`.
        allowed: (n_ions,) ions of elements that the curated set holds and the settings do not exclude.
        attrition: counts by gate.
        pool: what passed.
    """

    table: IonTable
    settings: params.Candidates
    allowed: NDArray[np.bool_]
    attrition: Attrition
    pool: Pool

    def substitute(self, parent: Parent) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """Fillings (m, n_slots) by ionic substitution and their joint probabilities (m,)."""
        filled, joint, counts = substitutions(
            self.table, parent.ions, parent.template.ratios, self.allowed, self.settings.substitution_threshold
        )
        self.attrition.add(counts)
        return filled.astype(np.int16), joint.astype(np.float32)

    def decorate(self, parents: Sequence[Parent], volumes: NDArray[np.float64]) -> None:
        """Fill the AFLOW prototypes and the curated set's own with ions drawn at random."""
        library = balanced(self.table, aflow_templates(), self.settings, self.attrition, prefix="aflow_prototypes")
        prototypes = distinct_prototypes(self.table, [*library, *parents])
        routes = self.settings.routes
        share = routes.prototype / (routes.substitution + routes.prototype + routes.intermetallic)
        n_draws = int(np.ceil(OVERDRAW * self.settings.n * share * DRAWS_PER_KEPT / max(len(prototypes), 1)))
        for position, parent in enumerate(prototypes):
            rng = np.random.default_rng([self.settings.seed, 1, position])
            filled, counts = decorations(self.table, parent.ions, parent.template.ratios, self.allowed, n_draws, rng)
            self.attrition.add(counts)
            joint = joint_probability(self.table, parent.ions, filled)
            self.admit(parent, filled, joint, PROTOTYPE_ROUTE, volumes)

    def replace_metals(self, parents: Sequence[Parent]) -> None:
        """Replace the metals of known intermetallics by similar ones."""
        volumes = fit_ionic_volumes(self.table, parents)
        most = int(np.ceil(OVERDRAW * self.settings.n / max(len(parents), 1))) + FEWEST_OF_A_PARENT
        for position, parent in enumerate(parents):
            filled, counts = metal_substitutions(self.table, parent.ions, parent.template.ratios, self.allowed, volumes)
            if len(filled) > most:
                rng = np.random.default_rng([self.settings.seed, 3, position])
                filled = filled[np.sort(rng.choice(len(filled), most, replace=False))]
                counts |= {GENERATED: most + sum(counts.values()) - counts[GENERATED]}
            self.attrition.add(counts, metals=True)
            self.admit(parent, filled, np.full(len(filled), np.nan), METAL_ROUTE, volumes)

    def admit(
        self, parent: Parent, filled: NDArray[np.int64], joint: NDArray[np.float64], route: str, volumes: NDArray
    ) -> None:
        """Put the fillings with plausible volumes and contacts into the pool.

        Args:
            parent: parent that is filled.
            filled: (m, n_slots) rows of the ion table, one filling per row.
            joint: (m,) probability of each filling; NaN for intermetallics.
            route: how they were found.
            volumes: (n_ions,) volume of each ion, Å³; NaN where unknown.
        """
        if not len(filled):
            return
        old = np.asarray(parent.ions, dtype=np.int64)
        scale, gates = geometric_gates(self.table, parent.template, volumes, old, filled)
        passed, counts = pass_in_turn(gates)
        self.attrition.add(counts, metals=route == METAL_ROUTE)
        self.pool.add(parent, filled=filled[passed], route=route, probability=joint[passed], scale=scale[passed])


def gather(
    curated: CuratedTable, table: IonTable, settings: params.Candidates, attrition: Attrition, *, workers: int
) -> FrozenPool:
    """Fill templates until the pool holds `OVERDRAW` times the wanted number of candidates, or parents run out.

    Args:
        curated: the known crystals.
        table: the ions.
        settings: settings of the candidates, with the seed.
        attrition: counts parents and candidates that are dropped.
        workers: processes at most.

    Returns:
        The pool, read-only.
    """
    allowed = np.array(
        [element in curated.elements and element not in settings.exclude_elements for element in table.elements]
    )
    gathering = Gathering(table, settings, allowed, attrition, Pool(table))
    rng = np.random.default_rng([settings.seed, 0])
    parents: list[Parent] = []
    metals: list[Parent] = []
    fillings = []
    for block in template_blocks(curated, settings, attrition, rng, workers=workers):
        for templates in block:
            salts = balanced(table, templates, settings, attrition, prefix="parents")
            metals += metallic_parents(table, templates, settings, attrition)
            parents += salts
            fillings += [gathering.substitute(parent) for parent in salts]
        if sum(len(joint) for _, joint in fillings) >= OVERDRAW * settings.n:
            break
    volumes = fit_ionic_volumes(table, parents)
    if settings.routes.substitution:
        for parent, (filled, joint) in zip(parents, fillings, strict=True):
            gathering.admit(parent, filled.astype(np.int64), joint, SUBSTITUTION_ROUTE, volumes)
    if settings.routes.prototype:
        gathering.decorate(parents, volumes)
    if settings.routes.intermetallic:
        gathering.replace_metals(metals)
    return gathering.pool.freeze()
