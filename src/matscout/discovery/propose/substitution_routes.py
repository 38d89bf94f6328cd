"""From the curated table to a pool of candidates that passed their gates, by three routes.

- Ionic substitution: likely replacements of a known compound's ions that stay charge-neutral.
- Prototype decoration: known prototypes, filled with ions unlike any known filling.
- Intermetallics: compounds of metals alone, whose elements are replaced by similar metals. Charges don't balance in a
  metal, so neither the probabilities of ionic substitution nor the charge gate apply. Instead, similarity to the parent
  counts: metals replace each other where size and electronegativity are close (Hume-Rothery's 15 % and Darken and
  Gurry's 0.4, "Physical Chemistry of Metals", McGraw-Hill 1953, ch. 4) and structures last where the electrons per atom
  do (Hume-Rothery, J. Inst. Met. 35, 295, 1926).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from string import ascii_uppercase

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from matscout import params
from matscout.crystal import Crystal
from matscout.discovery.known_materials import KnownMaterials
from matscout.discovery.propose.crystal_templates import (
    Parent,
    Template,
    balanced,
    make_template,
    pymatgen_prototypes,
    template_blocks,
)
from matscout.discovery.propose.gates import (
    ELECTRON_COUNT,
    GENERATED,
    REPEATED_ELEMENT,
    UNCHANGED,
    Attrition,
    ionic_gates,
    pass_in_turn,
)
from matscout.discovery.propose.ionic_volumes import fit_ionic_volumes, geometric_gates
from matscout.discovery.propose.oxidation_states import IonTable
from matscout.discovery.propose.proposal_pool import FrozenPool, Pool


def substitutions(
    table: IonTable, ions: Sequence[int], ratios: NDArray[np.int64], allowed: NDArray[np.bool_], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], dict[str, int]]:
    """All replacements of a compound's ions with joint probability of at least `threshold`.

    Hautier et al., Inorg. Chem. 50, 656 (2011): the joint probability is the product over ions of
    p(new | old), where an ion may stay what it is. An ion that their table does not know stays and
    counts as one. Kept are fillings that pass `gates.ionic_gates`.

    Args:
        table: the ions.
        ions: row of each slot's ion in the known compound.
        ratios: (n_slots,) atoms of each slot in the formula.
        allowed: (n_ions,) ions that a candidate may hold.
        threshold: lowest joint probability.

    Returns:
        (m, n_slots) rows of the table, (m,) their joint probabilities, and how many each gate rejected.
    """
    old = np.asarray(ions, dtype=np.int64)
    choices = [_options(table, ion, allowed) for ion in old]
    best = [probabilities.max(initial=0.0) for _, probabilities in choices]
    filled = np.empty((1, 0), dtype=np.int64)
    joint = np.ones(1)
    for slot, (options, probabilities) in enumerate(choices):
        ahead = float(np.prod(best[slot + 1 :]))
        joint = joint[:, None] * probabilities[None, :]
        rows, columns = np.nonzero(joint * ahead >= threshold)
        filled = np.column_stack([filled[rows], options[columns]])
        joint = joint[rows, columns]
    passed, counts = pass_in_turn(ionic_gates(table, filled, old, ratios))
    return filled[passed], joint[passed], {GENERATED: len(filled), **counts}


def joint_probability(table: IonTable, old: Sequence[int], new: NDArray[np.int64]) -> NDArray[np.float64]:
    """Product over slots of p(new | old); an unknown ion that stays counts as one.

    Args:
        table: the ions.
        old: n_slots rows of the table, the parent's ions.
        new: (m, n_slots) rows of the table, one filling per row.

    Returns:
        (m,) in [0, 1].
    """
    old_ions = np.asarray(old, dtype=np.int64)
    probabilities = table.replacement[old_ions[None, :], new]
    is_unknown = table.replacement[old_ions].sum(axis=1) == 0
    stays = is_unknown[None, :] & (new == old_ions[None, :])
    return np.where(stays, 1.0, probabilities).prod(axis=1)


def _options(table: IonTable, ion: np.int64, allowed: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    row = table.replacement[ion]
    if not row.any():
        stays = np.array([ion])[allowed[[ion]]]
        return stays, np.ones(len(stays))
    options = np.flatnonzero((row > 0) & allowed)
    return options, row[options]


COMMON_SHARE = 10.0  # percent of an element's ICSD reports: smact's "medium" commonality


@cache
def aflow_templates() -> tuple[Template, ...]:
    """Pymatgen's 288 prototypes of Mehl et al., "The AFLOW library", Comput. Mater. Sci. 136, S1 (2017)."""
    templates = []
    for entry in pymatgen_prototypes().AFLOW_PROTOTYPE_LIBRARY:
        crystal = Crystal.from_structure(entry["snl"].structure)
        template = make_template(f"aflow-prototype:{entry['tags']['aflow']}", crystal)
        if template is not None:
            templates.append(template)
    return tuple(sorted(templates, key=lambda template: template.parent_id))


def distinct_prototypes(table: IonTable, parents: Sequence[Parent]) -> list[Parent]:
    """The first parent of each prototype."""
    first: dict[tuple[object, ...], Parent] = {}
    for parent in parents:
        first.setdefault(prototype_key(table, parent)[0], parent)
    return list(first.values())


