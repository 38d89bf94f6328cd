"""Find the rows that are the same material: blocks, matches, clusters, and all edges with their scores.

Comparisons are kept in `.checkpoints/curation/<fingerprint>/`, so that adding a database compares only what is new; the
fingerprint covers the tolerances, the code that compares and the versions of the libraries that it calls. Results are
the same with and without them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Self

import pandas as pd
import pyarrow as pa

from matscout import columns
from matscout.crystal import Crystal
from matscout.curation.structure_matching import Block, Match, ReducedCell, match_pairs, same_up_to_mirror
from matscout.engine import parallel_map
from matscout.params import Matching
from matscout.resume.fingerprint import fingerprint
from matscout.resume.parts import CHECKPOINTS, FOLDER_DIGITS, Parts, root

COMPARING: Final = "matscout.curation.structure_matching"
LIBRARIES: Final = ("pymatgen", "moyopy", "numpy")
COMPARED: Final = "compared"
REDUCED: Final = "reduced"  # reduced cells of a run that has not compared them yet
CONTENT: Final = "content"
MATCHES: Final = "matches"  # of a cell with later ones
MATCH: Final = pa.struct(
    [
        ("second", pa.string()),
        *((name, pa.float64()) for name in ("rms", "max_distance", "volume_difference", "strain")),
        ("same_material", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class ContentEdge:
    """A match between two different contents, `first` < `second`; scores as in `structure_matching.Match`."""

    first: str
    second: str
    rms: float
    max_distance: float
    volume_difference: float
    strain: float
    same_material: bool


@dataclass(frozen=True)
class Compared:
    """Crystals of which all that share a block have been compared, and their matches.

    Attributes:
        cells: content key -> reduced cell.
        edges: all matches among them.
    """

    cells: Mapping[str, ReducedCell] = field(default_factory=dict)
    edges: tuple[ContentEdge, ...] = ()

    def with_blocks_of(self, older: Self) -> "Compared":
        """Add the blocks of `older` that hold none of these cells and so are still complete."""
        blocks = {cell.block for cell in self.cells.values()}
        kept = {key: cell for key, cell in older.cells.items() if cell.block not in blocks}
        edges = tuple(edge for edge in older.edges if edge.first in kept)
        return Compared({**kept, **self.cells}, (*edges, *self.edges))


def cache_directory() -> Path:
    """The folder in which the stage `curate` keeps its comparisons."""
    return root() / CHECKPOINTS / "curation"


def cache_parts(directory: Path, settings: Matching) -> Parts:
    """The comparisons kept for these tolerances, this code and these library versions.

    Args:
        directory: directory of all comparisons (`cache_directory`).
        settings: tolerances.
    """
    key = fingerprint(settings.model_dump(mode="json"), inputs=(), code=[__name__, COMPARING], libraries=LIBRARIES)
    folder = directory / key[:FOLDER_DIGITS]
    folder.mkdir(parents=True, exist_ok=True)
    return Parts(folder)


def load_compared(parts: Parts | None) -> Compared:
    """The comparisons of an earlier run; empty if there are none, or if they are damaged."""
    if parts is None or (table := parts.table(COMPARED)) is None:
        return Compared()
    rows = table.to_pylist()
    edges = (ContentEdge(first=row[CONTENT], **match) for row in rows for match in row[MATCHES])
    return Compared(_cells_of(rows), tuple(edges))


def save_compared(parts: Parts | None, compared: Compared) -> None:
    """Replace the comparisons, and remove the cells that had not been compared.

    Cells and matches are in one table, because cells without their matches would look like cells without any match.
    """
    if parts is None:
        return
    matches: dict[str, list[dict[str, object]]] = {key: [] for key in compared.cells}
    for edge in compared.edges:
        matches[edge.first].append({name: value for name, value in asdict(edge).items() if name != "first"})
    cells = _cells_table(compared.cells)
    found = pa.array([matches[key] for key in cells.column(CONTENT).to_pylist()], pa.list_(MATCH))
    parts.save_table(COMPARED, cells.append_column(MATCHES, found))
    parts.remove(f"{REDUCED}-*")


def load_reduced(parts: Parts | None) -> dict[str, ReducedCell]:
    """Content key -> cell, of the crystals that a run reduced before it was killed."""
    if parts is None:
        return {}
    tables = [parts.table(name) for name in parts.names(f"{REDUCED}-*", "arrow")]
    return {key: cell for table in tables if table for key, cell in _cells_of(table.to_pylist()).items()}


def keep_reduced(parts: Parts, cells: Mapping[str, ReducedCell]) -> None:
    """Keep some more reduced cells, until `save_compared`."""
    parts.save_table(f"{REDUCED}-{min(cells)}", _cells_table(cells))


def _cells_table(cells: Mapping[str, ReducedCell]) -> pa.Table:
    rows = [
        {CONTENT: key, columns.SPACE_GROUP: cell.space_group, **cell.crystal.to_row()}
        for key, cell in sorted(cells.items())
    ]
    names = [CONTENT, columns.SPACE_GROUP, columns.LATTICE, columns.SPECIES, columns.FRAC_COORDS]
    return pa.Table.from_pandas(pd.DataFrame(rows, columns=pd.Index(names)), preserve_index=False)


def _cells_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, ReducedCell]:
    return {row[CONTENT]: ReducedCell(Crystal.from_row(row), row[columns.SPACE_GROUP]) for row in rows}


TASK_COST: Final = (
    4_000  # pairs times atoms per task: some seconds, so that the progress bar moves and cores finish together
)

EDGE_SCHEMA: Final = pa.schema(
    [
        ("material_id_a", pa.string()),
        ("material_id_b", pa.string()),
        ("source_a", pa.string()),
        ("source_b", pa.string()),
        ("formula", pa.string()),
        ("rms", pa.float64()),  # (volume per atom)^(1/3)
        ("max_distance", pa.float64()),  # the same
        ("volume_difference", pa.float64()),  # share of the mean
        ("strain", pa.float64()),  # largest principal strain; null where the space groups agree
        ("space_group_a", pa.int32()),
        ("space_group_b", pa.int32()),
        ("same_space_group", pa.bool_()),  # or its mirror image
        ("same_material", pa.bool_()),  # space groups agree, or differ within tolerance
        ("merged", pa.bool_()),  # both rows are in one duplicate group
    ]
)


@dataclass(frozen=True)
class _Piece:
    """A share of one block's comparisons; `keys` are content keys, `pairs` positions in `cells`."""

    keys: tuple[str, ...]
    cells: tuple[ReducedCell, ...]
    pairs: tuple[tuple[int, int], ...]


