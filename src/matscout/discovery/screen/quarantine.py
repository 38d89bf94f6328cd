"""Crystals that cannot be judged: which ones, why, and the table that says so."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import pyarrow as pa

from matscout import columns

QUARANTINE_NAME: Final = "quarantine.parquet"
REASON: Final = "reason"
DETAIL: Final = "detail"
QUARANTINE_SCHEMA: Final = pa.schema([(name, pa.string()) for name in (columns.CANDIDATE_ID, REASON, DETAIL)])


@dataclass(frozen=True)
class Refusal:
    """One crystal that cannot be judged.

    Attributes:
        candidate_id: its id, or its name where it is a user's own.
        reason: short code, such as `atoms_overlap`.
        detail: value, rule, remedy.
    """

    candidate_id: str
    reason: str
    detail: str


def quarantine_table(refusals: Sequence[Refusal]) -> pa.Table:
    """One row a refusal, in their order."""
    return pa.Table.from_pylist([asdict(refusal) for refusal in refusals], schema=QUARANTINE_SCHEMA)


def summarise_quarantine(quarantine: pa.Table) -> dict[str, object]:
    """How many could not be judged, in all and by reason."""
    reasons = Counter(quarantine.column(REASON).to_pylist())
    return {"n_quarantined": quarantine.num_rows, "quarantined_by_reason": dict(sorted(reasons.items()))}
