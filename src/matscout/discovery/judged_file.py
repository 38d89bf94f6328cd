"""A file of candidates, judged shard by shard and written in another order (memory: docs/discovery.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matscout import columns
from matscout.discovery.goals import nothing_obeys, obeys_element_rules, window_column
from matscout.discovery.judging import Judge, crystals_of
from matscout.discovery.shards import SHARD_ROWS, Shards
from matscout.engine import held_for_each
from matscout.errors import InputError
from matscout.models.inference import plan_inference
from matscout.params import Goal
from matscout.progress import progress

PLACE: Final = "place"  # of a candidate in the file; it leads from the ranking back to its row
SUMMARY: Final = (
    columns.CANDIDATE_ID,
    columns.FORMULA,
    columns.ROUTE,
    columns.JUDGED_BY,
    columns.FAR_FROM_TRAINING,
    columns.MISSING_REFERENCES,
    columns.STABILITY_JUDGED,
    columns.ENERGY_ABOVE_HULL,
    columns.ELEMENT_RULES_MET,
    columns.GOAL_PROBABILITY,
    columns.GOAL_MET,
)
ADDED: Final = (
    columns.GOAL_MET,
    columns.PARETO_FRONT,
    columns.PARETO_LAYER,
    columns.RANK,
    columns.FRONT_PROBABILITY,
    columns.EXPECTED_IMPROVEMENT,
    columns.BATCH,
)


@dataclass(frozen=True)
class JudgedFile:
    """Judged candidates in the order of their file, memory-mapped shard by shard.

    Attributes:
        tables: one a shard: the candidate's columns and the judge's.
        objectives: columns that the goal asks for.
    """

    tables: Sequence[pa.Table]
    objectives: Sequence[str]

    def summary(self) -> pd.DataFrame:
        """What ranking and counting need of every candidate, and its `PLACE`: a few hundred bytes a row."""
        present = set(self.tables[0].column_names)
        asked = [name for column in self.objectives for name in (column, window_column(column))]
        names = [name for name in dict.fromkeys((*SUMMARY, *asked)) if name in present]
        parts = [table.select(names).to_pandas() for table in self.tables]
        summary = pd.concat(parts, ignore_index=True)
        summary[PLACE] = np.arange(len(summary))
        return summary

    def rows(self, ranked: pd.DataFrame) -> pd.DataFrame:
        """All columns of the candidates in `ranked`, in its order."""
        return self._rows(ranked).to_pandas()

    def write_ranked(self, path: Path, ranked: pd.DataFrame) -> None:
        """Write all candidates in the order of `ranked`, `SHARD_ROWS` a row group."""
        schema = self._rows(ranked.iloc[:1]).schema
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for start in progress(range(0, len(ranked), SHARD_ROWS), description="writing the ranking", unit="shard"):
                writer.write_table(self._rows(ranked.iloc[start : start + SHARD_ROWS]))

    def _rows(self, ranked: pd.DataFrame) -> pa.Table:
        table = self._take(ranked[PLACE].to_numpy())
        for name in ADDED:
            if name in ranked:
                values = pa.array(ranked[name].to_numpy(), type=_ADDED_TYPES[name], from_pandas=False)
                if name in table.column_names:
                    table = table.drop_columns([name])
                table = table.append_column(name, values)
        return table

    def _take(self, places: NDArray[np.int64]) -> pa.Table:
        """Rows of the file in the order of `places`."""
        ends = np.cumsum([table.num_rows for table in self.tables])
        shard = np.searchsorted(ends, places, side="right")
        parts, order = [], []
        for number in np.unique(shard):
            mine = np.flatnonzero(shard == number)
            first = ends[number] - self.tables[number].num_rows
            parts.append(self.tables[number].take(pa.array(places[mine] - first)))
            order.append(mine)
        table = pa.concat_tables(parts)
        return table.take(pa.array(np.argsort(np.concatenate(order)))).combine_chunks()


_ADDED_TYPES: Final = {
    columns.GOAL_MET: pa.bool_(),
    columns.PARETO_FRONT: pa.bool_(),
    columns.PARETO_LAYER: pa.int64(),
    columns.RANK: pa.int64(),
    columns.FRONT_PROBABILITY: pa.float64(),
    columns.EXPECTED_IMPROVEMENT: pa.float64(),
    columns.BATCH: pa.int64(),
}


def check_candidates(goal: Goal, path: Path) -> None:
    """Refuse a file that holds no candidate, or none that the element rules let through, before any work.

    Raises:
        InputError: see above.
    """
    file = pq.ParquetFile(path)
    if not file.metadata.num_rows:
        raise InputError(f"{path} holds no candidates, so there is nothing to screen; see attrition.json beside it")
    for number in range(file.num_row_groups):
        species = file.read_row_group(number, columns=[columns.SPECIES]).column(0).to_pylist()
        if obeys_element_rules(species, goal).any():
            return
    raise InputError(nothing_obeys(goal, file.metadata.num_rows))


def judge_file(judge: Judge, path: Path, shards: Shards) -> JudgedFile:
    """Judge every candidate of a file; graphs and predictions of one shard are in memory at a time.

    A shard's table has its name from the start and is whole or absent: what is there is not judged again, here or
    on actors that share the folder.
    """
    names = [f"judged-{number}" for number in range(pq.ParquetFile(path).num_row_groups)]
    todo = [number for number, name in enumerate(names) if shards.table(name) is None]
    held_for_each(
        partial(_judge_shard, judge, path.resolve(), Shards(shards.folder.resolve()), names),
        todo,
        workers=judge.workers,
        description="judging",
        unit="shard",
        gpus=float(plan_inference(judge.device).device == "cuda"),
    )
    tables = [table for name in names if (table := shards.table(name)) is not None]
    return JudgedFile(tables, [aim.column for aim in judge.goal.objectives])


def _judge_shard(judge: Judge, path: Path, shards: Shards, names: Sequence[str], number: int) -> None:
    with pq.ParquetFile(path, memory_map=True) as file:
        candidates = file.read_row_group(number).to_pandas()
    shards.save_table(names[number], _judged(judge, candidates))


def _judged(judge: Judge, candidates: pd.DataFrame) -> pa.Table:
    crystals = crystals_of(candidates)
    table = judge.judge(candidates[columns.CANDIDATE_ID].tolist(), crystals)
    judged = pd.concat([candidates, table.drop(columns=columns.MATERIAL_ID)], axis=1)
    return pa.Table.from_pandas(judged, preserve_index=False).replace_schema_metadata(None)
