"""Before and after the relaxation: what moved, what both judges say, and who left the shortlist."""

import math
from collections.abc import Iterable
from typing import Any, Final

import pandas as pd
from markupsafe import Markup

from matscout import columns
from matscout.report import wording
from matscout.report.html_table import Cell, Column, Row, Table, number_cell, share_cell, text_cell
from matscout.report.run import Run

BEFORE: Final = "_before"
DISAGREE: Final = "judges_disagree"


def relaxation(run: Run) -> dict[str, Any] | None:
    """Words and tables on the relaxed candidates; null where none was relaxed."""
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
        f"which gained {gained} eV/atom on average. Ensemble and {judge['name']} then judge the relaxed cell together. "
        f"Expected to meet the goal: {wording.number(told['expected_hits_before'], 1)} of them before, "
        f"{wording.number(told['expected_hits'], 1)} after."
    )
    if known["mae_potential"] is not None and known["mae_ensemble"] is not None:
        words += (
            f" Against DFT on {known['n_validation_crystals']} known validation crystals the potential errs by "
            f"{wording.number(known['mae_potential'], 3)} eV/atom and the ensemble by "
            f"{wording.number(known['mae_ensemble'], 3)}. The potential's figure is optimistic: it was trained on "
            f"{judge['training_data'] or 'most of these crystals'}."
        )
    for name, counts in told.get("properties", {}).items():
        failed = sum(counts["failed_by_reason"].values())
        words += f" Of {wording.name_of(name)}, {counts['n']} values and {failed} without one."
    if told.get("properties"):
        words += " The error of a property is that of SevenNet-0 on crystals whose value is published."
    return words


def _table(kept: pd.DataFrame) -> Table:
    heads = (
        Column("rank"),
        Column("before", "rank"),
        Column("formula", numeric=False),
        Column("meets the goal", "probability"),
        Column("before", "probability"),
        Column("energy above hull", "eV/atom"),
        Column("before", "eV/atom"),
        Column("ensemble", "formation energy, eV/atom"),
        Column("potential", "formation energy, eV/atom"),
        Column("energy gained", "eV/atom"),
        Column("atoms moved", "Å"),
        Column("volume", "change"),
        Column("space group", "before and after", numeric=False),
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
    """The relaxation on the card of a candidate."""
    energy = columns.FORMATION_ENERGY
    facts: list[tuple[str, Any]] = [
        ("rank before", wording.count(row[columns.RANK + BEFORE])),
        ("meets the goal, before", wording.percent(row[columns.GOAL_PROBABILITY + BEFORE])),
        ("energy gained", f"{wording.number(row['energy_gained'], 3)} eV/atom in {row['steps']:.0f} steps"),
        ("atoms moved", f"{wording.number(row['moved'], 2)} Å; volume {_volume_change(row):+.0%}"),
        ("ensemble says", f"{wording.number(row[f'{energy}_by_ensemble'], 2)} eV/atom"),
    ]
    if math.isfinite(row[f"{energy}_by_potential"]):
        said, weight = row[f"{energy}_by_potential"], wording.percent(row["weight_of_potential"])
        facts.append(("potential says", f"{wording.number(said, 2)} eV/atom, weight {weight}"))
    if row["judges_remark"]:
        facts.append(("judges", row["judges_remark"]))
    return facts + _property_facts(row)
