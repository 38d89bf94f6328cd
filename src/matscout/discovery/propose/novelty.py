"""Selection of new candidates: from the pool, in drawing order, those that are neither known nor repeated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.structure_matcher import StructureMatcher

from matscout.crystal import Crystal
from matscout.discovery.known_materials import KnownMaterials
from matscout.discovery.propose.crystal_templates import Template, make_template
from matscout.discovery.propose.gates import DUPLICATE, IN_CURATED, NOT_NEEDED, POLYMORPHS, Attrition
from matscout.discovery.propose.proposal_pool import FrozenPool
from matscout.discovery.propose.substitution_routes import METAL_ROUTE
from matscout.engine import parallel_map
from matscout.progress import progress
from matscout.resume.parts import Parts

MOST_STRUCTURES = 4  # structures per formula: fifty arrangements of one compound would be a useless shortlist
LENGTH_TOLERANCE, SITE_TOLERANCE, ANGLE_TOLERANCE = (
    0.2,
    0.3,
    5.0,
)  # tolerances of the matcher, as in curation; -, -, degrees
ROUNDING = 1e-6  # tolerances of lengths and angles, not stricter than those of the matcher


@dataclass(frozen=True)
class FormulaGroup:
    """All structures of one formula that have to be distinguished.

    Attributes:
        known: curated crystals, as in the table.
        reduced: curated crystals, primitive, whose templates have been made.
        reduced_labels: their protostructure labels.
        accepted: candidates accepted before, primitive.
        accepted_labels: their protostructure labels.
        candidates: new ones in order of preference, primitive.
        labels: their protostructure labels.
    """

    known: tuple[Crystal, ...]
    reduced: tuple[Crystal, ...]
    reduced_labels: tuple[str, ...]
    accepted: tuple[Crystal, ...]
    accepted_labels: tuple[str, ...]
    candidates: tuple[Crystal, ...]
    labels: tuple[str, ...]


def judge(group: FormulaGroup) -> list[str | None]:
    """For each candidate of the group the gate that rejects it, or None.

    Equal protostructure labels mean the same structure; if labels differ, pymatgen's
    `StructureMatcher` decides, since slightly distorted copies lose their label.
    """
    known, known_labels = _reduce_known(group.known)
    known, known_labels = [*group.reduced, *known], known_labels.union(group.reduced_labels)
    accepted = list(group.accepted)
    accepted_labels = list(group.accepted_labels)
    verdicts: list[str | None] = []
    for crystal, label in zip(group.candidates, group.labels, strict=True):
        if len(accepted) >= MOST_STRUCTURES:
            verdicts.append(POLYMORPHS)
        elif label in known_labels or first_match(crystal, known) is not None:
            verdicts.append(IN_CURATED)
        elif label in accepted_labels or first_match(crystal, accepted) is not None:
            verdicts.append(DUPLICATE)
        else:
            verdicts.append(None)
            accepted.append(crystal)
            accepted_labels.append(label)
    return verdicts


def judge_all(groups: Sequence[FormulaGroup]) -> list[list[str | None]]:
    """`judge` for a chunk of groups: the unit of work of one process."""
    return [judge(group) for group in groups]


def lattices_may_match(first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Whether some basis of the first lattice, at equal volume, has the second's lengths and angles within tolerance.

    The matcher checks the same before it compares atoms, and rejects most pairs of one formula there. This check is ten
    times as fast.

    Args:
        first: (3, 3) rows are lattice vectors, Å.
        second: likewise; both primitive, with as many atoms.
    """
    scaled = first * np.cbrt(abs(np.linalg.det(second) / np.linalg.det(first)))
    wanted = np.sqrt(np.square(second).sum(axis=1))
    longest = wanted.max() * (1 + LENGTH_TOLERANCE + ROUNDING)
    reach = np.floor(np.sqrt(np.square(np.linalg.inv(scaled)).sum(axis=0)) * longest).astype(np.int64)
    steps = np.indices(2 * reach + 1).reshape(3, -1).T - reach  # (n, 3): every lattice point of that length, and more
    vectors = steps @ scaled
    lengths = np.sqrt(np.square(vectors).sum(axis=1))
    stretch = lengths[:, None] / wanted
    limit = 1 + LENGTH_TOLERANCE + ROUNDING
    like = [np.flatnonzero((column < limit) & (column * limit > 1)) for column in stretch.T]
    units = vectors / np.where(lengths > 0, lengths, 1)[:, None]
    cosines = (second @ second.T) / np.outer(wanted, wanted)

    def angles_fit(one: int, other: int) -> NDArray[np.bool_]:
        found = np.degrees(np.arccos(np.clip(units[like[one]] @ units[like[other]].T, -1, 1)))
        return np.abs(found - np.degrees(np.arccos(cosines[one, other]))) <= ANGLE_TOLERANCE + ROUNDING

    fits = angles_fit(0, 1)[:, :, None] & angles_fit(1, 2)[None, :, :] & angles_fit(0, 2)[:, None, :]
    triples = np.argwhere(fits)
    bases = np.stack([steps[like[row]][triples[:, row]] for row in range(3)], axis=1)
    return bool((np.abs(np.abs(np.linalg.det(bases)) - 1) < 0.5).any())


