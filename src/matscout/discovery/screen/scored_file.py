"""A file of candidates, predicted shard by shard and written in rank order (memory: docs/discovery.md)."""

# pyarrow.compute defines its functions on import
# pyright: reportAttributeAccessIssue=false

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matscout import columns
from matscout.crystal_checks import Rejection
from matscout.discovery.rank.goals import nothing_obeys, obeys_element_rules, window_column
from matscout.discovery.screen.candidate_scores import Judge, crystals_of
from matscout.discovery.screen.predict_usable import DETAIL, quarantine_table
from matscout.engine import held_for_each, n_workers
from matscout.ensemble.mixture import Mixture
from matscout.errors import InputError, StoreError
from matscout.files import SHARD_ROWS
from matscout.models.families.registry import FAMILIES
from matscout.params import Goal
from matscout.progress import progress
from matscout.resume.parts import Parts

SHAPES_DISAGREE: Final = "shapes_disagree"  # a reason, as in `graphs.blocks`
CUT_OFF: Final = "lattice, species and frac_coords do not hold 9 numbers, n symbols and 3 n numbers; the row is cut off"
PLACE: Final = "place"  # of a candidate in the file; it leads from the ranking back to its row
SUMMARY: Final = (
    columns.CANDIDATE_ID,
    columns.FORMULA,
    columns.ROUTE,
    columns.JUDGED_BY,
    columns.FAR_FROM_TRAINING,
    columns.MISSING_REFERENCES,
    columns.STABILITY_JUDGED,
    columns.STABILITY_REMARK,
    columns.ENERGY_ABOVE_HULL,
    columns.ELEMENT_RULES_MET,
    columns.GOAL_PROBABILITY,
    columns.GOAL_MET,
)
OF_RIVALS: Final = (
    columns.CANDIDATE_ID,
    columns.SPECIES,
    columns.FORMATION_ENERGY,
    columns.FORMATION_ENERGY + columns.STD,
    columns.ENERGY_ABOVE_KNOWN_HULL,
)
FAMILY_OF: Final = {family.__name__: family for family in FAMILIES.values()}
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
class ScoredFile:
    """Scored candidates in the order of their file, memory-mapped shard by shard while they are read.

    Attributes:
        shards: hold a table a shard: the candidate's columns and the judge's.
        lengths: (n_shards,) rows of each.
        objectives: columns that the goal asks for.
        quarantine: see `quarantine.QUARANTINE_SCHEMA`; the candidates that could not be judged.
    """

    shards: Parts
    lengths: NDArray[np.int64]
    objectives: Sequence[str]
    quarantine: pa.Table

    def summary(self) -> pd.DataFrame:
        """What ranking and counting need of every candidate, and its `PLACE`: a few hundred bytes a row."""
        asked = [name for column in self.objectives for name in (column, window_column(column))]
        present = set(self.table(0).column_names)
        names = [name for name in dict.fromkeys((*SUMMARY, *asked)) if name in present]
        parts = [self.table(number).select(names) for number in range(len(self.lengths))]
        summary = pa.concat_tables(parts).to_pandas()
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
        ends = np.cumsum(self.lengths)
        shard = np.searchsorted(ends, places, side="right")
        parts, order = [], []
        for number in np.unique(shard):
            mine = np.flatnonzero(shard == number)
            first = ends[number] - self.lengths[number]
            parts.append(self.table(int(number)).take(pa.array(places[mine] - first)))
            order.append(mine)
        table = pa.concat_tables(parts)
        return table.take(pa.array(np.argsort(np.concatenate(order)))).combine_chunks()

    def table(self, number: int) -> pa.Table:
        """One shard, mapped again, so that its pages leave the memory with it.

        Args:
            number: number of the shard.

        Returns:
            What was judged, one row per candidate.

        Raises:
            StoreError: the shard was removed or damaged meanwhile.
        """
        if (table := self.shards.table(judged_name(number))) is None:
            raise StoreError(f"{self.shards.folder} was changed while it was read; run the stage again")
        return table


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
    """Reject a file that holds no candidate, or none that the element rules let through, before any work.

    Args:
        goal: goal whose element rules count.
        path: path of the candidates, parquet.

    Raises:
        InputError: the file holds no such candidate, or is cut off.
    """
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a complete parquet file ({error}); run `dvc repro propose`") from error
    if not file.metadata.num_rows:
        raise InputError(f"{path} holds no candidates, so there is nothing to screen; see attrition.json beside it")
    for number in range(file.num_row_groups):
        species = file.read_row_group(number, columns=[columns.SPECIES]).column(0).to_pylist()
        if obeys_element_rules([symbols or () for symbols in species], goal).any():
            return
    raise InputError(nothing_obeys(goal, file.metadata.num_rows))


