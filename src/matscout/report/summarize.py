"""The stage `summarize`: metrics for Git, one CSV per figure for `dvc plots`, and the model and data cards."""

from pathlib import Path
from typing import Any, Final

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from matscout import columns
from matscout.files import write_bytes, write_json
from matscout.params import Params
from matscout.report import run_tables, wording
from matscout.report.run import Run, database_citations, paper_of
from matscout.report.tracked_metrics import (
    curation_document,
    ensemble_document,
    members_document,
    screening_document,
)


def summarize(data: Path, *, params: Params, metrics: Path, plots: Path) -> None:
    """Collect the figures of the stages.

    Args:
        data: folder with every stage's outputs (see docs/architecture.md).
        params: all of `params.yaml`.
        metrics: folder for curation, members, ensemble and screening `.json`, `model_card.md`, `data_card.md`.
        plots: folder for the CSV tables.

    Raises:
        InputError: an output of an earlier stage is missing; the message names the stage.
    """
    run = Run(Path(data), params)
    documents = {
        "curation": curation_document(run),
        "members": members_document(run),
        "ensemble": ensemble_document(run),
        "screening": screening_document(run),
    }
    for name, document in documents.items():
        write_json(Path(metrics) / f"{name}.json", document)
    write_plots(run, Path(plots))
    write_cards(run, Path(metrics))


MOST_ROWS: Final = 2000  # of a scatter plot, because `dvc plots show` draws every row
DIGITS: Final = "%.6g"


def write_plots(run: Run, folder: Path) -> None:
    """Write a CSV table for every figure of `dvc plots show`."""
    write_csv(folder / "calibration.csv", calibration(run))
    write_csv(folder / "pareto.csv", pareto(run))
    for target in run.params.targets:
        write_csv(folder / f"confidence_{target}.csv", run_tables.curve(run.ensemble, target, "confidence"))
        write_csv(folder / f"error_against_spread_{target}.csv", error_against_spread(run, target))
        write_csv(folder / f"interval_width_{target}.csv", interval_width(run, target))
        write_csv(folder / f"learning_curves_{target}.csv", learning_curves(run, target))
        write_csv(folder / f"parity_{target}.csv", parity(run, target))


def learning_curves(run: Run, target: str) -> pd.DataFrame:
    """`epoch` and one column per member: its validation error in the target's unit."""
    curves = {name: member.history.set_index("epoch")[f"mae_{target}"] for name, member in run.members.items()}
    return pd.DataFrame(curves).sort_index().reset_index(names="epoch")


def parity(run: Run, target: str) -> pd.DataFrame:
    """`actual` and `predicted` of test crystals in the target's unit, at most `MOST_ROWS`, evenly spaced by id."""
    rows = run_tables.test_rows(run, target)
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
    """`nominal`, one column per target (the observed share of test crystals inside the intervals), and `ideal`."""
    tables = {target: run_tables.interval_coverage(run.ensemble, target) for target in run.params.targets}
    observed = {target: table.set_index("nominal")["value"] for target, table in tables.items()}
    return pd.DataFrame(observed).sort_index().reset_index(names="nominal").assign(ideal=lambda t: t["nominal"])


def error_against_spread(run: Run, target: str) -> pd.DataFrame:
    """Predicted `spread` and actual `error` (root mean squares) of equal groups of test crystals, and `ideal`."""
    return run_tables.curve(run.ensemble, target, "error_against_spread").assign(ideal=lambda t: t["spread"])


def interval_width(run: Run, target: str) -> pd.DataFrame:
    """`width` of the 90 % interval (middle of a bin, in the target's unit) and `share` of the test crystals."""
    bins = run_tables.interval_width(run.ensemble, target)
    return pd.DataFrame({"width": (bins["low"] + bins["high"]) / 2, "share": bins["share"]})