def find_matches(
    cells: Mapping[str, ReducedCell], settings: Matching, *, workers: int, known: Compared | None = None
) -> list[ContentEdge]:
    """All matches among distinct crystals, compared inside blocks of formula and primitive size.

    Args:
        cells: content key -> reduced cell.
        settings: tolerances.
        workers: processes; the result does not depend on it.
        known: earlier comparisons, which are not made again; None = there are none.

    Returns:
        The matches, sorted by both content keys.
    """
    known = known or Compared()
    blocks: dict[Block, list[str]] = defaultdict(list)
    for key in sorted(cells):
        blocks[cells[key].block].append(key)
    pieces = [piece for block in sorted(blocks) for piece in _pieces_of(blocks[block], cells, known.cells)]
    tasks = _tasks_of(pieces)
    found = parallel_map(partial(_compare, settings=settings), tasks, workers=workers, description="comparing cells")
    old = (edge for edge in known.edges if edge.first in cells and edge.second in cells)
    return sorted((*old, *(edge for edges in found for edge in edges)), key=lambda edge: (edge.first, edge.second))


def cluster_rows(
    rows: pd.DataFrame, contents: Sequence[str], edges: Sequence[ContentEdge]
) -> tuple[pd.Series, pd.DataFrame]:
    """Groups and edges of rows from the matches of their contents.

    Args:
        rows: material_id, source, formula, space_group.
        contents: the content key of each row.
        edges: matches between contents.

    Returns:
        `duplicate_group` by row (smallest material_id of the cluster), and the table of edges.
    """
    ids = rows[columns.MATERIAL_ID].to_numpy()
    same = [(edge.rms, edge.first, edge.second) for edge in edges if edge.same_material]
    home = complete_link(sorted(set(contents)), same)
    smallest: dict[str, str] = {}
    for material_id, content in zip(ids, contents, strict=True):
        cluster = home[content]
        smallest[cluster] = min(smallest.get(cluster, material_id), material_id)
    groups = pd.Series([smallest[home[content]] for content in contents], index=rows.index)
    return groups, _edge_table(rows, contents, edges, home)


