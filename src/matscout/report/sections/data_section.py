"""The data: databases, elements on a periodic table, duplicates, reference offsets, rejected rows.

The periodic table is plain HTML with one coloured tile per element, readable without scripts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup
from pymatgen.core import Element

from matscout import columns
from matscout.report import run_tables, wording
from matscout.report.figures.chart import DATA_RAMP, ERROR_RAMP, mix, readable_on
from matscout.report.figures.ensemble_figures import offsets
from matscout.report.html_table import Cell, Column, Row, Table, count_cell, text_cell
from matscout.report.run import Run, database_citations

LAST_ELEMENT = 94
F_BLOCK_GAP = 1  # rows between the seventh period and the f block


@dataclass(frozen=True)
class ElementTile:
    """One element of the table; `value` is None if there is nothing to show."""

    symbol: str
    row: int
    column: int
    value: float | None
    text: str
    style: str


def heat_map(
    values: Mapping[str, float], *, ramp: tuple[tuple[str, str], tuple[str, str]], log: bool, text: str
) -> list[ElementTile]:
    """Cells of the elements up to plutonium, coloured by `values`.

    Args:
        values: values by element symbol; absent elements stay empty.
        ramp: (low, high) colours on the light page, and on the dark page.
        log: colour by the logarithm, for counts over decades; values must then be positive.
        text: format of a value, such as `"{:,.0f} crystals"`.

    Returns:
        One cell per element, by atomic number.
    """
    scaled = {symbol: math.log(value) if log else value for symbol, value in values.items()}
    low, high = (min(scaled.values()), max(scaled.values())) if scaled else (0.0, 1.0)
    cells = []
    for number in range(1, LAST_ELEMENT + 1):
        element = Element.from_Z(number)
        symbol = element.symbol
        row, column = _place(element)
        share = (scaled[symbol] - low) / (high - low or 1.0) if symbol in scaled else None
        value = values.get(symbol)
        label = f"{element.long_name}: " + ("none" if value is None else text.format(value))
        cells.append(ElementTile(symbol, row, column, value, label, "" if share is None else _style(share, ramp)))
    return cells


def _place(element: Element) -> tuple[int, int]:
    if element.is_lanthanoid or element.is_actinoid:
        first = 57 if element.is_lanthanoid else 89
        return (8 if element.is_lanthanoid else 9) + F_BLOCK_GAP, element.Z - first + 3
    return element.row, element.group


def _style(share: float, ramp: tuple[tuple[str, str], tuple[str, str]]) -> str:
    light, dark = (mix(low, high, share) for low, high in ramp)
    return f"--l:{light};--li:{readable_on(light)};--d:{dark};--di:{readable_on(dark)}"


MOST_TERMS: Final = 18  # offsets drawn per database
SMALLEST_WIDTH: Final = 1e-6  # eV/atom
MOST_REASONS: Final = 12


@dataclass(frozen=True)
class ElementMap:
    """A periodic table with its title, legend and caption."""

    title: str
    cells: list[ElementTile]
    low: str
    high: str
    ramp: str
    caption: str
    spoken: str


def data(run: Run) -> tuple[dict[str, Any], dict[str, go.Figure]]:
    """The text, tables and maps of the section, and the figures of the offsets."""
    fits = run_tables.offset_tables(run.curation)
    figures = {f"offsets_{i}": offsets(_most_telling(table)) for i, table in enumerate(fits.values())}
    listed = [
        {
            "key": f"offsets_{i}",
            "title": f"Reference offsets, {_class_name(name)} against {_reference(run)}",
            "caption": _offset_caption(table),
            "size": "tall",
        }
        for i, (name, table) in enumerate(fits.items())
    ]
    words = {
        "intro": _intro(run),
        "databases": _databases(run),
        "maps": _maps(run),
        "offset_figures": listed,
        "offsets_absent": "No other database shares enough materials with the reference database "
        f"(curation.offsets.min_pairs = {run.params.curation.offsets.min_pairs}).",
        "rejected": _rejected(run.quarantine),
        "citations": "\n\n".join(database_citations(run.manifests.values())),
    }
    return words, figures


def _intro(run: Run) -> str:
    found = run.curation["duplicates"]
    return (
        f"{len(run.materials):,} crystals from {wording.plural(len(run.manifests), 'database')} are "
        f"{wording.plural(found['groups'], 'different material')}; {found['groups_of_several_databases']:,} of them "
        f"are in more than one database. {wording.plural(found['edges_related_other_space_group'], 'pair')} with "
        "matching structures but different space groups were kept apart. Duplicates of a material are always in the "
        f"same fold.{_by_potential(run)}"
    )


def _by_potential(run: Run) -> str:
    """The hypothetical crystals used in training, if any."""
    found = run.hypothetical
    if not found["rows"]:
        return ""
    return (
        f" Training also uses {found['by_fold'].get(columns.TRAIN, 0):,} hypothetical crystals with energies from a "
        f"potential ({found['potential']['name']}, not DFT); {found['by_fold'].get(columns.CALIBRATION, 0):,} more "
        "calibrate the predictions of candidates. None of them counts as a known phase or is a test crystal."
    )


def _databases(run: Run) -> Table:
    heads = (
        Column("database", numeric=False),
        Column("read", "rows"),
        Column("kept", "crystals"),
        Column("rejected", "rows"),
        Column("shared", "with another database"),
        Column("training", "crystals"),
        Column("test", "crystals"),
        Column("version", numeric=False),
        Column("licence", numeric=False),
    )
    return Table("databases", "Databases", heads, tuple(_database(run, name) for name in run.manifests))


def _database(run: Run, name: str) -> Row:
    manifest = run.manifests[name]
    kept = run.materials.loc[run.materials[columns.SOURCE] == name]
    folds = kept.merge(run.split, on=columns.MATERIAL_ID)[columns.FOLD].to_numpy()
    elsewhere = run.materials.loc[run.materials[columns.SOURCE] != name, columns.DUPLICATE_GROUP]
    shared = kept[columns.DUPLICATE_GROUP].isin(elsewhere)
    title = Markup("{}").format(wording.name_of(name))
    if kept[columns.SYNTHETIC].to_numpy(dtype=bool).any():
        title += Markup(' <span class="tag warn">synthetic stand-in</span>')
    title += Markup('<br><span class="sub">{}</span>').format(ORIGINS[manifest.origin])
    return Row(
        (
            Cell(title, wording.name_of(name)),
            count_cell(manifest.n_rows),
            count_cell(len(kept)),
            count_cell(int((run.quarantine[columns.SOURCE] == name).to_numpy().sum())),
            count_cell(int(shared.to_numpy().sum())),
            count_cell(int((folds == columns.TRAIN).sum())),
            count_cell(int((folds == columns.TEST).sum())),
            Cell(manifest.database_version or "not stated"),
            Cell(manifest.licence),
        )
    )


ORIGINS: Final = {
    "sample": "bundled sample",
    "api": "live service",
    "bulk": "bulk tables",
    "optimade": "OPTIMADE service",
    "file": "file",
}


def _reference(run: Run) -> str:
    return wording.name_of(run.params.curation.offsets.reference)


def _class_name(name: str) -> str:
    source, *scale = name.split("/")
    parts = ["no energy corrections" if part == columns.UNCORRECTED else part for part in scale]
    return f"{wording.name_of(source)} ({', '.join(parts)})" if parts else wording.name_of(source)


def _most_telling(table: pd.DataFrame) -> pd.DataFrame:
    """The terms that differ most from the constant, in widths of their intervals; in alphabetical order."""
    constant = float(table.loc[~table["is_element"].to_numpy(dtype=bool), "value"].iloc[0])
    distinct = (table["value"] - constant).abs() / (table["high"] - table["low"]).clip(lower=SMALLEST_WIDTH)
    ordered = table.assign(distinct=distinct).sort_values(
        ["is_element", "distinct", "term"], ascending=[True, False, True]
    )
    return ordered.head(MOST_TERMS).sort_values(["is_element", "term"])


def _offset_caption(table: pd.DataFrame) -> str:
    drawn = (
        ""
        if len(table) <= MOST_TERMS
        else f" The figure shows the {MOST_TERMS} of {len(table)} terms that differ most from the constant."
    )
    planted = table.loc[table["planted"].notna().to_numpy()]
    text = "How far the database's energies lie above the reference for each pure element, fitted on shared materials."
    if len(planted):
        inside = int(planted["planted"].between(planted["low"], planted["high"]).to_numpy().sum())
        text += (
            f" These rows are synthetic with known offsets; {inside} of {len(planted)} known values lie inside the "
            "fitted intervals, which hold jointly with 95 % probability."
        )
    return text + drawn


def _maps(run: Run) -> list[ElementMap]:
    training = run.split.loc[run.split[columns.FOLD] == columns.TRAIN, columns.MATERIAL_ID]
    is_training = run.materials[columns.MATERIAL_ID].isin(training).to_numpy()
    counts = run_tables.crystals_by_element(run.materials[columns.SPECIES].loc[is_training])
    maps = [
        _map(
            "Training crystals by element",
            counts,
            log=True,
            text="{:,.0f} training crystals",
            unit="",
            digits=0,
            caption="Number of training crystals that contain the element, on a logarithmic colour scale. Do not "
            "rely on predictions for the empty elements: no training crystal contains them.",
        )
    ]
    for target in run.targets:
        found = run_tables.error_by_element(run_tables.test_rows(run, target), target)
        if not found:
            continue  # too few test crystals for errors by element
        unit = wording.unit_of(target)
        maps.append(
            _map(
                f"Test error of the {wording.name_of(target)} by element",
                found,
                log=False,
                text="MAE {:.3f} " + unit,
                unit=unit,
                digits=2,
                caption=f"Mean absolute error of the test crystals that contain the element, if there "
                f"are at least {run_tables.FEWEST_PER_ELEMENT}.",
            )
        )
    return maps


def _map(
    title: str, values: dict[str, float], *, log: bool, text: str, unit: str, digits: int, caption: str
) -> ElementMap:
    ramp = DATA_RAMP if log else ERROR_RAMP
    ends = [wording.number(f(values.values()), digits) for f in (min, max)] if values else [wording.DASH] * 2
    top = sorted(values, key=lambda s: (-values[s], s))[:5]
    spoken = f"{title}: from {ends[0]} to {ends[1]} {unit}; highest for {', '.join(top)}"
    return ElementMap(
        title,
        heat_map(values, ramp=ramp, log=log, text=text),
        ends[0],
        f"{ends[1]} {unit}",
        "counts" if log else "errors",
        caption,
        spoken,
    )


def _rejected(quarantine: pd.DataFrame) -> Table | None:
    if quarantine.empty:
        return None
    counts = quarantine.groupby([columns.SOURCE, "reason"], sort=True).agg(
        n=("reason", "size"), example=("detail", "first")
    )
    ordered = counts.reset_index().sort_values(["n", columns.SOURCE, "reason"], ascending=[False, True, True])
    rows = tuple(
        Row(
            (
                text_cell(wording.name_of(r["source"])),
                text_cell(wording.name_of(r["reason"])),
                count_cell(r["n"]),
                text_cell(str(r["example"])),
            )
        )
        for r in ordered.head(MOST_REASONS).to_dict("records")
    )
    heads = (
        Column("database", numeric=False),
        Column("reason", numeric=False),
        Column("rows"),
        Column("for example", numeric=False),
    )
    return Table("rejected", f"Rejected rows, {len(quarantine):,} in all", heads, rows)