@dataclass(frozen=True)
class PredictedFile:
    """An ensemble's predictions for the candidates of a file; shards as in `ScoredFile`, each with its distributions.

    Attributes:
        shards: hold the tables, the mixtures and what was rejected.
        numbers: numbers of the shards.
        quarantine: the candidates that cannot be predicted.
    """

    shards: Parts
    numbers: Sequence[int]
    quarantine: pa.Table

    def rivals(self, but: Collection[str] = ()) -> Iterator[pd.DataFrame]:
        """What `Rivals.among` needs of the candidates, shard by shard.

        Args:
            but: ids to leave out.

        Yields:
            Columns `OF_RIVALS` of one shard.

        Raises:
            StoreError: a shard was removed or damaged meanwhile.
        """
        for number in self.numbers:
            if (table := self.shards.table(_predicted_name(number))) is None:
                raise StoreError(f"{self.shards.folder} was changed while it was read; run the stage again")
            found = table.select(list(OF_RIVALS)).to_pandas()
            yield found.loc[~found[columns.CANDIDATE_ID].isin(but)]


def predict_file(judge: Judge, path: Path, shards: Parts) -> PredictedFile:
    """Predict every candidate of a file; graphs and predictions of one shard are in memory at a time.

    Args:
        judge: judge whose ensemble predicts.
        path: path of the candidates, parquet.
        shards: keeps predictions for a killed run.

    Returns:
        The predictions, shard by shard, and the candidates that cannot be predicted.

    Raises:
        InputError: no candidate can be predicted.
        StoreError: a shard was removed or damaged meanwhile.
    """
    numbers = range(pq.ParquetFile(path).num_row_groups)
    _for_each_shard(
        judge,
        partial(_predict_shard, judge, path.resolve(), shards.folder.resolve()),
        [number for number in numbers if _predicted_shard(shards, number) is None],
        description="predicting",
        on_gpu=True,
    )
    n_rows, rejected = 0, []
    for number in numbers:
        if (part := _predicted_shard(shards, number)) is None:
            raise StoreError(f"{shards.folder} was changed while it was written; run the stage again")
        n_rows += part[0].num_rows
        rejected.append(part[2])
    quarantine = pa.concat_tables(rejected).combine_chunks()
    if not n_rows:
        first = quarantine.slice(0, 1).to_pylist()[0]
        raise InputError(
            f"none of the {quarantine.num_rows:,} candidates of {path} can be judged; the first, "
            f"{first[columns.CANDIDATE_ID]}: {first[DETAIL]}"
        )
    return PredictedFile(shards, numbers, quarantine)


def judge_file(judge: Judge, predicted: PredictedFile) -> ScoredFile:
    """Judge what was predicted, once the judge's references hold the rivals among all candidates.

    Args:
        judge: holds the goal and the references.
        predicted: result of `predict_file`.

    Returns:
        What was judged, shard by shard.

    Raises:
        StoreError: a shard was removed or damaged meanwhile.
    """
    shards = predicted.shards
    _for_each_shard(
        judge,
        partial(_judge_shard, judge, shards.folder.resolve()),
        [number for number in predicted.numbers if shards.table(judged_name(number)) is None],
        description="judging",
    )
    lengths = []
    for number in predicted.numbers:
        if (table := shards.table(judged_name(number))) is None:
            raise StoreError(f"{shards.folder} was changed while it was written; run the stage again")
        lengths.append(table.num_rows)
    return ScoredFile(shards, np.array(lengths), [aim.column for aim in judge.goal.objectives], predicted.quarantine)


def _for_each_shard(
    judge: Judge, function: Callable[[int], None], numbers: Sequence[int], *, description: str, on_gpu: bool = False
) -> None:
    needs_gpu = on_gpu and judge.predictor.plan.device == "cuda"
    held_for_each(function, numbers, workers=n_workers(), description=description, unit="shard", gpus=float(needs_gpu))


def judged_name(number: int) -> str:
    """Name of a shard's table of judged candidates."""
    return f"judged-{number}"


def _predicted_name(number: int) -> str:
    return f"predicted-{number}"


def _mixtures_name(number: int) -> str:
    return f"mixtures-{number}"


def _rejected_name(number: int) -> str:
    return f"rejected-{number}"


def _predicted_shard(shards: Parts, number: int) -> tuple[pa.Table, pa.Table, pa.Table] | None:
    """What was predicted, its distributions and what was rejected, if all are there and whole."""
    names = (_predicted_name(number), _mixtures_name(number), _rejected_name(number))
    predicted, mixtures, rejected = (shards.table(name) for name in names)
    return None if predicted is None or mixtures is None or rejected is None else (predicted, mixtures, rejected)


