"""The results: the Pareto front, the ranked table, and a provenance card for each candidate."""

import math
import re
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.relax.relaxed_table import final_ranking
from matscout.report import wording
from matscout.report.figures.crystal_scene import picture
from matscout.report.figures.screening_figures import LEAST_CHANCE, MOST_DOTS, can_meet, pareto_front
from matscout.report.html_table import (
    Cell,
    Column,
    Row,
    Scale,
    Table,
    interval_cell,
    number_cell,
    share_cell,
    span_of,
    text_cell,
)
from matscout.report.run import Run
from matscout.report.sections.candidates_section import BEFORE, DISAGREE, relaxation, relaxation_facts

IS_RELAXED = "is_relaxed"
SHORT_HEADS = {
    columns.BAND_GAP: "PBE gap",
    columns.FORMATION_ENERGY: "formation",
    columns.ENERGY_ABOVE_HULL: "above hull",
    columns.BAND_GAP_EXPERIMENTAL: "measured gap",
}
SHORT_UNITS = {columns.BAND_GAP_EXPERIMENTAL: "eV, estimate"}
RESOURCE_HEADS = {
    columns.ELEMENTAL_COST: ("cost", "$/kg"),
    columns.HHI_PRODUCTION: ("HHI", "production"),
    columns.HHI_RESERVE: ("HHI", "reserves"),
    columns.CRUSTAL_ABUNDANCE: ("rarest", "mg/kg crust"),
}
RELAXED_FIRST = "Relaxed candidates have the first ranks. "
ORDER = (
    f"{RELAXED_FIRST}Candidates whose point predictions meet the goal come before the others. They are ordered by "
    "Pareto front, and within a front by the probability of meeting the goal, so a candidate of a later front can have "
    "a higher probability than one ranked before it."
)
MOST_FRONT = 60  # structures of the front beyond the shortlist that the page holds


def shown_rows(run: Run) -> pd.DataFrame:
    """The candidates on the page by rank: the shortlist, the batch to compute together, the front that can meet a goal.

    The shortlist consists of the relaxed candidates that stay, in their new order; without any, of the first by rank.
    """
    ranked = run.ranked.sort_values(columns.RANK, kind="stable")
    n_top = run.params.screening.top_k
    if len(run.relaxed):
        relaxed = run.relaxed.drop(columns=[name for name in columns.CRYSTAL if name in run.relaxed])
        ranked = final_ranking(ranked, relaxed)
        n_top = int(np.count_nonzero(pd.notna(relaxed[columns.RANK].to_numpy())))
        ranked[IS_RELAXED] = np.arange(len(ranked)) < n_top
    top = ranked.head(n_top)
    rest = ranked.iloc[len(top) :]
    in_batch = rest[columns.BATCH].to_numpy() > 0 if columns.BATCH in rest else np.zeros(len(rest), dtype=bool)
    front = can_meet(rest) & rest[columns.PARETO_FRONT].to_numpy(dtype=bool) & ~in_batch
    shown = pd.concat([top, rest.loc[in_batch], rest.loc[front].head(MOST_FRONT)])
    return shown.sort_values(columns.RANK, kind="stable", ignore_index=True)


def shortlist(run: Run, crystals: dict[str, Crystal]) -> tuple[dict[str, Any], dict[str, go.Figure]]:
    """The section's text, table and cards, and the front.

    Args:
        run: the run.
        crystals: crystals of `shown_rows`, by candidate id.
    """
    rows = shown_rows(run)
    x, y = _axes(run)
    figure = pareto_front(run.ranked, x=x, y=y, objectives=run.goal.objectives, shown=list(rows[columns.CANDIDATE_ID]))
    words = {
        "intro": _intro(run),
        "front_caption": _front_caption(run, x, y),
        "table": _table(run, rows),
        "order": ORDER if len(run.relaxed) else ORDER.removeprefix(RELAXED_FIRST),
        "together": _together(run, rows),
        "cards": [_card(run, row, crystals[row[columns.CANDIDATE_ID]]) for row in rows.to_dict("records")],
        "hull_computed": columns.ENERGY_ABOVE_HULL in rows,
        "relaxation": relaxation(run),
    }
    return words, {"pareto": figure}


def _intro(run: Run) -> str:
    outcome = str(run.screening["outcome"])
    for column in run.ranked.columns.intersection(list(columns.NAMES)):
        outcome = outcome.replace(f" {column} ", f" the {wording.name_of(column)} ")
    expected = wording.number(run.screening["expected_hits_in_top"], 1)
    return (
        f"{outcome[:1].upper()}{outcome[1:]}. According to the predicted probabilities, {expected} candidates of the "
        "shortlist meet it. Click a point of the front or a row of the table to rotate the structure and see how it "
        "was made. Candidates differ from known crystals by design, so their intervals are calibrated on hypothetical "
        "crystals labelled by a potential."
    )


