"""The stage `relax`: relax the best candidates, predict them with ensemble and potential, and rank them again."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.discovery.cif_files import write_cifs
from matscout.discovery.relax.after_relaxation import Settled, settle, told
from matscout.discovery.relax.batched_descent import batch_device, engine_of
from matscout.discovery.relax.descent import loaded, loaded_judge, potentials_of
from matscout.discovery.relax.potential_judge import PotentialJudge, make_potential_judge
from matscout.discovery.relax.potential_properties import REASON, asked_properties, properties_of_all
from matscout.discovery.relax.relax_all import relax_all
from matscout.discovery.relax.relaxed_table import BEFORE, COMPARED, OF_RIVALS, PROPOSED, RELAXED_NAME, SUMMARY_NAME
from matscout.discovery.relax.verdict import DISAGREE, with_verdict
from matscout.discovery.screen.candidate_scores import Judge, crystals_of
from matscout.discovery.screen.predict_usable import predict_usable
from matscout.discovery.screen.screen import RANKED_NAME
from matscout.discovery.stability.competing_phases import Rivals
from matscout.discovery.stability.energy_above_hull import References
from matscout.engine import n_workers
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.files import atomic_path, write_json, write_parquet
from matscout.models.inference import plan_inference
from matscout.params import Params, Relaxation
from matscout.potentials.potential import Facts
from matscout.resume.parts import Parts


@dataclass(frozen=True)
class Inputs:
    """The inputs of the stage.

    Attributes:
        screening: output folder of the stage `screen`.
        members: folder of members.
        ensemble: folder of the calibration and of predictions of known crystals.
        materials: curated table.
        split: material_id and fold of its rows.
        stand_ins: table of hypothetical crystals labelled by a potential, or None.
        labels: folder of labels by a potential, or None.
        hull: table or folder of further known phases, or None.
    """

    screening: Path
    members: Path
    ensemble: Path
    materials: Path
    split: Path
    stand_ins: Path | None = None
    labels: Path | None = None
    hull: Path | None = None

    def files(self) -> list[Path]:
        """All inputs that exist."""
        named = (self.screening / RANKED_NAME, self.members, self.ensemble, self.materials, self.split)
        return [*named, *(path for path in (self.stand_ins, self.labels, self.hull) if path is not None)]


def relax(inputs: Inputs, params: Params, destination: Path) -> None:
    """Relax the best candidates, predict the relaxed cells with ensemble and potential, and rank them again.

    Writes `relaxed.parquet`, `summary.json` and `cif/` with the relaxed cells into the folder `destination`. The table
    has one row per chosen candidate: first those that stay, in their new order, with the columns of
    `ranked.parquet` for the relaxed cell, then those that leave, with their `reason`. Columns that end in `_before`
    describe the unrelaxed cell, as predicted by `screen`. Without a potential the table is empty.

    A killed run resumes with the candidates that are not finished.

    Args:
        inputs: the files to read.
        params: sections `relaxation`, `screening`, `curation`, `targets` and `compute`.
        destination: folder, replaced as a whole.

    Raises:
        InputError: the potential is not available, or its energy scale cannot be fitted.
    """
    settings = params.relaxation
    if settings.potential is None:
        _write(destination, pd.DataFrame({columns.CANDIDATE_ID: pd.Series(dtype=str)}), {"potential": None})
        return
    facts, batches_on = loaded(settings).facts, batch_device(settings, params.compute.device)
    plan = plan_inference(params.compute.device, compiled=params.compute.compile)
    predictor = EnsemblePredictor.load(inputs.members, inputs.ensemble, plan).for_hypothetical()
    references = References.read(inputs.materials, inputs.stand_ins, inputs.hull)
    judge = Judge(predictor, references, params.screening.goals[params.screening.goal])
    judge.check()
    tree = params.model_dump(mode="json")
    with Parts.kept(
        "relax",
        settings=[
            {name: tree[name] for name in ("relaxation", "screening", "curation", "compute")},
            potentials_of(settings),
            engine_of(batches_on),
        ],
        inputs=inputs.files(),
        code=[__name__],
    ) as parts:
        chosen = choose(inputs.screening / RANKED_NAME, settings.n)
        second = make_potential_judge(
            params,
            settings,
            materials=inputs.materials,
            split=inputs.split,
            ensemble=inputs.ensemble,
            labels=inputs.labels,
            parts=parts,
        )
        others = rivals_but(inputs.screening / RANKED_NAME, set(chosen[columns.CANDIDATE_ID]))
        table = relaxed_table(
            chosen, judge, second, settings, others, materials=inputs.materials, parts=parts, batches_on=batches_on
        )
        _write(destination, table, {**_summary(table, facts, second, params), "relaxed_with": engine_of(batches_on)})


def choose(ranked: Path, n: int) -> pd.DataFrame:
    """The first `n` candidates by rank and the first `n` by expected improvement, in the order of their rank.

    Candidates that break the element rules of the goal, or that the ensemble did not predict, are left out.
    """
    present = pq.read_schema(ranked).names
    asked = [columns.CANDIDATE_ID, columns.RANK, columns.EXPECTED_IMPROVEMENT, columns.ELEMENT_RULES_MET]
    judged_by = [columns.JUDGED_BY] if columns.JUDGED_BY in present else []
    table = pq.read_table(ranked, columns=[*asked, *judged_by]).to_pandas()
    usable = table[columns.ELEMENT_RULES_MET].to_numpy(bool)
    if judged_by:
        usable &= (table[columns.JUDGED_BY] == "ensemble").to_numpy(bool)
    table = table.loc[usable].sort_values(columns.RANK)
    promising = table.dropna(subset=[columns.EXPECTED_IMPROVEMENT]).sort_values(
        [columns.EXPECTED_IMPROVEMENT, columns.RANK], ascending=[False, True]
    )
    ids = {*table[columns.CANDIDATE_ID].head(n), *promising[columns.CANDIDATE_ID].head(n)}
    rows = pq.read_table(ranked, filters=[(columns.CANDIDATE_ID, "in", sorted(ids))]).to_pandas()
    return rows.sort_values(columns.RANK, ignore_index=True)


def rivals_but(ranked: Path, ids: set[str]) -> pd.DataFrame:
    """The competitors for `Rivals.among`: candidates predicted below the known hull, without some of them."""
    below = [(columns.ENERGY_ABOVE_KNOWN_HULL, "<", 0.0)]
    table = pq.read_table(ranked, columns=list(OF_RIVALS), filters=below).to_pandas()
    return table.loc[~table[columns.CANDIDATE_ID].isin(ids)]


def relaxed_table(
    chosen: pd.DataFrame,
    judge: Judge,
    second: PotentialJudge,
    settings: Relaxation,
    others: pd.DataFrame,
    *,
    materials: Path,
    parts: Parts,
    batches_on: str | None = None,
) -> pd.DataFrame:
    """Relax candidates and predict them again; see `relax` for the table.

    Args:
        chosen: candidates, best first, with their crystals.
        judge: predicts with the ensemble and the known phases.
        second: predicts with the potential.
        settings: the section `relaxation`.
        others: candidates that compete with their original predictions, see `rivals_but`.
        materials: curated table.
        parts: parts of this run.
        batches_on: device of `batch_device`; None = candidates are relaxed one by one.
    """
    ids, crystals = chosen[columns.CANDIDATE_ID].tolist(), crystals_of(chosen)
    descents = relax_all(ids, crystals, settings, parts, workers=n_workers(), batches_on=batches_on)
    settled = settle(ids, crystals, descents, settings, materials)
    stay = [place for place, found in enumerate(settled) if not found.reason]
    names = asked_properties(settings, judge.goal)
    at_rest = [settled[place].descent.crystal for place in stay]
    properties = properties_of_all(at_rest, names, settings, parts, workers=n_workers())
    judged, rejections = _judged(ids, settled, stay, judge, second, settings, others, properties)
    settled = [_rejected(found, rejections.get(name)) for name, found in zip(ids, settled, strict=True)]
    facts = pd.DataFrame([_row(found) for found in settled]).assign(**{columns.CANDIDATE_ID: ids})
    known = chosen[[name for name in PROPOSED if name in chosen]]
    before = chosen[[name for name in COMPARED if name in chosen]].add_suffix(BEFORE)
    table = pd.concat([known, before, facts.drop(columns=columns.CANDIDATE_ID)], axis=1)
    if not len(judged):
        return table.assign(**{columns.RANK: pd.array([None] * len(table), dtype="Int64")})
    table = table.merge(judged, on=columns.CANDIDATE_ID, how="left", validate="one_to_one")
    table[columns.RANK] = table[columns.RANK].astype("Int64")
    return table.sort_values([columns.RANK, columns.RANK + BEFORE], ignore_index=True, na_position="last")


def _judged(
    ids: Sequence[str],
    settled: Sequence[Settled],
    stay: Sequence[int],
    judge: Judge,
    second: PotentialJudge,
    settings: Relaxation,
    others: pd.DataFrame,
    properties: pd.DataFrame,
) -> tuple[pd.DataFrame, dict[str, Rejection]]:
    """The relaxed cells with combined predictions, ranked, and those that the ensemble cannot predict."""
    crystals = [settled[place].descent.crystal for place in stay]
    if not crystals:
        return pd.DataFrame(), {}
    predicted = predict_usable(judge.predictor, [ids[place] for place in stay], crystals)
    rejections = {rejection.material_id: rejection for rejection in predicted.rejections}
    if predicted.table.empty:
        return pd.DataFrame(), rejections
    kept = [crystals[row] for row in predicted.rows]
    if settings.judge is None:
        energies = np.array([settled[stay[row]].descent.energy_after for row in predicted.rows])
    else:
        energies = loaded_judge(settings).energies(kept) / [crystal.n_atoms for crystal in kept]
    opinion = second.opinion(energies, kept)
    table, mixtures = with_verdict(predicted.table, predicted.mixtures, opinion, second.comparison.correlation)
    table = table.rename(columns={columns.MATERIAL_ID: columns.CANDIDATE_ID})
    table = pd.concat([table, properties.iloc[predicted.rows].set_axis(table.index)], axis=1)
    species = [crystal.species for crystal in kept]
    table[columns.ENERGY_ABOVE_KNOWN_HULL] = judge.above_known_hull(table, species)
    own = pd.DataFrame(table.assign(**{columns.SPECIES: species})[list(OF_RIVALS)])
    judge = judge.among(Rivals.among([others, own] if len(others) else [own]))
    assessed = judge.assess(table, mixtures, species)
    if not assessed[columns.ELEMENT_RULES_MET].to_numpy(bool).any():
        return pd.DataFrame(), rejections
    return judge.rank(assessed), rejections


def _rejected(found: Settled, rejection: Rejection | None) -> Settled:
    return found if rejection is None else replace(found, reason=rejection.reason, detail=rejection.detail)


def _row(found: Settled) -> dict[str, Any]:
    crystal: Crystal = found.descent.crystal
    shape = {columns.SPACE_GROUP: found.space_group, columns.VOLUME_PER_ATOM: crystal.volume / crystal.n_atoms}
    return {**told(found), **shape, **crystal.to_row()}


def _summary(table: pd.DataFrame, facts: Facts, second: PotentialJudge, params: Params) -> dict[str, Any]:
    stays = table[columns.RANK].notna().to_numpy(bool)
    best = table.loc[stays]
    names = asked_properties(params.relaxation, params.screening.goals[params.screening.goal])
    reasons = {name: Counter(best[name + REASON]) for name in names if name + REASON in best}
    computed = {
        name: {"n": counts.pop("", 0), "failed_by_reason": dict(sorted(counts.items()))}
        for name, counts in reasons.items()
    }
    return {
        "goal": params.screening.goal,
        "potential": facts.to_json(),
        "judge": second.facts.to_json(),
        "n_chosen": len(table),
        "n_relaxed": int(np.count_nonzero(table["converged"].to_numpy(bool))),
        "n_left_out": int((~stays).sum()),
        "left_out_by_reason": dict(sorted(Counter(table.loc[~stays, "reason"]).items())),
        "n_judges_disagree": int(_sum(best, DISAGREE)),
        "n_goal_met": int(_sum(best, columns.GOAL_MET)),
        "expected_hits": _sum(best, columns.GOAL_PROBABILITY),
        "expected_hits_before": _sum(table, columns.GOAL_PROBABILITY + BEFORE),
        "mean_energy_gained": _mean(table, "energy_gained"),
        "mean_steps": _mean(table, "steps"),
        "offset_pairs": second.scale.fit.n_pairs,
        "against_dft": second.comparison.to_json(),
        "top": best[columns.CANDIDATE_ID].head(params.screening.top_k).tolist(),
        **({"properties": computed} if computed else {}),
    }


def _sum(table: pd.DataFrame, name: str) -> float:
    return float(table[name].to_numpy(np.float64).sum()) if len(table) else 0.0


def _mean(table: pd.DataFrame, name: str) -> float | None:
    values = table[name].to_numpy(np.float64)
    return round(float(np.nanmean(values)), 6) if np.isfinite(values).any() else None


def _write(destination: Path, table: pd.DataFrame, summary: dict[str, Any]) -> None:
    with atomic_path(destination, mark=RELAXED_NAME) as folder:
        folder.mkdir()
        write_parquet(folder / RELAXED_NAME, table)
        best = table.loc[table[columns.RANK].notna()] if columns.RANK in table else table
        write_cifs(folder / "cif", best)
        write_json(folder / SUMMARY_NAME, summary)
