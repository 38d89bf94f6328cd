"""The stage `propose`: crystals that the curated set does not hold."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from matscout import columns, params
from matscout.discovery.curated import CuratedTable
from matscout.discovery.gates import Attrition
from matscout.discovery.gather import SHARES, gather
from matscout.discovery.ions import ion_table
from matscout.discovery.pool import FrozenPool, Proposal
from matscout.discovery.selection import Known, select
from matscout.errors import InputError
from matscout.files import atomic_path, write_json
from matscout.progress import progress

SHARD_ROWS = 50_000  # rows of one row group: what the stage `screen` holds in memory at a time
IONS: Final = "ions"
FORMULA_IS_KNOWN: Final = "formula_is_known"

CANDIDATE_SCHEMA: Final = pa.schema(
    [
        (columns.CANDIDATE_ID, pa.string()),
        (columns.FORMULA, pa.string()),
        (columns.ROUTE, pa.string()),
        (columns.PARENT_ID, pa.string()),
        (columns.SUBSTITUTION, pa.string()),
        (IONS, pa.string()),
        (columns.PROBABILITY, pa.float64()),
        (FORMULA_IS_KNOWN, pa.bool_()),
        (columns.SPACE_GROUP, pa.int64()),
        (columns.N_ATOMS, pa.int64()),
        (columns.VOLUME_PER_ATOM, pa.float64()),
        (columns.LATTICE, pa.list_(pa.float64())),
        (columns.SPECIES, pa.list_(pa.string())),
        (columns.FRAC_COORDS, pa.list_(pa.float64())),
    ]
)


def propose(materials: Path, settings: params.Candidates, destination: Path, *, workers: int) -> None:
    """Make `settings.n` candidates and count what each gate turned away.

    Writes `candidates.parquet` (schema `CANDIDATE_SCHEMA`, in the order in which they were drawn, one
    row group a shard) and `attrition.json` into the folder `destination`.

    Args:
        materials: `materials.parquet` of the stage `curate`.
        settings: the section `candidates`.
        destination: folder, replaced as a whole.
        workers: processes; their number does not change a byte.

    Raises:
        InputError: no table, or fewer candidates pass the gates than were asked for.
    """
    curated = CuratedTable.read(materials)
    attrition = Attrition()
    known = Known(curated)
    pool = gather(curated, ion_table(), settings, attrition, workers=workers)
    order = pool.draw_order(SHARES, np.random.default_rng([settings.seed, 2]))
    accepted = select(pool, order, settings.n, known, attrition, workers=workers)
    if len(accepted) < settings.n:
        raise InputError(
            f"only {len(accepted):,} of candidates.n = {settings.n:,} candidates passed the gates ({attrition}); "
            "lower candidates.n or candidates.substitution_threshold, raise candidates.max_atoms or max_elements, "
            "or curate more materials"
        )
    routes = [pool.routes[code] for code in pool.route[np.array(accepted)]]
    summary = {
        "n_candidates": len(accepted),
        "by_route": {route: routes.count(route) for route in pool.routes},
        "gates": attrition.as_dict(),
    }
    with atomic_path(Path(destination)) as folder:
        folder.mkdir()
        _write_shards(folder / "candidates.parquet", pool, accepted, curated)
        write_json(folder / "attrition.json", summary)


def _write_shards(path: Path, pool: FrozenPool, accepted: Sequence[int], curated: CuratedTable) -> None:
    with pq.ParquetWriter(path, CANDIDATE_SCHEMA, compression="zstd") as writer:
        for start in progress(range(0, len(accepted), SHARD_ROWS), description="writing candidates", unit="shard"):
            rows = [_row(pool.proposal(row), curated) for row in accepted[start : start + SHARD_ROWS]]
            writer.write_table(pa.Table.from_pylist(rows, schema=CANDIDATE_SCHEMA))


def _row(proposal: Proposal, curated: CuratedTable) -> dict[str, Any]:
    crystal = proposal.crystal()
    identity = f"{proposal.template.parent_id}|{proposal.substitution}"
    return {
        columns.CANDIDATE_ID: f"ms-{hashlib.sha256(identity.encode()).hexdigest()[:12]}",
        columns.FORMULA: crystal.reduced_formula,
        columns.ROUTE: proposal.route,
        columns.PARENT_ID: proposal.template.parent_id,
        columns.SUBSTITUTION: proposal.substitution,
        IONS: " ".join(proposal.ions),
        columns.PROBABILITY: proposal.probability,
        FORMULA_IS_KNOWN: proposal.formula_key in curated.rows_of_formula,
        columns.SPACE_GROUP: proposal.template.space_group,
        columns.N_ATOMS: crystal.n_atoms,
        columns.VOLUME_PER_ATOM: crystal.volume / crystal.n_atoms,
        **crystal.to_row(),
    }