def _axes(run: Run) -> tuple[str, str]:
    """The first two objectives with a prediction, or else the first objective and another target."""
    aims = [aim.column for aim in run.goal.objectives if aim.column in run.ranked.columns]
    first, second, *_ = dict.fromkeys([*aims, *run.params.targets])
    return first, second


def _front_caption(run: Run, x: str, y: str) -> str:
    n_other = int((~(run.flags(columns.PARETO_FRONT) & can_meet(run.ranked))).sum())
    drawn = f" Only {MOST_DOTS:,} of the other candidates are drawn." if n_other > MOST_DOTS else ""
    n_aims = len(run.goal.objectives)
    more = f" The figure shows two of {n_aims} objectives." if n_aims > 2 else ""
    return (
        f"Each point is a candidate, with predicted {wording.name_of(x)} and {wording.name_of(y)}; darker points are "
        "more likely to meet the goal. The wanted window is shaded. A candidate is on the front if no other is better "
        "in every objective; for a window, better means a higher probability of lying in it. The front is drawn for "
        f"candidates whose probability of meeting the goal is at least {wording.percent(LEAST_CHANCE)}.{drawn}{more} "
        "One candidate in 200 at each end of an axis may lie outside the figure."
    )


def _table(run: Run, rows: pd.DataFrame) -> Table:
    windows = {aim.column: aim.window for aim in run.goal.objectives}
    shown = [*run.targets, *([columns.ENERGY_ABOVE_HULL] if columns.ENERGY_ABOVE_HULL in rows else [])]
    scales = {t: span_of([*rows[t + columns.LO90], *rows[t + columns.HI90]], windows.get(t)) for t in shown}
    heads = [Column("rank"), Column("formula", numeric=False)]
    heads += [Column(wording.name_of(t), f"{wording.unit_of(t)}, 90 % interval") for t in shown]
    heads += [
        Column("meets the goal", "probability"),
        Column("space group", "of the cell shown"),
        Column("made by", numeric=False),
        Column("remarks", numeric=False),
    ]
    records = rows.to_dict("records")
    repeats = rows.duplicated(columns.FORMULA)
    return Table(
        "shortlist",
        f"Shortlist and Pareto front, {wording.plural(len(rows), 'candidate')}",
        tuple(heads),
        tuple(_row(row, scales, repeats=bool(repeat)) for row, repeat in zip(records, repeats, strict=True)),
        filter_hint="Filter: Cu Se -Pb, or text",
        csv="shortlist.csv",
    )


def _together(run: Run, rows: pd.DataFrame) -> Table | None:
    """The diverse batch, with cost and abundance of the elements; None if the ranking has no batch."""
    if columns.BATCH not in rows or not rows[columns.BATCH].to_numpy().any():
        return None
    batch = rows.loc[rows[columns.BATCH] > 0].sort_values(columns.BATCH)
    resources = [name for name in columns.RESOURCES if name in batch]
    shown = [*run.targets, *(c for c in (columns.ENERGY_ABOVE_HULL, columns.BAND_GAP_EXPERIMENTAL) if c in batch)]
    heads = [Column("order"), Column("formula", numeric=False)]
    heads += [Column(SHORT_HEADS.get(t, wording.name_of(t)), SHORT_UNITS.get(t, wording.unit_of(t))) for t in shown]
    heads += [Column("goal", "probability")]
    heads += [Column(*RESOURCE_HEADS[name]) for name in resources]
    heads += [Column("made from", numeric=False), Column("candidate", numeric=False)]
    found = []
    for row in batch.to_dict("records"):
        pick = Markup('<button type="button" class="pick">{}</button>').format(wording.formula(row[columns.FORMULA]))
        cells = [number_cell(row[columns.BATCH], 0), Cell(pick, row[columns.FORMULA])]
        cells += [_plain_cell(row, column) for column in shown]
        cells += [Cell(wording.percent(row[columns.GOAL_PROBABILITY]), float(row[columns.GOAL_PROBABILITY]))]
        cells += [_resource_cell(row[name]) for name in resources]
        name = Markup('<span class="mono">{}</span>').format(row[columns.CANDIDATE_ID])
        parent = str(row[columns.PARENT_ID])
        cells += [Cell(_parent(row), parent), Cell(name, row[columns.CANDIDATE_ID])]
        found.append(Row(tuple(cells), candidate=row[columns.CANDIDATE_ID]))
    caption = f"Compute these together, {wording.plural(len(found), 'candidate')}"
    return Table("together", caption, tuple(heads), tuple(found), csv="compute_together.csv")