def pareto(run: Run) -> pd.DataFrame:
    """Targets, goal probability and `group` (front, shortlist, other) of candidates; of others the best `MOST_ROWS`."""
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

    A missing value is written as `nan`: DVC gives cells to Vega as text, and Vega draws an empty cell at zero.
    """
    text = table.to_csv(index=False, float_format=DIGITS, lineterminator="\n", na_rep="nan")
    write_bytes(path, text.encode())


def write_cards(run: Run, folder: Path) -> None:
    """Write `model_card.md` and `data_card.md`."""
    environment = Environment(
        loader=PackageLoader("matscout.report"),
        autoescape=False,  # noqa: S701 -- Markdown, in which a name of somebody's file must open no tag
        finalize=lambda value: value.replace("<", "&lt;") if isinstance(value, str) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": wording.number, "count": wording.count, "percent": wording.percent}
    environment.filters |= {"name": wording.name_of, "unit": wording.unit_of}
    for name, facts in (("model_card", model_facts(run)), ("data_card", data_facts(run))):
        text = environment.get_template(f"{name}.md.j2").render(**facts)
        write_bytes(folder / f"{name}.md", text.encode())


def model_facts(run: Run) -> dict[str, Any]:
    """The content of the model card."""
    folds = curation_document(run)["folds"]
    return {
        "members": run.members,
        "architectures": {name: member.architecture for name, member in run.params.ensembled.items()},
        "papers": {name: paper_of(member) for name, member in run.params.ensembled.items()},
        "targets": run.targets,
        "judged": {target: run_tables.judged(run.ensemble, target) for target in run.targets},
        "scores": {target: run_tables.scores(run, target).to_dict("records") for target in run.targets},
        "n_train": folds.get(columns.TRAIN, 0),
        "n_validation": folds.get(columns.VALIDATION, 0),
        "hypothetical": run.hypothetical,
        "started": sorted(name for name, member in run.params.ensembled.items() if member.training.start),
        "split": run.params.split,
        "combine": run.params.ensemble.combine,
        "share_far": run.ensemble["flags"]["test_share_far"],
        "elements": sorted({s for symbols in _training_species(run) for s in symbols}),
        "notes": {t: run.ensemble["targets"][t]["conformal_notes"] for t in run.targets},
    }


def data_facts(run: Run) -> dict[str, Any]:
    """The content of the data card."""
    real = run.materials.loc[~run.materials[columns.SYNTHETIC].to_numpy(dtype=bool)]
    labelled = {t: int(real[settings.label].notna().to_numpy().sum()) for t, settings in run.params.targets.items()}
    return {
        "summary": curation_document(run),
        "manifests": run.manifests,
        "citations": database_citations(run.manifests.values()),
        "targets": run.targets,
        "labelled": labelled,
        "withheld_gaps": _withheld_gaps(run),
        "old_ytterbium": int((run.materials[columns.YTTERBIUM] == columns.YB_2).to_numpy().sum()),
        "made": {source: _made(rows) for source, rows in real.groupby(columns.SOURCE)},
        "reference": run.params.curation.offsets.reference,
        "validity": run.params.curation.validity,
        "split": run.params.split,
        "hypothetical": run.hypothetical,
    }


def _withheld_gaps(run: Run) -> dict[str, int]:
    """Rows whose published gap is of another functional than their energies, by that functional."""
    stated = run.materials.loc[run.materials[columns.BAND_GAP_FUNCTIONAL].notna().to_numpy()]
    other = stated[columns.BAND_GAP_FUNCTIONAL].to_numpy() != stated[columns.FUNCTIONAL].to_numpy()
    counts = stated.loc[other, columns.BAND_GAP_FUNCTIONAL].value_counts().sort_index()
    return {str(functional): int(n) for functional, n in counts.items()}


def _made(rows: pd.DataFrame) -> dict[str, int]:
    """How many crystals have been made, as their database states, and for how many it states this."""
    stated = rows[columns.IS_EXPERIMENTAL].dropna().to_numpy(dtype=bool)
    return {"made": int(stated.sum()), "stated": len(stated)}


def _training_species(run: Run) -> list[list[str]]:
    training = run.split.loc[run.split[columns.FOLD] == columns.TRAIN, columns.MATERIAL_ID]
    return list(run.materials.loc[run.materials[columns.MATERIAL_ID].isin(training), columns.SPECIES])
