"""The tables behind `dvc plots show`: one CSV a figure, plain names, stable bytes."""

from pathlib import Path
from typing import Final

import pandas as pd

from matscout import columns
from matscout.files import write_bytes
from matscout.report import json_tables, subgroups
from matscout.report.run import Run

MOST_ROWS: Final = 2000  # of a scatter: `dvc plots show` draws every row
DIGITS: Final = "%.6g"


def write_plots(run: Run, folder: Path) -> None:
    """Write the tables of every figure that `dvc plots show` draws as CSV."""
    write_csv(folder / "calibration.csv", calibration(run))
    write_csv(folder / "pareto.csv", pareto(run))
    for target in run.params.targets:
        write_csv(folder / f"confidence_{target}.csv", json_tables.curve(run.ensemble, target, "confidence"))
        write_csv(folder / f"error_against_spread_{target}.csv", error_against_spread(run, target))
        write_csv(folder / f"interval_width_{target}.csv", interval_width(run, target))
        write_csv(folder / f"learning_curves_{target}.csv", learning_curves(run, target))
        write_csv(folder / f"parity_{target}.csv", parity(run, target))


def learning_curves(run: Run, target: str) -> pd.DataFrame:
    """`epoch` and one column a member: its validation error in the target's unit; wide, as DVC draws series."""
    curves = {name: member.history.set_index("epoch")[f"mae_{target}"] for name, member in run.members.items()}
    return pd.DataFrame(curves).sort_index().reset_index(names="epoch")


def parity(run: Run, target: str) -> pd.DataFrame:
    """`actual` and `predicted` of test crystals in the target's unit, at most `MOST_ROWS`, evenly spaced by id."""
    rows = subgroups.test_rows(run, target)
    rows = rows.iloc[:: max(1, -(-len(rows) // MOST_ROWS))]
    return pd.DataFrame(
        {
            columns.MATERIAL_ID: rows[columns.MATERIAL_ID],
            "actual": rows[target + columns.TRUTH],
            "predicted": rows[target],
            "std": rows[target + columns.STD],
        }
    )


def calibration(run: Run) -> pd.DataFrame:
    """`nominal` and one column a target: the observed share of the test crystals inside the intervals; and `ideal`."""
    tables = {target: json_tables.interval_coverage(run.ensemble, target) for target in run.params.targets}
    observed = {target: table.set_index("nominal")["value"] for target, table in tables.items()}
    return pd.DataFrame(observed).sort_index().reset_index(names="nominal").assign(ideal=lambda t: t["nominal"])


def error_against_spread(run: Run, target: str) -> pd.DataFrame:
    """`spread` predicted and `error` found (root mean squares) of equal groups of test crystals; and `ideal`."""
    return json_tables.curve(run.ensemble, target, "error_against_spread").assign(ideal=lambda t: t["spread"])


def interval_width(run: Run, target: str) -> pd.DataFrame:
    """`width` of the 90 % interval (a bin's middle, in the target's unit), `share` of the test crystals."""
    bins = json_tables.interval_width(run.ensemble, target)
    return pd.DataFrame({"width": (bins["low"] + bins["high"]) / 2, "share": bins["share"]})


def pareto(run: Run) -> pd.DataFrame:
    """Targets, goal probability and `group` (front, shortlist, other) of candidates, the best `MOST_ROWS`."""
    ranked = run.ranked.sort_values(columns.RANK, kind="stable")
    group = pd.Series("other", index=ranked.index)
    group.loc[(ranked[columns.RANK] <= run.params.screening.top_k).to_numpy()] = "shortlist"
    group.loc[ranked[columns.PARETO_FRONT].to_numpy(dtype=bool)] = "front"
    wanted = [columns.CANDIDATE_ID, columns.FORMULA, *run.params.targets, columns.GOAL_PROBABILITY]
    table = ranked[wanted].assign(group=group)
    is_other = (group == "other").to_numpy()
    return pd.concat([table.loc[~is_other], table.loc[is_other].head(MOST_ROWS)])


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically: six significant digits, newline ends, no index.

    A missing value is `nan`: DVC hands cells to Vega as text, which draws an empty one at zero.
    """
    text = table.to_csv(index=False, float_format=DIGITS, lineterminator="\n", na_rep="nan")
    write_bytes(path, text.encode())