def _resource_cell(value: float) -> Cell:
    if not math.isfinite(value):
        return Cell(wording.DASH, math.nan)
    return Cell(f"{value:.2g}" if value < 1 else wording.count(value), float(value))


def _plain_cell(row: dict[str, Any], column: str) -> Cell:
    if column == columns.ENERGY_ABOVE_HULL and _lacks_rivals(row):
        return Cell(_least(row))
    return number_cell(row[column], 2)


def _row(row: dict[str, Any], scales: dict[str, Scale], *, repeats: bool) -> Row:
    key, name = row[columns.CANDIDATE_ID], row[columns.FORMULA]
    pick = Markup('<button type="button" class="pick">{}</button>').format(wording.formula(name))
    intervals = [_value_cell(row, target, scale) for target, scale in scales.items()]
    marks = [Markup('<span class="tag {}">{}</span>').format(t["kind"], t["text"]) for t in tags(row) if t["kind"]]
    cells = (
        number_cell(row[columns.RANK], 0),
        Cell(pick, name),
        *intervals,
        share_cell(row[columns.GOAL_PROBABILITY]),
        number_cell(row[columns.SPACE_GROUP], 0),
        text_cell(wording.name_of(row[columns.ROUTE]), _parent(row)),
        Cell(Markup(" ").join(marks), "; ".join(tag["text"] for tag in tags(row) if tag["kind"])),
    )
    return Row(cells, key, words=_words(row), elements=" ".join(_elements(name)), repeats=repeats)


def _value_cell(row: dict[str, Any], column: str, scale: Scale) -> Cell:
    """A prediction with its interval; an energy above hull without all competing phases is marked as a lower bound."""
    if column == columns.ENERGY_ABOVE_HULL and _lacks_rivals(row):
        return Cell(_least(row), row[column])
    return interval_cell(row[column], row[column + columns.LO90], row[column + columns.HI90], scale)


def _least(row: dict[str, Any]) -> Markup:
    """The text for an energy above hull without all competing phases, which could only raise it."""
    energy = row[columns.ENERGY_ABOVE_HULL]
    return Markup("at least {}").format(wording.number(energy, 2)) if energy > 0 else Markup("not judged")


def _elements(formula: str) -> list[str]:
    return re.findall(r"[A-Z][a-z]?", formula)


def _lacks_rivals(row: dict[str, Any]) -> bool:
    return not row.get(columns.STABILITY_JUDGED, True)


def _words(row: dict[str, Any]) -> str:
    """The text that the filter searches."""
    found = (row[columns.FORMULA], row[columns.ROUTE], _parent(row).striptags(), row[columns.CANDIDATE_ID])
    return " ".join([*map(str, found), *(tag["text"] for tag in tags(row))]).lower()


def tags(row: dict[str, Any]) -> list[dict[str, str]]:
    """Short marks: on the front, meets the goal, far from the training data, and so on."""
    found = []
    if row[columns.PARETO_FRONT]:
        found.append({"kind": "good", "text": "Pareto front"})
    if row[columns.GOAL_MET]:
        found.append({"kind": "", "text": "meets the goal"})
    if row.get(columns.FAR_FROM_TRAINING):
        found.append({"kind": "warn", "text": "far from training data"})
    if _lacks_rivals(row):
        found.append({"kind": "warn", "text": _why_not_judged(row)})
    elif pairs := _stood_in(row):
        named = ", ".join(pairs) if len(pairs) < 3 else f"{len(pairs)} pairs"
        found.append({"kind": "note", "text": f"stand-ins for {named}"})
    if row.get(IS_RELAXED) is True and row[DISAGREE] is True:
        found.append({"kind": "warn", "text": "ensemble and potential disagree"})
    if known := row.get(columns.KNOWN_FORMULA):
        found.append({"kind": "note", "text": f"known formula ({known})"})
    if row.get(columns.UNSEEN_ELEMENTS):
        found.append({"kind": "warn", "text": f"not in training: {row[columns.UNSEEN_ELEMENTS]}"})
    return found


def _why_not_judged(row: dict[str, Any]) -> str:
    remark = str(row.get(columns.STABILITY_REMARK) or "")
    if remark.endswith("phase known"):
        return remark
    return "deeper below the hull than known phases are" if remark else "stability not judged"


def _stood_in(row: dict[str, Any]) -> list[str]:
    """Pairs of elements without a known phase, which hypothetical crystals stand in for: `Ho-Te`."""
    start, found, pairs = str(row.get(columns.STABILITY_REMARK) or "").partition("stand-ins for ")
    return pairs.split(", ") if found and start.endswith("labelled ") else []