def first_match(crystal: Crystal, others: Sequence[Crystal]) -> int | None:
    """Place of the first of the other crystals that is the same structure, volume aside; all are primitive."""
    likely = [
        place
        for place, other in enumerate(others)
        if other.n_atoms == crystal.n_atoms and lattices_may_match(crystal.lattice, other.lattice)
    ]
    if not likely:
        return None
    # unlike in curation, space groups are not compared: a slightly distorted copy is not new
    matcher = StructureMatcher(
        ltol=LENGTH_TOLERANCE, stol=SITE_TOLERANCE, angle_tol=ANGLE_TOLERANCE, primitive_cell=False
    )
    structure = crystal.to_structure()
    for place in likely:
        against = others[place].to_structure()
        if all(  # the comparison is directional; `symmetric=True` tries the second direction even where the first fails
            matcher.fit(*pair, skip_structure_reduction=True) for pair in ((structure, against), (against, structure))
        ):
            return place
    return None


def primitive_cell(crystal: Crystal) -> Crystal:
    """The primitive, reduced cell, as `first_match` wants it."""
    template = make_template("known", crystal)
    if template is None:
        return Crystal.from_structure(crystal.to_structure().get_primitive_structure())
    return template.fill(template.elements)


def _reduce_known(crystals: Sequence[Crystal]) -> tuple[list[Crystal], set[str]]:
    reduced, labels = [], set()
    for crystal in crystals:
        template = make_template("known", crystal)
        if template is None:
            reduced.append(Crystal.from_structure(crystal.to_structure().get_primitive_structure()))
            continue
        reduced.append(template.fill(template.elements))
        labels.add(template.label(template.elements))
    return reduced, labels


FIRST_ROUND = 1.3  # rows judged per candidate still wanted: most pass
BUCKET_ROWS = 20_000  # rows whose crystals are in memory at a time
GROUPS_PER_TASK = 100
PARALLEL_FROM = 15  # tasks: for fewer, starting processes takes longer than the work
VERDICTS = (None, IN_CURATED, DUPLICATE, POLYMORPHS)

Structures = Sequence[tuple[Crystal, str]]  # crystals with their protostructure labels


@dataclass
class Known:
    """Structures of the curated set and of the user, by formula.

    Attributes:
        curated: the table.
        users: structures of the user.
        templates: templates of curated crystals by id, where they have been made already, which saves a symmetry
            search.
    """

    curated: KnownMaterials
    users: dict[str, list[tuple[Crystal, str]]] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)

    def judge(
        self,
        keys: Sequence[str],
        structures: Structures,
        earlier: Mapping[str, Structures],
        *,
        workers: int,
    ) -> list[str | None]:
        """Compare new structures with known ones, with earlier candidates and with each other.

        Formulas are independent, so any number of processes gives the same result.

        Args:
            keys: n formulas, one of each new structure.
            structures: the n new ones, in order of preference.
            earlier: candidates accepted before, by formula.
            workers: processes at most.

        Returns:
            n verdicts: the gate that rejects the structure, or None.
        """
        members: dict[str, list[int]] = {}
        for position, key in enumerate(keys):
            members.setdefault(key, []).append(position)
        disputed = [key for key, found in members.items() if len(found) > 1 or self._is_known(key) or key in earlier]
        groups = [self._group(key, [structures[i] for i in members[key]], earlier.get(key, ())) for key in disputed]
        tasks = [groups[i : i + GROUPS_PER_TASK] for i in range(0, len(groups), GROUPS_PER_TASK)]
        processes = workers if len(tasks) > PARALLEL_FROM else 1
        judged = parallel_map(judge_all, tasks, workers=processes, description="comparing with known structures")
        verdicts: list[str | None] = [None] * len(keys)
        for key, found in zip(disputed, [group for task in judged for group in task], strict=True):
            for position, verdict in zip(members[key], found, strict=True):
                verdicts[position] = verdict
        return verdicts

    def _is_known(self, key: str) -> bool:
        return key in self.users or key in self.curated.rows_of_formula

    def _group(self, key: str, new: Structures, earlier: Structures) -> FormulaGroup:
        accepted = [*self.users.get(key, ()), *earlier]
        rows = self.curated.rows_of_formula.get(key, [])
        templates = [self.templates[name] for row in rows if (name := self.curated.ids[row]) in self.templates]
        return FormulaGroup(
            known=tuple(self.curated.crystal(row) for row in rows if self.curated.ids[row] not in self.templates),
            reduced=tuple(template.fill(template.elements) for template in templates),
            reduced_labels=tuple(template.label(template.elements) for template in templates),
            accepted=tuple(crystal for crystal, _ in accepted),
            accepted_labels=tuple(label for _, label in accepted),
            candidates=tuple(crystal for crystal, _ in new),
            labels=tuple(label for _, label in new),
        )


