"""The stage `propose`: crystals that are not in the curated set.

Structures that a user drops into a folder join the candidates, or are rejected with a reason.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from smact.metallicity import metallicity_score
from smact.screening import smact_validity

from matscout import columns, params
from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.discovery.known_materials import KnownMaterials, formula_key
from matscout.discovery.propose.crystal_templates import Template, make_template
from matscout.discovery.propose.gates import CHARGE, CONTACT, VOLUME, Attrition
from matscout.discovery.propose.ionic_volumes import CLOSEST_CONTACT, SCALE_RANGE, contact_ratio
from matscout.discovery.propose.novelty import Known, select
from matscout.discovery.propose.oxidation_states import ion_table
from matscout.discovery.propose.proposal_pool import FrozenPool, Proposal
from matscout.discovery.propose.substitution_routes import fill_templates
from matscout.errors import InputError
from matscout.files import SHARD_ROWS, atomic_path, write_json
from matscout.progress import progress
from matscout.resume.parts import Parts
from matscout.sources.files.named_structures import USER_SOURCE, has_structures, read_structures
from matscout.sources.record import Record

GIVEN = "given"
MOST_ELEMENTS = 6  # smact tries every combination of their states
METALLIC = 0.7  # smact's score of a metal, between 0 and 1


@dataclass(frozen=True)
class UserCandidate:
    """One structure of the folder, as given (not rescaled)."""

    name: str
    crystal: Crystal
    space_group: int


def read_user_files(folder: Path, known: Known, *, workers: int) -> tuple[list[UserCandidate], list[Rejection]]:
    """Read the structures of a folder that pass the gates.

    The gates are those of proposed candidates, with limits that do not need a parent: ions must balance (mixed valence
    is allowed; metals pass by smact's measure), atoms must touch and not overlap. What passes is remembered in
    `known.users`.

    Args:
        folder: folder of CIFs and other structure files; it may be empty.
        known: structures that a new one must differ from.
        workers: processes at most.

    Returns:
        The candidates, and why the other files are rejected.

    Raises:
        InputError: the folder does not exist.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; it may be empty, but it must exist (git checkout -- {folder})")
    found: list[UserCandidate] = []
    files: list[Record] = []
    labels: list[str] = []
    rejections: list[Rejection] = []
    for item in read_structures([folder]) if has_structures(folder) else ():
        if isinstance(item, Rejection):
            rejections.append(item)
            continue
        template = make_template(item.material_id, item.crystal)
        if template is None:
            detail = "no space group could be found; check the coordinates"
            rejections.append(item.reject("without_symmetry", detail))
            continue
        if broken := _broken_gate(item.crystal.reduced_formula, template):
            rejections.append(item.reject(*broken))
            continue
        found.append(UserCandidate(item.material_id, item.crystal, template.space_group))
        files.append(item)
        labels.append(template.label(template.elements))
    keys = [formula_key(candidate.crystal.species) for candidate in found]
    structures = [(candidate.crystal, label) for candidate, label in zip(found, labels, strict=True)]
    verdicts = known.judge(keys, structures, {}, workers=workers)
    new = []
    for candidate, key, structure, verdict, file in zip(found, keys, structures, verdicts, files, strict=True):
        if verdict is not None:
            rejections.append(file.reject(verdict, "the same structure is already there"))
            continue
        known.users.setdefault(key, []).append(structure)
        new.append(candidate)
    return new, rejections


def user_summary(users: list[UserCandidate], left_out: list[Rejection]) -> dict[str, object]:
    """Counts by gate, and each file that was left out."""
    counts = Counter(rejection.reason for rejection in left_out)
    return {
        "user_files": {GIVEN: len(users) + len(left_out), **dict(sorted(counts.items()))},
        "user_files_left_out": [asdict(rejection) for rejection in left_out],
    }


def _broken_gate(formula: str, template: Template) -> tuple[str, str] | None:
    """Gate and reason of the first rule that the structure breaks."""
    closest = contact_ratio(template)  # NaN with a light noble gas, for which no bond length is known
    if closest < CLOSEST_CONTACT:
        rule = f"below {CLOSEST_CONTACT:g} typical bond lengths"
        return CONTACT, f"two atoms at {closest:.2f} typical bond lengths: {rule}; relax the cell first"
    if closest**3 > SCALE_RANGE[1]:
        rule = f"more than {SCALE_RANGE[1]:g} times the volume at which its closest atoms would touch"
        return VOLUME, f"no atoms nearer than {closest:.2f} typical bond lengths: {rule}; relax the cell first"
    return _charge_problem(formula, template)


def _charge_problem(formula: str, template: Template) -> tuple[str, str] | None:
    """Why the formula is neither an element, an alloy, a metal by smact's measure nor a neutral compound."""
    table = ion_table()
    if len(template.elements) == 1 or all(element in table.metals for element in template.elements):
        return None
    counts = {element: int(count) for element, count in zip(template.elements, template.counts, strict=True)}
    balance = table.can_balance(counts)
    if balance is None:
        unknown = ", ".join(element for element in template.elements if element not in table.ions_of)
        return CHARGE, f"{formula}: no oxidation state of {unknown} is reported, so charges cannot be balanced"
    is_rare = len(counts) <= MOST_ELEMENTS and smact_validity(formula)  # states too rare for the table of ions
    if balance or is_rare or metallicity_score(formula) >= METALLIC:
        return None
    rule = "no reported oxidation states balance, cations less electronegative than anions, mixed valence included"
    return CHARGE, f"{formula}: {rule}; and its score as a metal is below {METALLIC:g}. Check the formula"


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
    """Make `settings.n` candidates and count what each gate rejects.

    Writes `candidates.parquet` (schema `CANDIDATE_SCHEMA`, the user's own first, then in the order in which they were
    drawn, `SHARD_ROWS` a row group) and `attrition.json` into the folder `destination`. A killed run resumes where it
    stopped.

    Args:
        materials: `materials.parquet` of the stage `curate`.
        settings: the section `candidates`.
        destination: folder, replaced as a whole.
        own: folder of the user's structures; it may be empty.
        workers: processes; their number does not change a byte.

    Raises:
        InputError: no table, or fewer candidates pass the gates than were asked for.
    """
    curated = KnownMaterials.read(materials)
    attrition = Attrition()
    known = Known(curated)
    users, left_out = read_user_files(own, known, workers=workers)
    pool = fill_templates(curated, ion_table(), settings, attrition, workers=workers)
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
    path: Path, users: Sequence[UserCandidate], pool: FrozenPool, accepted: NDArray[np.int64], curated: KnownMaterials
) -> None:
    with pq.ParquetWriter(path, CANDIDATE_SCHEMA, compression="zstd") as writer:
        if users:
            writer.write_table(_users(users, curated))
        for start in progress(range(0, len(accepted), SHARD_ROWS), description="writing candidates", unit="shard"):
            proposals = [pool.proposal(row) for row in accepted[start : start + SHARD_ROWS]]
            writer.write_table(_proposed(proposals, curated))


def _proposed(proposals: Sequence[Proposal], curated: KnownMaterials) -> pa.Table:
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


def _users(users: Sequence[UserCandidate], curated: KnownMaterials) -> pa.Table:
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
    origin: Mapping[str, Any], identities: Sequence[str], crystals: Sequence[Crystal], curated: KnownMaterials
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
