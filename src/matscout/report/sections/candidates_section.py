"""Candidates: how they were made, which gates rejected them, and how the relaxation changed the shortlist."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
from markupsafe import Markup

from matscout import columns
from matscout.discovery.propose import gates
from matscout.report import wording
from matscout.report.html_table import Cell, Column, Row, Table, number_cell, share_cell, text_cell
from matscout.report.run import Run

GATES: Final = {
    gates.GENERATED: "ideas generated",
    gates.UNCHANGED: "nothing replaced",
    gates.CHARGE: "charges do not balance",
    gates.REPEATED_ELEMENT: "one element on two sites",
    gates.ELECTRONEGATIVITY: "cation more electronegative than anion",
    gates.VOLUME: "implausible volume",
    gates.CONTACT: "atoms too close",
    gates.IN_CURATED: "already in the curated table",
    gates.DUPLICATE: "same as another candidate",
    gates.POLYMORPHS: "formula has enough structures already",
    gates.NOT_NEEDED: "passed, but not needed",
}


@dataclass(frozen=True)
class Gate:
    """One bar: how many remain or were rejected, as a share of the widest bar."""

    name: str
    count: str
    share: str
    lost: str = ""


@dataclass(frozen=True)
class Funnel:
    """The bars of one stage."""

    title: str
    gates: list[Gate]


def candidates(run: Run) -> dict[str, Any]:
    """The text and the bars of the section."""
    counts = run.attrition["gates"]
    routes = run.attrition["by_route"]
    made = wording.sentence_list(
        [f"{wording.count(n)} by {wording.name_of(route)}" for route, n in sorted(routes.items())]
    )
    return {
        "intro": f"{wording.count(run.attrition['n_candidates'])} candidates: {made}. Each is a known crystal with "
        "elements replaced, or a prototype decorated with ions, and is in none of the databases used here. The bars "
        "show how many each gate rejected.",
        "funnels": [_lost(counts), _kept(run)],
        "left_out": run.attrition["user_files_left_out"],
        "cards_intro": "Each card shows the predictions for a candidate, the known crystal it was made from, and how. "
        "Unless a card says otherwise, cells are scaled to plausible volumes but not relaxed, so relax them before "
        "use.",
    }


def _lost(counts: dict[str, int]) -> Funnel:
    """How many candidates `propose` rejected, by gate, the largest number first."""
    ordered = sorted(counts.items(), key=lambda item: (item[0] != gates.GENERATED, -item[1], item[0]))
    widest = max(counts.values(), default=1) or 1
    bars = [Gate(GATES.get(gate, wording.name_of(gate)), wording.count(n), f"{n / widest:.4f}") for gate, n in ordered]
    return Funnel("Candidates generated, and how many each check rejected", bars)


def _kept(run: Run) -> Funnel:
    """How many of the screened candidates fulfil each condition."""
    steps = [
        ("screened", len(run.ranked)),
        ("obey the goal's element rules", int(run.flags(columns.ELEMENT_RULES_MET).sum())),
        ("contain only elements seen in training", int((run.ranked[columns.UNSEEN_ELEMENTS].to_numpy() == "").sum())),
        ("near the training data", int((~run.flags(columns.FAR_FROM_TRAINING)).sum())),
        ("below the hull of competing phases, where stability can be judged", run.screening["n_below_hull"]),
        ("meet the goal by their point predictions", int(run.flags(columns.GOAL_MET).sum())),
        ("on the Pareto front", int(run.flags(columns.PARETO_FRONT).sum())),
        ("shortlist", min(run.params.screening.top_k, len(run.ranked))),
    ]
    widest = max(len(run.ranked), 1)
    return Funnel(
        "Candidates screened, and how many fulfil each condition",
        [Gate(n, wording.count(k), f"{k / widest:.4f}") for n, k in steps],
    )


BEFORE: Final = "_before"
DISAGREE: Final = "judges_disagree"


def relaxation(run: Run) -> dict[str, Any] | None:
    """Text and tables on the relaxed candidates; None if none was relaxed."""
    if not len(run.relaxed):
        return None
    stays = run.relaxed[columns.RANK].notna().to_numpy(bool)
    kept, left = run.relaxed.loc[stays], run.relaxed.loc[~stays]
    return {
        "words": _words(run),
        "table": _table(kept),
        "left": [_left(row) for row in left.to_dict("records")],
    }


def _words(run: Run) -> str:
    told = run.relaxation
    potential, judge, known = told["potential"], told["judge"], told["against_dft"]
    gained = wording.number(told["mean_energy_gained"], 3)
    words = (
        f"{potential['name']} ({potential['licence']}) relaxed {told['n_relaxed']} of {told['n_chosen']} candidates, "
        f"lowering their energy by {gained} eV/atom on average. The predictions of the ensemble and of {judge['name']} "
        "for the relaxed cell are then combined. Expected number of candidates that meet the goal: "
        f"{wording.number(told['expected_hits_before'], 1)} before, {wording.number(told['expected_hits'], 1)} after."
    )
    if unknown := [wording.name_of(aim.column) for aim in run.goal.relaxed]:
        names = " and ".join(dict.fromkeys(unknown))
        words += f" Before, {names} did not count in the ranking; a candidate without a value ranks last."
    if known["mae_potential"] is not None and known["mae_ensemble"] is not None:
        words += (
            f" On {known['n_validation_crystals']} known validation crystals with DFT energies, the mean error of the "
            f"potential is {wording.number(known['mae_potential'], 3)} eV/atom and that of the ensemble "
            f"{wording.number(known['mae_ensemble'], 3)}. The potential's error is underestimated, because it was "
            f"trained on {judge['training_data'] or 'most of these crystals'}."
        )
    for name, counts in told.get("properties", {}).items():
        failed = sum(counts["failed_by_reason"].values())
        words += f" Candidates with {wording.name_of(name)}: {counts['n']}; without, for the reason given: {failed}."
    if told.get("properties"):
        words += " The error of a property is that of SevenNet-0 on crystals with published values."
    return words


def _table(kept: pd.DataFrame) -> Table:
    heads = (
        Column("rank"),
        Column("before", "rank"),
        Column("formula", numeric=False),
        Column("goal", "probability"),
        Column("before", "probability"),
        Column("above hull", "eV/atom"),
        Column("before", "eV/atom"),
        Column("ensemble", "formation, eV/at."),
        Column("potential", "formation, eV/at."),
        Column("gained", "eV/atom"),
        Column("moved", "Å, atoms"),
        Column("volume", "change"),
        Column("space group", "before, after", numeric=False),
        *(Column(wording.name_of(name), wording.unit_of(name)) for name in properties_in(kept.columns)),
    )
    rows = tuple(_row(row) for row in kept.to_dict("records"))
    return Table("relaxation", f"Before and after, {wording.plural(len(kept), 'candidate')}", heads, rows)


def _row(row: dict[str, Any]) -> Row:
    energy = columns.FORMATION_ENERGY
    groups = [wording.number(row[columns.SPACE_GROUP + end], 0) for end in (BEFORE, "")]
    note = str(row["judges_remark"]) if row[DISAGREE] is True else ""
    cells = (
        number_cell(row[columns.RANK], 0),
        number_cell(row[columns.RANK + BEFORE], 0),
        Cell(wording.formula(row[columns.FORMULA]), row[columns.FORMULA]),
        share_cell(row[columns.GOAL_PROBABILITY]),
        share_cell(row[columns.GOAL_PROBABILITY + BEFORE]),
        number_cell(row.get(columns.ENERGY_ABOVE_HULL), 2),
        number_cell(row.get(columns.ENERGY_ABOVE_HULL + BEFORE), 2),
        number_cell(row[f"{energy}_by_ensemble"], 2),
        number_cell(row[f"{energy}_by_potential"], 2),
        number_cell(row["energy_gained"], 3),
        number_cell(row["moved"], 2),
        Cell(wording.percent(_volume_change(row)), _volume_change(row)),
        text_cell(groups[0] if groups[0] == groups[1] else " to ".join(groups), note),
        *(_property_cell(row, name) for name in properties_in(row)),
    )
    return Row(cells, candidate=row[columns.CANDIDATE_ID])


def properties_in(names: Iterable[str]) -> list[str]:
    """Columns of properties by the potential that are there."""
    present = set(names)
    return [name for name in columns.BY_RELAXATION if name in present]


def _property_cell(row: dict[str, Any], name: str) -> Cell:
    if not math.isfinite(row[name]):
        return Cell(text_cell(wording.DASH, _why_not(row, name)).html, math.nan)
    value, error = _with_error(row, name)
    return Cell(Markup('{} <span class="sub">± {}</span>').format(value, error), float(row[name]))


def _with_error(row: dict[str, Any], name: str) -> tuple[str, str]:
    found = (row[name], row[name + columns.STD])
    if name == columns.VOLUME_CHANGE:
        return wording.percent(found[0]), wording.percent(found[1])
    digits = 0 if name == columns.BULK_MODULUS_POTENTIAL else 2
    return wording.number(found[0], digits), wording.number(found[1], digits)


def _why_not(row: dict[str, Any], name: str) -> str:
    reason = row.get(f"{columns.AVERAGE_VOLTAGE if name == columns.VOLUME_CHANGE else name}_reason")
    return str(reason or "").replace("_", " ")


def _property_facts(row: dict[str, Any]) -> list[tuple[str, Any]]:
    """Each property with its error and how it came about, or why it has no value."""
    facts: list[tuple[str, Any]] = []
    for name in properties_in(row):
        detail = row.get(f"{name}_detail") or ""
        if math.isfinite(row[name]):
            shown = " ± ".join(_with_error(row, name))
            unit = wording.unit_of(name)
            detail = Markup('{} <span class="sub">{}</span>').format(f"{shown} {unit}".strip(), detail)
        facts.append((wording.name_of(name), detail or _why_not(row, name)))
    return facts


def _volume_change(row: dict[str, Any]) -> float:
    return row[columns.VOLUME_PER_ATOM] / row[columns.VOLUME_PER_ATOM + BEFORE] - 1


def _left(row: dict[str, Any]) -> Markup:
    words = Markup("{} ({}), rank {}: {}")
    formula, rank = wording.formula(row[columns.FORMULA]), wording.count(row[columns.RANK + BEFORE])
    return words.format(formula, row[columns.CANDIDATE_ID], rank, row["detail"] or row["reason"])


def relaxation_facts(row: dict[str, Any]) -> list[tuple[str, Any]]:
    """Facts about the relaxation, for the card of a candidate."""
    energy = columns.FORMATION_ENERGY
    facts: list[tuple[str, Any]] = [
        ("rank before", wording.count(row[columns.RANK + BEFORE])),
        ("meets the goal, before", wording.percent(row[columns.GOAL_PROBABILITY + BEFORE])),
        ("energy gained", f"{wording.number(row['energy_gained'], 3)} eV/atom in {row['steps']:.0f} steps"),
        ("atoms moved", f"{wording.number(row['moved'], 2)} Å; volume {_volume_change(row):+.0%}"),
        ("ensemble", f"{wording.number(row[f'{energy}_by_ensemble'], 2)} eV/atom"),
    ]
    if math.isfinite(row[f"{energy}_by_potential"]):
        said, weight = row[f"{energy}_by_potential"], wording.percent(row["weight_of_potential"])
        facts.append(("potential", f"{wording.number(said, 2)} eV/atom, weight {weight}"))
    if row["judges_remark"]:
        facts.append(("ensemble and potential", row["judges_remark"]))
    return facts + _property_facts(row)