def _predict_shard(judge: Judge, path: Path, folder: Path, number: int) -> None:
    """Predict one row group; its tables have their names from the start, here or on actors that share the folder."""
    with pq.ParquetFile(path, memory_map=True) as file:
        predicted, mixtures, rejected = _predicted(judge, file.read_row_group(number))
    shards = Parts(folder)
    shards.save_table(_predicted_name(number), predicted)
    shards.save_table(_mixtures_name(number), mixtures)
    shards.save_table(_rejected_name(number), rejected)


def _judge_shard(judge: Judge, folder: Path, number: int) -> None:
    """Judge one shard of what was predicted."""
    shards = Parts(folder)
    if (part := _predicted_shard(shards, number)) is None:
        raise StoreError(f"{folder} was changed while it was read; run the stage again")
    table, mixtures, _ = part
    frame = table.select([name for name in table.column_names if name not in columns.CRYSTAL]).to_pandas()
    assessed = judge.assess(frame, mixtures_of(mixtures), table.column(columns.SPECIES).to_pylist())
    added = pa.Table.from_pandas(assessed.drop(columns=list(frame.columns)), preserve_index=False)
    joined = pa.table([*table.columns, *added.columns], names=[*table.column_names, *added.column_names])
    shards.save_table(judged_name(number), joined)


def mixtures_table(mixtures: Mapping[str, Mixture]) -> pa.Table:
    """Distributions of n crystals as a table: a column of lists for each target and member, families and weights."""
    parts, known = {}, {}
    for target, mixture in mixtures.items():
        known[target] = {"family": type(mixture.components[0]).__name__, "weights": mixture.weights.tolist()}
        for place, component in enumerate(mixture.components):
            values = component.parameters()
            flat = pa.array(values.ravel())
            parts[f"{target}__{place}"] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table(parts).replace_schema_metadata({"mixtures": json.dumps(known)})


def mixtures_of(table: pa.Table) -> dict[str, Mixture]:
    """The inverse of `mixtures_table`."""
    found = {}
    for target, known in json.loads(table.schema.metadata[b"mixtures"]).items():
        family = FAMILY_OF[known["family"]]
        columns_of = [table.column(f"{target}__{place}").combine_chunks() for place in range(len(known["weights"]))]
        parts = [np.asarray(c.flatten()).reshape(table.num_rows, c.type.list_size) for c in columns_of]
        found[target] = Mixture.of([family.from_parameters(part) for part in parts], np.array(known["weights"]))
    return found


def _predicted(judge: Judge, candidates: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """The candidates with a prediction, their distributions, and the quarantine."""
    whole = _is_whole(candidates)
    cut_off = candidates.filter(pc.invert(whole)).column(columns.CANDIDATE_ID).to_pylist()
    candidates = candidates.filter(whole)
    ids = candidates.column(columns.CANDIDATE_ID).to_pylist()
    predicted = judge.predict(ids, crystals_of(candidates.select(list(columns.CRYSTAL)).to_pandas()))
    kept = _plain(candidates.take(pa.array(predicted.rows)))
    said = predicted.table.drop(columns=columns.MATERIAL_ID)
    if judge.references is None:
        said[columns.ENERGY_ABOVE_KNOWN_HULL] = np.nan
    table = pa.Table.from_pandas(said, preserve_index=False)
    joined = pa.table([*kept.columns, *table.columns], names=[*kept.column_names, *table.column_names])
    cut = [Rejection(material_id=name, reason=SHAPES_DISAGREE, detail=CUT_OFF) for name in cut_off]
    return joined, mixtures_table(predicted.mixtures), quarantine_table([*cut, *predicted.rejections])


def _is_whole(candidates: pa.Table) -> pa.ChunkedArray:
    """(n,) whether a row has nine numbers of a lattice and three for each atom."""
    lattice, species, coords = (pc.list_value_length(candidates.column(name)) for name in columns.CRYSTAL)
    whole = pc.and_(pc.equal(lattice, 9), pc.equal(coords, pc.multiply(species, 3)))
    return pc.fill_null(whole, fill_value=False)


def _plain(candidates: pa.Table) -> pa.Table:
    """The same column types for every shard, whatever wrote the file."""
    fields = []
    for field in candidates.schema:
        kind = pa.list_(field.type.value_type) if pa.types.is_list(field.type) else field.type
        fields.append(pa.field(field.name, pa.large_string() if pa.types.is_string(kind) else kind))
    return candidates.cast(pa.schema(fields))
