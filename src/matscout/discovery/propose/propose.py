"""The stage `propose`: crystals that the curated set does not hold."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matscout import columns, params
from matscout.crystal import Crystal
from matscout.discovery.known_materials import CuratedTable, formula_key
from matscout.discovery.propose.gates import Attrition
from matscout.discovery.propose.oxidation_states import ion_table
from matscout.discovery.propose.proposal_pool import FrozenPool, Proposal
from matscout.discovery.propose.select_new import Known, select
from matscout.discovery.propose.template_fillings import gather
from matscout.discovery.propose.user_candidates import UserCandidate, read_user_files, user_summary
from matscout.errors import InputError
from matscout.files import SHARD_ROWS, atomic_path, write_json
from matscout.progress import progress
from matscout.resume.parts import Parts
from matscout.sources.files.named_structures import USER_SOURCE

CANDIDATES_NAME: Final = "candidates.parquet"
IONS: Final = "ions"
FORMULA_IS_KNOWN: Final = "formula_is_known"

CANDIDATE_SCHEMA: Final = pa.schema(
    [
        (columns.CANDIDATE_ID, pa.string()),
        (columns.FORMULA, pa.string()),
        (columns.ROUTE, pa.string()),
        (columns.PARENT_ID, pa.string()),
        (columns.PARENT_IS_EXPERIMENTAL, pa.bool_()),
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


def propose(materials: Path, settings: params.Candidates, destination: Path, *, own: Path, workers: int) -> None:
    """Make `settings.n` candidates and count what each gate turned away.

    Writes `candidates.parquet` (schema `CANDIDATE_SCHEMA`, the user's own first, then in the order in which
    they were drawn, `SHARD_ROWS` a row group) and `attrition.json` into the folder `destination`. A run that
    is killed goes on where it stopped.

    Args:
        materials: `materials.parquet` of the stage `curate`.
        settings: the section `candidates`.
        destination: folder, replaced as a whole.
        own: folder of the user's structures; it may be empty.
        workers: processes; their number does not change a byte.

    Raises:
        InputError: no table, or fewer candidates pass the gates than were asked for.
    """
    curated = CuratedTable.read(materials)
    attrition = Attrition()
    known = Known(curated)
    users, left_out = read_user_files(own, known, workers=workers)
    pool = gather(curated, ion_table(), settings, attrition, workers=workers)
    order = pool.draw_order(settings.routes.model_dump(), np.random.default_rng([settings.seed, 2]))
    tree = settings.model_dump(mode="json")
    with Parts.kept("propose", settings=tree, inputs=[materials, own], code=[__name__]) as shards:
        accepted = select(pool, order, settings.n, known, attrition, workers=workers, shards=shards)
        if len(accepted) < settings.n:
            raise InputError(
                f"only {len(accepted):,} of candidates.n = {settings.n:,} candidates passed the gates ({attrition}); "
                "lower candidates.n or candidates.substitution_threshold, raise candidates.max_atoms or max_elements, "
                "or curate more materials"
            )
        numbers = np.bincount(pool.route[accepted], minlength=len(pool.routes))
        by_route = {route: int(number) for route, number in zip(pool.routes, numbers, strict=True)}
        with atomic_path(Path(destination), mark=CANDIDATES_NAME) as folder:
            folder.mkdir()
            _write_shards(folder / CANDIDATES_NAME, users, pool, accepted, curated)
            summary = {
                "n_candidates": len(users) + len(accepted),
                "by_route": {**by_route, **({USER_SOURCE: len(users)} if users else {})},
                "parents": attrition.of_parents(),
                "gates": attrition.of_candidates(),
                "intermetallic_gates": attrition.of_candidates(metals=True),
                **user_summary(users, left_out),
            }
            write_json(folder / "attrition.json", summary)


def _write_shards(
    path: Path, users: Sequence[UserCandidate], pool: FrozenPool, accepted: NDArray[np.int64], curated: CuratedTable
) -> None:
    with pq.ParquetWriter(path, CANDIDATE_SCHEMA, compression="zstd") as writer:
        if users:
            writer.write_table(_users(users, curated))
        for start in progress(range(0, len(accepted), SHARD_ROWS), description="writing candidates", unit="shard"):
            proposals = [pool.proposal(row) for row in accepted[start : start + SHARD_ROWS]]
            writer.write_table(_proposed(proposals, curated))


def _proposed(proposals: Sequence[Proposal], curated: CuratedTable) -> pa.Table:
    identities = [f"{proposal.template.parent_id}|{proposal.substitution}" for proposal in proposals]
    probabilities = np.array([proposal.probability for proposal in proposals])
    origin = {
        columns.ROUTE: [proposal.route for proposal in proposals],
        columns.PARENT_ID: [proposal.template.parent_id for proposal in proposals],
        columns.PARENT_IS_EXPERIMENTAL: [curated.made.get(proposal.template.parent_id) for proposal in proposals],
        columns.SUBSTITUTION: [proposal.substitution for proposal in proposals],
        IONS: [" ".join(proposal.ions) for proposal in proposals],
        columns.PROBABILITY: pa.array(probabilities, mask=~np.isfinite(probabilities)),
        columns.SPACE_GROUP: [proposal.template.space_group for proposal in proposals],
    }
    return _table(origin, identities, [proposal.crystal() for proposal in proposals], curated)


def _users(users: Sequence[UserCandidate], curated: CuratedTable) -> pa.Table:
    origin = {
        columns.ROUTE: [USER_SOURCE] * len(users),
        columns.PARENT_ID: [user.name for user in users],
        columns.PARENT_IS_EXPERIMENTAL: pa.nulls(len(users), pa.bool_()),
        columns.SUBSTITUTION: [""] * len(users),
        IONS: [""] * len(users),
        columns.PROBABILITY: pa.nulls(len(users), pa.float64()),
        columns.SPACE_GROUP: [user.space_group for user in users],
    }
    identities = [f"{USER_SOURCE}|{user.name}" for user in users]
    return _table(origin, identities, [user.crystal for user in users], curated)


def _table(
    origin: Mapping[str, Any], identities: Sequence[str], crystals: Sequence[Crystal], curated: CuratedTable
) -> pa.Table:
    """Rows of `CANDIDATE_SCHEMA`: what they came from, and what follows from their crystals."""
    found = {
        **origin,
        columns.CANDIDATE_ID: [f"ms-{hashlib.sha256(name.encode()).hexdigest()[:12]}" for name in identities],
        columns.FORMULA: [crystal.reduced_formula for crystal in crystals],
        FORMULA_IS_KNOWN: [formula_key(crystal.species) in curated.rows_of_formula for crystal in crystals],
        columns.N_ATOMS: [crystal.n_atoms for crystal in crystals],
        columns.VOLUME_PER_ATOM: [crystal.volume / crystal.n_atoms for crystal in crystals],
        columns.LATTICE: _lists([crystal.lattice.reshape(-1) for crystal in crystals]),
        columns.SPECIES: [crystal.species for crystal in crystals],
        columns.FRAC_COORDS: _lists([crystal.frac_coords.reshape(-1) for crystal in crystals]),
    }
    return pa.table(found, schema=CANDIDATE_SCHEMA)


def _lists(arrays: Sequence[NDArray[np.float64]]) -> pa.ListArray:
    ends = np.cumsum([0, *(len(array) for array in arrays)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(arrays)))
