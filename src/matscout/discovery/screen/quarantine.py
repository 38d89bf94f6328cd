"""The table of crystals that cannot be judged, with the reasons."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from matscout import columns
from matscout.crystal_checks import Rejection

QUARANTINE_NAME: Final = "quarantine.parquet"
REASON: Final = "reason"
DETAIL: Final = "detail"
QUARANTINE_SCHEMA: Final = pa.schema([(name, pa.string()) for name in (columns.CANDIDATE_ID, REASON, DETAIL)])


def quarantine_table(rejections: Sequence[Rejection]) -> pa.Table:
    """One row a rejection, in their order."""
    rows = [{columns.CANDIDATE_ID: item.material_id, REASON: item.reason, DETAIL: item.detail} for item in rejections]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def summarise_quarantine(quarantine: pa.Table) -> dict[str, object]:
    """How many could not be judged, in all and by reason."""
    reasons = Counter(quarantine.column(REASON).to_pylist())
    return {"n_quarantined": quarantine.num_rows, "quarantined_by_reason": dict(sorted(reasons.items()))}
