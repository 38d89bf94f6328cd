"""Selection: from the pool, in drawing order, the candidates that are new."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from matscout.crystal import Crystal
from matscout.discovery.curated import CuratedTable
from matscout.discovery.gates import NOT_NEEDED, Attrition
from matscout.discovery.novelty import FormulaGroup, judge_all
from matscout.discovery.pool import FrozenPool
from matscout.engine import parallel_map

FIRST_ROUND = 1.3  # rows judged per candidate still wanted: most pass
GROUPS_PER_TASK = 100
PARALLEL_FROM = 50  # tasks: for fewer, starting processes takes longer than the work


@dataclass
class Known:
    """Structures of the curated set and those accepted so far, by formula."""

    curated: CuratedTable
    accepted: dict[str, list[tuple[Crystal, str]]] = field(default_factory=dict)

    def judge(
        self, keys: Sequence[str], crystals: Sequence[Crystal], labels: Sequence[str], *, workers: int
    ) -> list[str | None]:
        """For each new structure, in order of preference, the gate that turns it away, or None.

        Structures that pass are remembered. Formulas are independent of each other, so that any
        number of processes gives the same verdicts.
        """
        members: dict[str, list[int]] = {}
        for position, key in enumerate(keys):
            members.setdefault(key, []).append(position)
        disputed = [key for key, found in members.items() if len(found) > 1 or self._is_known(key)]
        verdicts: list[str | None] = [None] * len(keys)
        groups = [self._group(key, [(crystals[i], labels[i]) for i in members[key]]) for key in disputed]
        tasks = [groups[i : i + GROUPS_PER_TASK] for i in range(0, len(groups), GROUPS_PER_TASK)]
        processes = workers if len(tasks) > PARALLEL_FROM else 1
        judged = parallel_map(judge_all, tasks, workers=processes, description="comparing with known structures")
        for key, found in zip(disputed, [group for task in judged for group in task], strict=True):
            for position, verdict in zip(members[key], found, strict=True):
                verdicts[position] = verdict
        for position, verdict in enumerate(verdicts):
            if verdict is None:
                self.accepted.setdefault(keys[position], []).append((crystals[position], labels[position]))
        return verdicts

    def _is_known(self, key: str) -> bool:
        return key in self.accepted or key in self.curated.rows_of_formula

    def _group(self, key: str, new: Sequence[tuple[Crystal, str]]) -> FormulaGroup:
        earlier = self.accepted.get(key, [])
        return FormulaGroup(
            known=tuple(self.curated.crystal(row) for row in self.curated.rows_of_formula.get(key, [])),
            accepted=tuple(crystal for crystal, _ in earlier),
            accepted_labels=tuple(label for _, label in earlier),
            candidates=tuple(crystal for crystal, _ in new),
            labels=tuple(label for _, label in new),
        )


def select(
    pool: FrozenPool, order: NDArray[np.int64], n: int, known: Known, attrition: Attrition, *, workers: int
) -> list[int]:
    """The first `n` rows of the pool, in `order`, that are new; fewer where the pool runs out."""
    accepted: list[int] = []
    start = 0
    while len(accepted) < n and start < len(order):
        size = int(np.ceil(FIRST_ROUND * (n - len(accepted))))
        rows = order[start : start + size]
        proposals = [pool.proposal(row) for row in rows]
        verdicts = known.judge(
            [proposal.formula_key for proposal in proposals],
            [proposal.crystal() for proposal in proposals],
            [proposal.template.label(proposal.elements) for proposal in proposals],
            workers=workers,
        )
        for row, verdict in zip(rows, verdicts, strict=True):
            if verdict is None:
                accepted.append(int(row))
            else:
                attrition.add({verdict: 1})
        start += len(rows)
    attrition.add({NOT_NEEDED: max(len(accepted) - n, 0) + len(order) - start})
    return accepted[:n]