def select(
    pool: FrozenPool,
    order: NDArray[np.int64],
    n: int,
    known: Known,
    attrition: Attrition,
    *,
    workers: int,
    shards: Parts,
) -> NDArray[np.int64]:
    """Take the first rows of the pool that are new; fewer if the pool is exhausted.

    Rows of one formula are judged together, bucket by bucket of formulas: the crystals of one bucket are in memory at a
    time, and a verdict takes one byte. A verdict depends on rows of its formula alone, so the size of the buckets
    changes nothing.

    Args:
        pool: all fillings.
        order: (n_pool,) rows of the pool, best first.
        n: wanted number of rows.
        known: structures that a new one must differ from; their templates are added here.
        attrition: counts what is rejected, by gate.
        workers: processes at most.
        shards: keeps verdicts for a killed run.

    Returns:
        At most n rows of the pool, best first.
    """
    formulas = pool.formula_hashes()
    known.templates |= {parent.template.parent_id: parent.template for parent in pool.parents}
    accepted = np.empty(0, dtype=np.int64)
    start, turn = 0, 0
    while len(accepted) < n and start < len(order):
        rows = order[start : start + int(np.ceil(FIRST_ROUND * (n - len(accepted))))]
        verdicts = _judge_round(pool, formulas, rows, accepted, known, workers=workers, shards=shards, turn=turn)
        _count(attrition, pool, rows, verdicts)
        accepted = np.concatenate([accepted, rows[verdicts == 0]])
        start, turn = start + len(rows), turn + 1
    _count_unneeded(attrition, pool, np.concatenate([accepted[n:], order[start:]]))
    return accepted[:n]


def _judge_round(
    pool: FrozenPool,
    formulas: NDArray[np.uint64],
    rows: NDArray[np.int64],
    accepted: NDArray[np.int64],
    known: Known,
    *,
    workers: int,
    shards: Parts,
    turn: int,
) -> NDArray[np.int8]:
    """(len(rows),) codes of `VERDICTS`."""
    n_buckets = -(-len(rows) // BUCKET_ROWS)
    bucket_of_row, bucket_of_accepted = (formulas[part] % np.uint64(n_buckets) for part in (rows, accepted))
    verdicts = np.empty(len(rows), dtype=np.int8)
    for bucket in progress(range(n_buckets), description=f"novelty, round {turn + 1}", unit="bucket"):
        mine = np.flatnonzero(bucket_of_row == bucket)
        name = f"verdicts-{turn}-{bucket}"
        found = shards.array(name)
        if found is None:
            earlier = accepted[bucket_of_accepted == bucket]
            earlier = earlier[np.isin(formulas[earlier], formulas[rows[mine]])]
            found = _judge_bucket(pool, rows[mine], earlier, known, workers=workers)
            if n_buckets > 1:
                shards.save_array(name, found)
        verdicts[mine] = found
    return verdicts


def _judge_bucket(
    pool: FrozenPool, rows: NDArray[np.int64], accepted: NDArray[np.int64], known: Known, *, workers: int
) -> NDArray[np.int8]:
    earlier: dict[str, list[tuple[Crystal, str]]] = {}
    for key, structure in zip(*_structures(pool, accepted), strict=True):
        earlier.setdefault(key, []).append(structure)
    keys, structures = _structures(pool, rows)
    verdicts = known.judge(keys, structures, earlier, workers=workers)
    return np.array([VERDICTS.index(verdict) for verdict in verdicts], dtype=np.int8)


def _structures(pool: FrozenPool, rows: NDArray[np.int64]) -> tuple[list[str], list[tuple[Crystal, str]]]:
    proposals = [pool.proposal(row) for row in rows]
    structures = [(proposal.crystal(), proposal.template.label(proposal.elements)) for proposal in proposals]
    return [proposal.formula_key for proposal in proposals], structures


def _count(attrition: Attrition, pool: FrozenPool, rows: NDArray[np.int64], verdicts: NDArray[np.int8]) -> None:
    is_metal = _is_metal(pool, rows)
    for metals in (False, True):
        numbers = np.bincount(verdicts[is_metal == metals], minlength=len(VERDICTS))
        counts = {gate: int(number) for gate, number in zip(VERDICTS, numbers, strict=True) if gate and number}
        attrition.add(counts, metals=metals)


def _count_unneeded(attrition: Attrition, pool: FrozenPool, rows: NDArray[np.int64]) -> None:
    n_metals = int(_is_metal(pool, rows).sum())
    attrition.add({NOT_NEEDED: len(rows) - n_metals})
    if n_metals:
        attrition.add({NOT_NEEDED: n_metals}, metals=True)


def _is_metal(pool: FrozenPool, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.array([route == METAL_ROUTE for route in pool.routes], dtype=bool)[pool.route[rows]]
