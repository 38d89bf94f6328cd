"""A cascade: one fast member predicts every candidate, the whole ensemble only the most promising ones.

The fast member is one of the ensemble's own, or a distilled one that learnt the ensemble's answers.
Off by default (`screening.cascade: null`): rows that the ensemble did not see are marked. `judged_by` names the
member in such a row, which holds that member's point estimates, nothing calibrated, and ranks behind all rows that the
ensemble judged. `benchmarks/discovery/cascade.py` measures what is lost.
"""

import math
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from matscout import columns
from matscout.discovery.screen.candidate_scores import NO_LAYER, Judge
from matscout.discovery.screen.scored_file import PLACE, ScoredFile, judge_file, judged_name, predict_file
from matscout.discovery.stability.competing_phases import Rivals
from matscout.ensemble.predictor import EnsemblePredictor, alone, student
from matscout.params import Cascade
from matscout.resume.parts import Parts

ENSEMBLE: Final = "ensemble"
STRETCH: Final = 1.5  # factor of the fast member's spread, so that unlikely candidates are kept too
CALIBRATED: Final = (columns.STD, columns.LO90, columns.HI90, columns.ALEATORIC_STD, columns.EPISTEMIC_STD)


def judged_and_ranked(
    judge: Judge, fast: Judge | None, candidates: Path, shards: Parts, cascade: Cascade | None
) -> tuple[Judge, ScoredFile, pd.DataFrame]:
    """Judge candidates that compete with each other, and rank them.

    Args:
        judge: judge with the whole ensemble.
        fast: predictor with the member that looks first (`first_to_look`); None if `cascade` is None.
        candidates: their file.
        shards: shards of this screening.
        cascade: how much the ensemble sees; None = everything.

    Returns:
        The judge with the candidates as rivals, what it judged, and a summary from best to worst.
    """
    if cascade is None or fast is None:
        predicted = predict_file(judge, candidates, shards)
        judge = judge.among(Rivals.among(predicted.rivals()))
        judged = judge_file(judge, predicted)
        return judge, judged, judge.rank(judged.summary())
    judge, judged = judge_in_cascade(judge, fast, candidates, shards, cascade)
    return judge, judged, rank_reached(judge, judged.summary())


def first_to_look(predictor: EnsemblePredictor, name: str, distilled: Path) -> EnsemblePredictor:
    """The fast member as an ensemble of one: one of the ensemble's own, else a distilled one.

    Args:
        predictor: the ensemble.
        name: name of the member.
        distilled: folder of the distilled members.

    Returns:
        A predictor of this member alone.

    Raises:
        InputError: neither has such a member.
        StoreError: the distilled one is broken, or another ensemble taught it.
    """
    if is_distilled(predictor, name) and (distilled / name).is_dir():
        return student(predictor, distilled / name)
    return alone(predictor, name, stretch=STRETCH)


def is_distilled(predictor: EnsemblePredictor, name: str) -> bool:
    """Whether a member is not one of the ensemble."""
    return name not in {member.name for member in predictor.members}


def judge_in_cascade(
    judge: Judge, fast: Judge, candidates: Path, shards: Parts, cascade: Cascade
) -> tuple[Judge, ScoredFile]:
    """Judge all candidates by the fast member, then its best share by the ensemble.

    The candidates that the ensemble predicted compete with all others, which keep the member's predictions.

    Args:
        judge: judge with the whole ensemble.
        fast: predictor with the member that looks first.
        candidates: their file.
        shards: shards of this screening.
        cascade: how much the ensemble sees.

    Returns:
        The judge with all candidates as rivals, and what both judged.

    Raises:
        InputError: no candidate obeys the goal's element rules.
    """
    looked_at = predict_file(fast, candidates, shards.within("first"))
    fast = fast.among(Rivals.among(looked_at.rivals()))
    first = judge_file(fast, looked_at)
    summary = first.summary()
    reached = best_share(fast.rank(summary), cascade.keep)
    names = summary.loc[reached, columns.CANDIDATE_ID].tolist()
    while (kept := shards.file("kept", "parquet")) is None:
        _write_kept(shards, candidates, names)
    predicted = predict_file(judge, kept, shards.within("second"))
    judge = judge.among(Rivals.among(chain(looked_at.rivals(but=set(names)), predicted.rivals())))
    second = judge_file(judge, predicted)
    merging, lengths, waiting = shards.within("merged"), [], list(range(len(second.lengths)))
    ends = np.cumsum(first.lengths)
    for number, end in enumerate(ends.tolist()):
        mask = reached[end - first.lengths[number] : end]
        seen = second.table(waiting.pop(0)) if mask.any() else second.table(0).slice(0, 0)
        if (table := merging.table(judged_name(number))) is None:
            table = merged(first.table(number), seen, mask, cascade.member)
            merging.save_table(judged_name(number), table)
        lengths.append(table.num_rows)
    quarantine = pa.concat_tables([first.quarantine, second.quarantine]).combine_chunks()
    return judge, ScoredFile(merging, np.array(lengths), first.objectives, quarantine)


