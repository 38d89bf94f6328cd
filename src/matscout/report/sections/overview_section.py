"""The head of the page: one sentence, the main figures, notices of synthetic or missing data; and the goal."""

from dataclasses import dataclass
from typing import Any

from matscout import columns
from matscout.params import Objective
from matscout.report import wording
from matscout.report.run import Run
from matscout.report.run_tables import ensemble_error


@dataclass(frozen=True)
class Tile:
    """One main figure, with its unit and a remark."""

    label: str
    value: str
    unit: str = ""
    note: str = ""


def overview(run: Run) -> dict[str, Any]:
    """Headline, summary, tiles and notices."""
    goal_name, goal = run.params.screening.goal, run.goal
    n_candidates, top_k = len(run.ranked), min(run.params.screening.top_k, len(run.ranked))
    return {
        "eyebrow": "Screening report",
        "headline": f"{wording.name_of(goal_name).capitalize()}: {top_k} of {n_candidates:,} crystals to look at first",
        "lede": f"Goal: {goal.description}. An ensemble of {len(run.members)} models, trained on "
        f"{_n_training(run):,} known crystals, predicts each candidate with an interval. The shortlist is ranked by "
        "how well, and with what probability, a candidate meets the goal.",
        "tiles": _tiles(run),
        "notices": _notices(run),
    }


def asked(run: Run) -> dict[str, Any]:
    """The objectives and element rules of the goal, as text."""
    goal = run.goal
    aims = [{"what": wording.capital(wording.name_of(aim.column)), "rule": rule_of(aim)} for aim in goal.objectives]
    aims += [{"what": wording.capital(what), "rule": symbols} for what, symbols in goal.element_rules()]
    name = wording.name_of(run.params.screening.goal)
    intro = f"{wording.capital(name)} ({goal.description}), as defined in params.yaml: a filter, not a figure of merit."
    others = sorted(set(run.params.screening.goals) - {run.params.screening.goal})
    return {"intro": intro, "aims": aims, "another": (others or [run.params.screening.goal])[0]}


def rule_of(aim: Objective) -> str:
    """An objective as text."""
    if aim.window is not None:
        return wording.window(aim.window, wording.unit_of(aim.column))
    return "as low as possible" if aim.direction == "minimize" else "as high as possible"


def _n_training(run: Run) -> int:
    return int((run.split[columns.FOLD].to_numpy() == columns.TRAIN).sum())


def _tiles(run: Run) -> list[Tile]:
    synthetic = sum(found["synthetic"] for found in run.curation["rows"].values())
    tiles = [
        Tile(
            "Crystals curated",
            wording.count(len(run.materials)),
            note=f"{synthetic:,} of them synthetic" if synthetic else "none synthetic",
        ),
        Tile("Candidates screened", wording.count(len(run.ranked))),
        Tile("Meet the goal", wording.count(run.flags(columns.GOAL_MET).sum()), note="by their point predictions"),
        Tile("On the Pareto front", wording.count(run.flags(columns.PARETO_FRONT).sum())),
    ]
    for target in run.targets:
        error = ensemble_error(run.ensemble, target)
        tiles.append(
            Tile(
                f"Test error, {wording.name_of(target)}",
                wording.number(error["value"]),
                wording.unit_of(target),
                _interval(error),
            )
        )
    return tiles


def _interval(error: dict[str, float | None]) -> str:
    if error["low"] is None:
        return "MAE on held-out real crystals"
    return f"MAE; 95 % interval {wording.number(error['low'])} to {wording.number(error['high'])}"


def _notices(run: Run) -> list[str]:
    notices = []
    stand_ins = {name: found["synthetic"] for name, found in run.curation["rows"].items() if found["synthetic"]}
    if stand_ins:
        names = wording.sentence_list([wording.name_of(name) for name in sorted(stand_ins)])
        notices.append(
            f"{names}: the rows with these names are synthetic stand-ins ({sum(stand_ins.values()):,} of "
            f"{len(run.materials):,} crystals), made from sample structures with known offsets and noise, so that "
            "the whole pipeline runs offline. They do not come from those databases. No error or coverage on this page "
            "uses a synthetic row."
        )
    samples = [wording.name_of(name) for name, manifest in run.manifests.items() if manifest.origin == "sample"]
    if samples:
        notices.append(
            "This run uses the bundled sample. Its models are small and trained briefly, so read the shortlist as a "
            "demonstration, not as advice on what to synthesise."
        )
    return notices