def _card(run: Run, row: dict[str, Any], crystal: Crystal) -> dict[str, Any]:
    """One candidate: its predictions with their uncertainty, its origin, and the prediction of each member."""
    return {
        "key": row[columns.CANDIDATE_ID],
        "plain": row[columns.FORMULA],
        "formula": wording.formula(row[columns.FORMULA]),
        "picture": Markup(picture(crystal)),  # noqa: S704 -- drawn from numbers and element symbols
        "probability": wording.percent(row[columns.GOAL_PROBABILITY]),
        "tags": tags(row),
        "facts": _predicted(run, row),
        "origin": _origin(row, crystal),
        "before": _before(row),
        "relaxation": relaxation_facts(row) if row.get(IS_RELAXED) is True else [],
        "votes": _votes(run, row),
    }


def _before(row: dict[str, Any]) -> Markup | None:
    """The picture of the unrelaxed cell; None if the candidate was not relaxed."""
    if row.get(IS_RELAXED) is not True:
        return None
    crystal = Crystal.from_row({name: row[name + BEFORE] for name in columns.CRYSTAL})
    return Markup(picture(crystal))  # noqa: S704 -- drawn from numbers and element symbols


def _predicted(run: Run, row: dict[str, Any]) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [("rank", wording.count(row[columns.RANK]))]
    shown = [*run.targets, *([columns.ENERGY_ABOVE_HULL] if columns.ENERGY_ABOVE_HULL in row else [])]
    for column in shown:
        low, high = (wording.number(row[column + end], 2) for end in (columns.LO90, columns.HI90))
        value = f"{wording.number(row[column], 2)} {wording.unit_of(column)}"
        if column == columns.ENERGY_ABOVE_HULL and _lacks_rivals(row):
            remark = row[columns.STABILITY_REMARK]
            least = _least(row) + (f" {wording.unit_of(column)}" if row[column] > 0 else "")
            words = Markup('{} <span class="sub">{}</span>').format(least, remark)
            facts.append((wording.name_of(column), words))
            continue
        facts.append((wording.name_of(column), Markup('{} <span class="sub">{} to {}</span>').format(value, low, high)))
    facts.append(("meets the goal", wording.percent(row[columns.GOAL_PROBABILITY])))
    if columns.METAL_PROBABILITY in row:
        facts.append(("is a metal", wording.percent(row[columns.METAL_PROBABILITY])))
    return [*facts, ("made from", _recipe(row))]


def _parent(row: dict[str, Any]) -> Markup:
    """`mp-5229`, and whether it has been made, if that is known."""
    made = row.get(columns.PARENT_IS_EXPERIMENTAL)
    known = {True: " (made)", False: " (only computed)"} if isinstance(made, bool | np.bool_) else {}
    if not row[columns.PARENT_ID]:
        return Markup()
    return wording.linked(str(row[columns.PARENT_ID])) + known.get(bool(made), "")


def _recipe(row: dict[str, Any]) -> Markup:
    """`mp-5229 by substitution: Sr2+ → Ba2+`."""
    made = Markup("{} by {}").format(_parent(row) or "no known parent", wording.name_of(row[columns.ROUTE]))
    if not row[columns.SUBSTITUTION]:
        return made
    return Markup("{}: {}").format(made, wording.substitution(str(row[columns.SUBSTITUTION])))


def _origin(row: dict[str, Any], crystal: Crystal) -> list[tuple[str, Any]]:
    """Competing phases, probability of the substitution, and the cell."""
    facts: list[tuple[str, Any]] = []
    if row.get(columns.COMPETING_PHASES):
        facts.append(("competing phases", row[columns.COMPETING_PHASES]))
    if not _lacks_rivals(row) and row.get(columns.STABILITY_REMARK):
        facts.append(("stability", row[columns.STABILITY_REMARK]))
    if row.get(columns.MISSING_REFERENCES):
        facts.append(("no known phase of", row[columns.MISSING_REFERENCES].replace(",", ", ")))
    odds = row.get(columns.PROBABILITY)
    if isinstance(odds, float) and math.isfinite(odds):
        facts.append(("probability of the substitution", f"{odds:.2g}"))
    volume = wording.number(crystal.volume / crystal.n_atoms, 1)
    state = "relaxed" if row.get(IS_RELAXED) is True else "not relaxed"
    cell = f"{wording.plural(crystal.n_atoms, 'atom')}, {volume} Å³/atom, {state}"
    return [*facts, ("cell", cell), ("candidate", row[columns.CANDIDATE_ID])]


def _votes(run: Run, row: dict[str, Any]) -> list[tuple[str, str]]:
    votes = []
    for member in run.members:
        said = [
            f"{wording.number(row[columns.member_column(t, member)], 2)} {wording.unit_of(t)}"
            for t in run.targets
            if columns.member_column(t, member) in row
        ]
        if said:
            votes.append((wording.name_of(member), ", ".join(said)))
    return votes
