"""The stage `screen`, and the same for a user's crystals: ranked tables, and a summary of the result."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymatgen.core import Structure

from matscout import columns, layout
from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.discovery.cif_files import write_cifs
from matscout.discovery.rank.goals import distance_outside, not_known_yet
from matscout.discovery.screen.candidate_scores import NO_LAYER, Judge
from matscout.discovery.screen.cascade import cascade_told, first_to_look, is_distilled, judged_and_ranked
from matscout.discovery.screen.predict_usable import QUARANTINE_NAME, cell_remark, summarise_quarantine
from matscout.discovery.screen.scored_file import ScoredFile, check_candidates
from matscout.discovery.screen.shortlist import LONGEST, known_costs, shortlist_columns
from matscout.discovery.stability.energy_above_hull import References
from matscout.engine.process_setup import share_arenas
from matscout.ensemble.predictor import EnsemblePredictor
from matscout.ensemble.release import Answering, answering
from matscout.errors import InputError
from matscout.files import atomic_path, write_json, write_parquet
from matscout.models.inference import plan_inference
from matscout.params import Goal, Params, Screening
from matscout.resume.parts import Parts

RANKED_NAME = "ranked.parquet"


def screen(
    candidates: Path,
    *,
    params: Params,
    members: Path,
    ensemble: Path,
    materials: Path,
    distilled: Path,
    destination: Path,
    stand_ins: Path | None = None,
    hull: Path | None = None,
) -> None:
    """Predict every candidate with every member, rank by the goal, write the best as CIF.

    Writes `ranked.parquet` (sorted by rank, `SHARD_ROWS` a row group), `quarantine.parquet` (candidates that
    cannot be judged, each with its reason), `cif/` with the first `top_k` and `summary.json` into the folder
    `destination`. Candidates are judged shard by shard; a killed run resumes with the unfinished shard.

    Args:
        candidates: `candidates.parquet`.
        params: sections `screening`, `targets` and `compute`.
        members: folder of members.
        ensemble: folder of the calibration.
        materials: curated table, for the phases that candidates compete with.
        distilled: folder of the distilled members, for a cascade that begins with one.
        destination: folder, replaced as a whole.
        stand_ins: table of hypothetical crystals that a potential labelled, which compete as well; None = none.
        hull: table or folder of further known phases, see `References.read`; None = none.

    Raises:
        InputError: the goal cannot be answered, or nothing is left to rank.
        StoreError: members or calibration are missing or do not fit.
    """
    settings = params.screening
    share_arenas()
    references = References.read(materials, stand_ins, hull)
    plan = plan_inference(params.compute.device, compiled=params.compute.compile)
    predictor = EnsemblePredictor.load(members, ensemble, plan).for_hypothetical()
    judge = Judge(predictor, references, settings.goals[settings.goal])
    judge.check()
    check_candidates(judge.goal, candidates)
    tree = params.model_dump(mode="json")
    cascade = settings.cascade
    fast = replace(judge, predictor=first_to_look(judge.predictor, cascade.member, distilled)) if cascade else None
    taught = [distilled / cascade.member] if cascade and is_distilled(judge.predictor, cascade.member) else []
    with Parts.kept(
        "screen",
        settings=[tree["screening"], tree["compute"]],
        inputs=[candidates, members, ensemble, materials, *taught, *(path for path in (stand_ins, hull) if path)],
        code=[__name__],
    ) as shards:
        judge, judged, ranked = judged_and_ranked(judge, fast, candidates, shards, cascade)
        ranked = _with_shortlist(judged, ranked, judge, params, materials)
        with atomic_path(destination, mark=RANKED_NAME) as folder:
            folder.mkdir()
            _write(folder, judged, ranked, settings)
            summary = summarise(ranked, settings.goal, judge.goal, settings.top_k)
            summary |= _references_told(judge.references) | summarise_quarantine(judged.quarantine)
            write_json(folder / "summary.json", summary | cascade_told(ranked, cascade))


def _with_shortlist(
    judged: ScoredFile, ranked: pd.DataFrame, judge: Judge, params: Params, materials: Path
) -> pd.DataFrame:
    """`ranked` with the columns of the shortlist, which looks at the crystals of the first layers only."""
    n_close = min(LONGEST, int((ranked[columns.PARETO_LAYER].to_numpy() != NO_LAYER).sum()))
    close = judged.rows(ranked.iloc[:n_close])
    known = known_costs(materials, judge, params.targets)
    settings = params.screening
    extra = shortlist_columns(close, judge, known, batch_size=settings.top_k, seed=settings.seed)
    return pd.concat([ranked, extra.reindex(ranked.index)], axis=1).fillna({columns.BATCH: 0})


def _write(folder: Path, judged: ScoredFile, ranked: pd.DataFrame, settings: Screening) -> None:
    """The tables, and the best as CIF."""
    judged.write_ranked(folder / RANKED_NAME, ranked)
    write_parquet(folder / QUARANTINE_NAME, judged.quarantine)
    write_cifs(folder / "cif", judged.rows(ranked.iloc[: settings.top_k]))


def screen_materials(
    structures: Mapping[str, Structure | Crystal] | Sequence[Structure | Crystal],
    goal: str | Goal = "solar_absorber",
    *,
    members: Path | None = None,
    ensemble: Path | None = None,
    materials: Path | None = layout.MATERIALS,
) -> pd.DataFrame:
    """Rank crystals by how likely they meet a goal.

    Args:
        structures: crystals by name, or a sequence of them (then named `structure-0` and so on).
        goal: name of a goal of `params.yaml` in the working directory, elsewhere of the release, or a `Goal` of your
            own.
        members: folder of trained members; None = this repository's, else those that ship with matscout.
        ensemble: folder that the stage `evaluate` wrote; likewise.
        materials: curated table, for energies above hull, by default of the ensemble that answers; None leaves these
            out.

    Returns:
        One row per crystal, best first: predictions with intervals, `goal_probability`, `goal_met`,
        `pareto_front` and `rank`.

    Raises:
        InputError: no structures, a site that is partially occupied, a goal that cannot be answered, or not one
            crystal that can be judged.
    """
    who = answering(members, ensemble)
    if materials == layout.MATERIALS:
        materials = who.materials
    table, rejections = rank_structures(structures, goal, who, materials=materials)
    if rejections:
        told = "; ".join(f"{rejection.material_id}: {rejection.detail}" for rejection in rejections)
        warnings.warn(f"{len(rejections)} crystal(s) cannot be judged and are rejected: {told}", stacklevel=2)
    return table


def rank_structures(
    structures: Mapping[str, Structure | Crystal] | Sequence[Structure | Crystal],
    goal: str | Goal,
    who: Answering,
    *,
    materials: Path | None,
) -> tuple[pd.DataFrame, Sequence[Rejection]]:
    """The table of `screen_materials`, and the crystals that cannot be judged.

    Args:
        structures: crystals, by name or in a sequence.
        goal: what is wanted, or the name of a goal.
        who: the ensemble that answers.
        materials: table of known phases; None = no energies above the hull.

    Returns:
        The ranking, best first, and why the other crystals are rejected.

    Raises:
        InputError: there is no structure, or none can be judged.
    """
    named = structures if isinstance(structures, Mapping) else {f"structure-{i}": s for i, s in enumerate(structures)}
    if not named:
        raise InputError("there are no structures to screen: give at least one")
    crystals = [_crystal(name, structure) for name, structure in named.items()]
    wanted = goal if isinstance(goal, Goal) else _goal(goal, who.goals)
    references = None if materials is None else References.read(materials)
    judge = Judge(EnsemblePredictor.load(who.members, who.ensemble).for_hypothetical(), references, wanted)
    judge.check()
    judged = judge.judge(list(named), crystals)
    if not len(judged.table):
        first = judged.rejections[0]
        raise InputError(
            f"none of {len(named)} crystal(s) can be judged; the first, {first.material_id}: {first.detail}"
        )
    judged.table.insert(1, columns.FORMULA, [crystals[row].reduced_formula for row in judged.rows])
    judged.table[columns.CELL_REMARK] = [cell_remark(crystals[row]) for row in judged.rows]
    return judge.rank(judged.table), judged.rejections


def _references_told(references: References | None) -> dict[str, int]:
    """How well the hull itself is known; an unknown error counts as zero."""
    if references is None:
        return {}
    return {
        "n_known_phases": references.n_phases,
        "n_known_phases_with_error": references.n_with_error,
        "n_stand_ins": references.n_stand_ins,
        "n_rivals": 0 if references.rivals is None else len(references.rivals),
    }


def _crystal(name: str, structure: Structure | Crystal) -> Crystal:
    if isinstance(structure, Crystal):
        return structure
    try:
        return Crystal.from_structure(structure)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error


def _goal(name: str, goals: Mapping[str, Goal]) -> Goal:
    if name not in goals:
        raise InputError(f"goal {name!r} is not defined in params.yaml; choose one of {sorted(goals)}")
    return goals[name]


NEAREST = 5


def summarise(ranked: pd.DataFrame, name: str, goal: Goal, top_k: int) -> dict[str, Any]:
    """Counts, the outcome as a sentence, and the candidates nearest to the goal.

    Args:
        ranked: all candidates, best first.
        name: name of the goal.
        goal: what was wanted.
        top_k: how many are exported.

    Returns:
        The content of `summary.json`.
    """
    met, eligible = _flags(ranked, columns.GOAL_MET), _flags(ranked, columns.ELEMENT_RULES_MET)
    chances, judged = ranked[columns.GOAL_PROBABILITY].to_numpy(), _flags(ranked, columns.STABILITY_JUDGED)
    routes = ranked[columns.ROUTE].to_numpy()[met]
    return {
        "goal": name,
        "goal_definition": goal.model_dump(mode="json"),
        "n_candidates": len(ranked),
        "n_barred_by_element_rules": int((~eligible).sum()),
        "n_goal_met": int(met.sum()),
        "n_pareto_front": int(_flags(ranked, columns.PARETO_FRONT).sum()),
        "expected_hits": float(chances.sum()),
        "expected_hits_in_top": float(chances[:top_k].sum()),
        "n_far_from_training": int(_flags(ranked, columns.FAR_FROM_TRAINING).sum()),
        "n_with_missing_references": int(np.sum(ranked[columns.MISSING_REFERENCES].to_numpy() != "")),
        "n_stability_not_judged": int((~judged).sum()),
        "n_below_hull": int(np.sum(judged & (ranked[columns.ENERGY_ABOVE_HULL].to_numpy() < 0))),
        "n_below_hull_not_judged": int(np.sum(~judged & (ranked[columns.ENERGY_ABOVE_HULL].to_numpy() < 0))),
        "hits_by_route": {str(route): int(np.sum(routes == route)) for route in sorted(set(routes))},
        "outcome": "; ".join(part for part in (outcome(ranked, goal), not_known_yet(goal)) if part),
        "nearest": _nearest(ranked, goal),
        "top": ranked[columns.CANDIDATE_ID].head(top_k).tolist(),
    }


def outcome(ranked: pd.DataFrame, goal: Goal) -> str:
    """One sentence: how many meet the goal, or how far the nearest is from it."""
    n_met = int(_flags(ranked, columns.GOAL_MET).sum())
    if n_met:
        return f"{n_met:,} of {len(ranked):,} candidates meet the goal by their point predictions"
    if not (found := _nearest(ranked, goal)):
        return f"no candidate meets the goal, because the stability of none of {len(ranked):,} can be judged"
    nearest = found[0]
    gaps = ", ".join(
        f"{column} by {gap:.3g} {columns.UNITS.get(column, '')}" for column, gap in nearest["misses"].items()
    )
    return (
        f"no candidate meets the goal by its point prediction; the nearest, {nearest['formula']} "
        f"({nearest['id']}), misses {gaps}"
    )


def _nearest(ranked: pd.DataFrame, goal: Goal) -> list[dict[str, Any]]:
    """The candidates with the smallest miss, in units of each column's spread over all candidates.

    Where the goal asks for stability, only those whose stability can be judged.
    """
    eligible = ranked.loc[_flags(ranked, columns.ELEMENT_RULES_MET)]
    if any(aim.column == columns.ENERGY_ABOVE_HULL for aim in goal.objectives):
        eligible = eligible.loc[_flags(eligible, columns.STABILITY_JUDGED)]
    misses = {
        aim.column: distance_outside(eligible[aim.column].to_numpy(), aim.window)
        for aim in goal.screened
        if aim.window is not None
    }
    if not misses or not len(eligible):
        return []
    spread = {column: float(np.std(eligible[column])) or 1.0 for column in misses}
    total = np.sum([miss / spread[column] for column, miss in misses.items()], axis=0)
    order = np.argsort(total, kind="stable")[:NEAREST]
    return [
        {
            "id": str(eligible.iloc[row][columns.CANDIDATE_ID]),
            "formula": str(eligible.iloc[row][columns.FORMULA]),
            "goal_probability": float(eligible.iloc[row][columns.GOAL_PROBABILITY]),
            "misses": {column: float(miss[row]) for column, miss in misses.items() if miss[row] > 0},
        }
        for row in order
    ]


def _flags(ranked: pd.DataFrame, column: str) -> NDArray[np.bool_]:
    return ranked[column].to_numpy(dtype=bool)