def prototype_key(table: IonTable, parent: Parent) -> tuple[tuple[object, ...], NDArray[np.int64]]:
    """What isostructural compounds share: label, ratios and charges of the slots, and the slots in that order."""
    template, charges = parent.template, table.charges[list(parent.ions)]
    order = np.lexsort((template.ratios, charges))
    names = [""] * template.n_slots
    for letter, slot in zip(ascii_uppercase, order, strict=False):
        names[slot] = letter
    return (template.label(names), tuple(template.ratios[order]), tuple(charges[order])), order


def decorations(
    table: IonTable,
    ions: Sequence[int],
    ratios: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Fill a prototype at random with common ions: cations where cations were and anions where anions were.

    Args:
        table: the ions.
        ions: n_slots rows of the table, the prototype's own.
        ratios: (n_slots,) atoms of each slot in the formula.
        allowed: (n_ions,) whether a row may be used.
        n_draws: fillings to draw, of which some are equal or fail a gate.
        rng: draws the ions.

    Returns:
        (m, n_slots) distinct rows of the table in lexicographic order, m <= n_draws, and how many each
        gate rejected.
    """
    old = np.asarray(ions, dtype=np.int64)
    common = allowed & (table.commonness >= COMMON_SHARE)
    drawn = np.empty((n_draws, len(old)), dtype=np.int64)
    for slot, ion in enumerate(old):
        options = np.flatnonzero(common & (np.sign(table.charges) == np.sign(table.charges[ion])))
        if not len(options):
            return np.empty((0, len(old)), dtype=np.int64), {}
        drawn[:, slot] = rng.choice(options, n_draws)
    filled = np.unique(drawn, axis=0)
    passed, counts = pass_in_turn(ionic_gates(table, filled, old, ratios))
    return filled[passed], {GENERATED: len(filled), **counts}


SIZE = 0.15  # largest relative difference of radii: Hume-Rothery's rule
ELECTRONEGATIVITY = 0.4  # largest difference, Pauling: Darken and Gurry's rule
ELECTRONS_PER_ATOM = 0.25  # largest change of the mean count: electron compounds follow it


def metallic_parents(
    table: IonTable, templates: Sequence[Template | None], settings: params.Candidates, attrition: Attrition
) -> list[Parent]:
    """Keep the templates that hold metals alone and are small enough.

    Args:
        table: the ions.
        templates: templates of known crystals; None if a crystal has no symmetry.
        settings: the largest number of atoms.
        attrition: counts what is kept.

    Returns:
        The templates with the neutral metal on each slot.
    """
    parents = [
        Parent(template, tuple(table.metals[element] for element in template.elements))
        for template in templates
        if template is not None
        and template.n_atoms <= settings.max_atoms
        and all(element in table.metals for element in template.elements)
    ]
    attrition.add_parents({"parents_of_metals_alone": len(parents)})
    return parents


def metal_substitutions(
    table: IonTable,
    metals: Sequence[int],
    ratios: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    volumes: NDArray[np.float64],
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """All replacements of a compound's metals by similar ones, an element at a time or several at once.

    Args:
        table: ions and metals.
        metals: row of each slot's metal in the known compound.
        ratios: (n_slots,) atoms of each slot in the formula.
        allowed: (n,) rows that a candidate may hold.
        volumes: (n,) atomic volumes of metals in compounds, Å³; their cube roots are compared as sizes.

    Returns:
        (m, n_slots) rows of the table, and how many each gate rejected.
    """
    old = np.asarray(metals, dtype=np.int64)
    choices = [similar_metals(table, metal, allowed, volumes) for metal in old]
    filled = np.stack(np.meshgrid(*choices, indexing="ij"), axis=-1).reshape(-1, len(old))
    counts = valence_electrons(table)
    change = ((counts[filled] - counts[old]) * ratios).sum(axis=1) / ratios.sum()
    elements = np.sort(table.atomic_numbers[filled], axis=1)
    passed, turned_away = pass_in_turn(
        {
            UNCHANGED: np.any(filled != old, axis=1),
            REPEATED_ELEMENT: np.all(np.diff(elements, axis=1) > 0, axis=1),
            ELECTRON_COUNT: np.abs(change) <= ELECTRONS_PER_ATOM,
        }
    )
    return filled[passed], {GENERATED: len(filled), **turned_away}


def similar_metals(
    table: IonTable, metal: np.int64, allowed: NDArray[np.bool_], volumes: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Metals that may replace another one, by atomic size and electronegativity.

    Args:
        table: the ions.
        metal: row of the neutral metal to be replaced.
        allowed: (n_ions,) whether a row may be used.
        volumes: (n_ions,) volume of an atom, Å³; NaN where unknown.

    Returns:
        Rows of the table, ascending; `metal` is one of them where it is allowed.
    """
    sizes = np.cbrt(volumes)
    is_close = (
        (table.charges == 0)
        & (np.abs(sizes / sizes[metal] - 1) <= SIZE)  # False for an unknown volume
        & (np.abs(table.electronegativities - table.electronegativities[metal]) <= ELECTRONEGATIVITY)
    )
    is_close[metal] = True
    return np.flatnonzero(is_close & allowed)


def valence_electrons(table: IonTable) -> NDArray[np.float64]:
    """(n,) outer electrons: the group, less ten behind the transition metals; 3 in the f block."""
    return np.array([_outer_electrons(element) for element in table.elements])


@cache
def _outer_electrons(symbol: str) -> float:
    element = Element(symbol)
    if element.is_lanthanoid or element.is_actinoid:
        return 3.0
    return float(element.group - 10 if element.group > 11 else element.group)


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


def fill_templates(
    curated: KnownMaterials, table: IonTable, settings: params.Candidates, attrition: Attrition, *, workers: int
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