def _edge_table(
    rows: pd.DataFrame, contents: Sequence[str], edges: Sequence[ContentEdge], home: Mapping[str, str]
) -> pd.DataFrame:
    """Edges between rows: those between contents, and zero-distance ones between rows of one content."""
    by_content: dict[str, list[int]] = defaultdict(list)
    for position, content in enumerate(contents):
        by_content[content].append(position)
    ids = rows[columns.MATERIAL_ID].to_numpy()
    sources = rows[columns.SOURCE].to_numpy()
    formulas = rows[columns.FORMULA].to_numpy()
    space_groups = rows[columns.SPACE_GROUP].to_numpy()
    table: list[tuple[object, ...]] = []

    def add(a: int, b: int, scores: tuple[float, ...], *, same: bool, merged: bool) -> None:
        a, b = (a, b) if ids[a] < ids[b] else (b, a)
        groups = (int(space_groups[a]), int(space_groups[b]))
        names = (ids[a], ids[b], sources[a], sources[b], formulas[a])
        table.append((*names, *scores, *groups, same_up_to_mirror(*groups), same, merged))

    for members in by_content.values():
        for a, b in combinations(members, 2):
            add(a, b, (0.0, 0.0, 0.0, 0.0), same=True, merged=True)
    for edge in edges:
        scores = (edge.rms, edge.max_distance, edge.volume_difference, edge.strain)
        for a in by_content[edge.first]:
            for b in by_content[edge.second]:
                add(a, b, scores, same=edge.same_material, merged=home[edge.first] == home[edge.second])
    frame = pd.DataFrame(table, columns=pd.Index(EDGE_SCHEMA.names))
    return frame.sort_values(["material_id_a", "material_id_b"], ignore_index=True)


def _pieces_of(keys: Sequence[str], cells: Mapping[str, ReducedCell], known: Mapping[str, ReducedCell]) -> list[_Piece]:
    """The pairs of one block that were not compared before, cut where they are too many for one task."""
    members = tuple(cells[key] for key in keys)
    old = [key in known for key in keys]
    pairs = [(a, b) for a, b in combinations(range(len(keys)), 2) if not (old[a] and old[b])]
    step = max(1, TASK_COST // members[0].crystal.n_atoms)
    return [_Piece(tuple(keys), members, tuple(pairs[i : i + step])) for i in range(0, len(pairs), step)]


def _tasks_of(pieces: Sequence[_Piece]) -> list[tuple[_Piece, ...]]:
    """Combine pieces into tasks of about equal cost."""
    tasks: list[list[_Piece]] = []
    cost = TASK_COST
    for piece in pieces:
        if cost >= TASK_COST:
            tasks.append([])
            cost = 0
        tasks[-1].append(piece)
        cost += len(piece.pairs) * piece.cells[0].crystal.n_atoms
    return [tuple(task) for task in tasks]


def _compare(task: Sequence[_Piece], settings: Matching) -> list[ContentEdge]:
    return [
        _content_edge(piece.keys, match) for piece in task for match in match_pairs(piece.cells, piece.pairs, settings)
    ]


def _content_edge(keys: Sequence[str], match: Match) -> ContentEdge:
    first, second = keys[match.first], keys[match.second]
    scores = (match.rms, match.max_distance, match.volume_difference, match.strain)
    return ContentEdge(first, second, *scores, same_material=match.same_material)


def complete_link(keys: Sequence[str], edges: Iterable[tuple[float, str, str]]) -> dict[str, str]:
    """Cluster `keys` so that within a cluster every pair has an edge.

    Matching is not transitive (a slow distortion links opposite ends), so single links would chain
    different materials together. Closest pairs join first; a join that would put an unmatched pair
    into one cluster is rejected.

    Args:
        keys: what to cluster.
        edges: (distance, key, key); each unordered pair once.

    Returns:
        key -> smallest key of its cluster.
    """
    ordered = sorted((distance, *sorted((first, second))) for distance, first, second in edges)
    linked = {(first, second) for _, first, second in ordered}
    clusters: dict[str, list[str]] = {key: [key] for key in keys}
    home = {key: key for key in keys}
    for _, first, second in ordered:
        left, right = sorted((home[first], home[second]))
        if left == right:
            continue
        if all((min(a, b), max(a, b)) in linked for a in clusters[left] for b in clusters[right]):
            for key in clusters[right]:
                home[key] = left
            clusters[left] += clusters.pop(right)
    return home


def mark_representatives(materials: pd.DataFrame, reference: str) -> pd.Series:
    """True for one row of every duplicate group.

    Real rows come before synthetic ones, the reference database before others, more labels before
    fewer, then the smallest material_id.
    """
    order = pd.DataFrame(
        {
            "group": materials[columns.DUPLICATE_GROUP],
            "synthetic": materials[columns.SYNTHETIC].astype(bool),
            "foreign": materials[columns.SOURCE] != reference,
            "missing": materials[list(columns.LABELS)].isna().sum(axis=1),
            "material_id": materials[columns.MATERIAL_ID],
        }
    ).sort_values(["group", "synthetic", "foreign", "missing", "material_id"])
    return ~order.duplicated("group").reindex(materials.index)