def best_share(ranked: pd.DataFrame, keep: float) -> NDArray[np.bool_]:
    """(n,) in the order of the file: whether a candidate is in the best share of those that obey the element rules."""
    n_kept = math.ceil(keep * int(ranked[columns.ELEMENT_RULES_MET].to_numpy(dtype=bool).sum()))
    reached = np.zeros(len(ranked), dtype=bool)
    reached[ranked[PLACE].to_numpy()[:n_kept]] = True
    return reached


def merged(first: pa.Table, second: pa.Table, reached: NDArray[np.bool_], member: str) -> pa.Table:
    """Merge the predictions of member and ensemble for one shard.

    A row that the ensemble reached is as the ensemble judged it, any other as the member did, without spreads. A row
    that was reached and that the ensemble could not judge is left out: it is in the quarantine.

    Args:
        first: the member's judgements, n rows.
        second: the ensemble's, of the rows that it reached and could judge.
        reached: (n,) whether the ensemble reached a row of `first`.
        member: its name, for the column `judged_by`.

    Returns:
        One row per candidate, in the order of `first`.
    """
    table = first.to_pandas()
    places = pd.Series(np.arange(len(table)), index=table[columns.CANDIDATE_ID])
    rest = table.loc[~reached]
    calibrated = [name for name in rest.columns if name.endswith(CALIBRATED) and name != columns.HULL_STD]
    rest = rest.assign(**dict.fromkeys([*calibrated, columns.TRAINING_DISTANCE], np.nan))
    seen = second.to_pandas()
    seen = seen.set_index(places.loc[seen[columns.CANDIDATE_ID]].to_numpy()).assign(**{columns.JUDGED_BY: ENSEMBLE})
    rest = rest.reindex(columns=second.column_names).assign(**{columns.JUDGED_BY: member})
    schema = second.schema.append(pa.field(columns.JUDGED_BY, pa.string()))
    both = pd.concat([part for part in (seen, rest) if len(part)] or [rest]).sort_index()
    return pa.Table.from_pandas(both, schema=schema, preserve_index=False).replace_schema_metadata(None)


def rank_reached(judge: Judge, summary: pd.DataFrame) -> pd.DataFrame:
    """Rank the ensemble's candidates, then the others by the member's probability, then the excluded ones."""
    reached = (summary[columns.JUDGED_BY] == ENSEMBLE).to_numpy()
    ranked = judge.rank(summary.loc[reached])
    rest = summary.loc[~reached].sort_values(
        [columns.ELEMENT_RULES_MET, columns.GOAL_PROBABILITY, PLACE], ascending=[False, False, True]
    )
    rest = rest.assign(**{columns.GOAL_MET: False, columns.PARETO_FRONT: False, columns.PARETO_LAYER: NO_LAYER})
    rest[columns.RANK] = np.arange(len(ranked) + 1, len(summary) + 1)
    return pd.concat([ranked, rest], ignore_index=True)


def cascade_told(ranked: pd.DataFrame, cascade: Cascade | None) -> dict[str, Any]:
    """For `summary.json`: how many candidates that obey the element rules the ensemble did not reach."""
    if cascade is None:
        return {}
    by_the_member = ranked[columns.JUDGED_BY].to_numpy(str) != ENSEMBLE
    unseen = by_the_member & ranked[columns.ELEMENT_RULES_MET].to_numpy(dtype=bool)
    return {"cascade": cascade.model_dump(mode="json") | {"n_not_reached_by_the_ensemble": int(unseen.sum())}}


def _write_kept(shards: Parts, candidates: Path, ids: list[str]) -> None:
    """The candidates with these ids, a row group for each one of `candidates` that holds any."""
    wanted = pa.array(ids)
    with (
        pq.ParquetFile(candidates) as file,
        shards.writing("kept", "parquet") as temporary,
        pq.ParquetWriter(temporary, file.schema_arrow, compression="zstd") as writer,
    ):
        for number in range(file.num_row_groups):
            group = file.read_row_group(number)
            names = group.column(columns.CANDIDATE_ID)
            mask = pc.is_in(names, value_set=wanted.cast(names.type))  # pyright: ignore[reportAttributeAccessIssue]
            chosen = group.filter(mask)
            if chosen.num_rows:
                writer.write_table(chosen)
