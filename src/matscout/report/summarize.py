"""The stage `summarize`: metrics for Git, one CSV per figure for `dvc plots`, and the model and data cards.

Every metric has its unit in its name, in the same form for every run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from matscout import columns
from matscout.files import write_bytes, write_json
from matscout.params import Params
from matscout.report import run_tables, wording
from matscout.report.run import Run, database_citations, paper_of


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
PLOT_DIGITS: Final = "%.6g"


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
    text = table.to_csv(index=False, float_format=PLOT_DIGITS, lineterminator="\n", na_rep="nan")
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


METRIC_DIGITS: Final = 6
LEVELS: Final = run_tables.LEVELS
JUDGED: Final = (
    "mae",
    "rmse",
    "r2",
    "coverage_90",
    "width_90",
    "crps",
    "nll",
    "ence",
    "miscalibration_area",
    "spearman",
    "ause",
    "mae_most_certain_50",
    "mae_most_certain_80",
)
WORDS: Final = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
    **{f"coverage_{level}": f"coverage of {level} % intervals" for level in LEVELS},
    **{f"width_{level}": f"mean width of {level} % intervals" for level in LEVELS},
    "crps": "CRPS",
    "nll": "NLL (nats)",
    "ence": "ENCE",
    "miscalibration_area": "miscalibration area",
    "spearman": "Spearman of spread and error",
    "ause": "AUSE",
    "mae_most_certain_50": "MAE of the most certain 50 %",
    "mae_most_certain_80": "MAE of the most certain 80 %",
    "roc_auc_metal": "ROC-AUC of metal",
}
WITH_UNIT: Final = frozenset({"rmse", "crps", *(key for key in WORDS if key.startswith(("mae", "width")))})


def curation_document(run: Run) -> dict[str, Any]:
    """Rows read, kept and rejected by database and reason; duplicates; quality of the fitted offsets."""
    rows, duplicates = run.curation["rows"], run.curation["duplicates"]
    return {
        "crystals": len(run.materials),
        "different materials": duplicates["groups"],
        "materials in several databases": duplicates["groups_of_several_databases"],
        "pairs alike but of another space group": duplicates["edges_related_other_space_group"],
        "synthetic crystals": sum(found["synthetic"] for found in rows.values()),
        "quarantined rows": run.curation["total"]["rejected"],
        "quarantined rows by reason": run.curation["total"]["by_reason"],
        "databases": {name: _database(found) for name, found in rows.items()},
        "folds": _counts(run.split[columns.FOLD].to_numpy()),
        "offsets": {name: _offset(fit) for name, fit in run_tables.offset_fits(run.curation).items()},
    }


def members_document(run: Run) -> dict[str, Any]:
    """Size of each member, and its errors on real held-out rows."""
    return {
        name: {
            "parameters": member.metrics["n_parameters"],
            "epochs": member.metrics["epochs"],
            **{
                f"{columns.key_of(target)}: {fold} MAE{_in(target)}": _round(member.metrics[fold]["mae"][target])
                for target in run.targets
                for fold in (columns.VALIDATION, columns.TEST)
            },
        }
        for name, member in run.members.items()
    }


def ensemble_document(run: Run) -> dict[str, Any]:
    """Metrics of the ensemble on the test fold, and of the baselines.

    `by kind of row` is a list, which `dvc metrics show` leaves out, so that its table stays readable.
    """
    return {target: _target(run, target) | {"by kind of row": _kinds(run, target)} for target in run.targets}


def screening_document(run: Run) -> dict[str, Any]:
    """Counts of the candidates by route, gate, goal and front; mean predictions of the shortlist."""
    ranked = run.ranked.sort_values(columns.RANK, kind="stable")
    top = ranked.head(run.params.screening.top_k)
    shortlist = {
        "candidates": len(top),
        "mean probability of meeting the goal": _mean(top[columns.GOAL_PROBABILITY].to_numpy()),
    }
    shortlist |= {f"mean {columns.key_of(wording.titled(t))}": _mean(top[t].to_numpy()) for t in run.targets}
    return {
        "candidates": len(ranked),
        "candidates by route": _counts(ranked[columns.ROUTE].to_numpy()),
        "turned away by gate": {gate: int(n) for gate, n in run.attrition["gates"].items()},
        "expected to meet the goal": _round(run.screening["expected_hits"]),
        "barred by element rules": run.screening["n_barred_by_element_rules"],
        "below the hull of their rivals": run.screening["n_below_hull"],
        "stability not judged": run.screening["n_stability_not_judged"],
        "meet the goal": int(run.flags(columns.GOAL_MET).sum()),
        "on the Pareto front": int(run.flags(columns.PARETO_FRONT).sum()),
        "far from the training data": int(run.flags(columns.FAR_FROM_TRAINING).sum()),
        "shortlist": shortlist,
        **_relaxation(run),
    }


def _relaxation(run: Run) -> dict[str, Any]:
    """How the relaxation changed the shortlist; empty if nothing was relaxed."""
    told = run.relaxation
    if told["potential"] is None:
        return {}
    found = {
        "relaxed": told["n_relaxed"],
        "left out": told["n_left_out"],
        "judges disagree": told["n_judges_disagree"],
        "expected to meet the goal, before": _round(told["expected_hits_before"]),
        "expected to meet the goal": _round(told["expected_hits"]),
        "mean energy gained (eV/atom)": told["mean_energy_gained"],
    }
    return {"relaxation": found}


def _database(found: dict[str, int]) -> dict[str, int]:
    return {
        "rows read": found["read"],
        "crystals kept": found["kept"],
        "rows quarantined": found["rejected"],
        "synthetic crystals": found["synthetic"],
    }


def _offset(fit: dict[str, Any]) -> dict[str, Any]:
    figures: dict[str, Any] = {"pairs": fit["n_pairs"], "fitted": int(fit["fitted"])}
    if fit["fitted"]:
        held_out = fit["held_out"]
        figures["held-out MAE before (eV/atom)"] = _round(held_out["mae_before"])
        figures["held-out MAE after (eV/atom)"] = _round(held_out["mae_after"])
    if "planted" in fit:
        figures["planted elements"] = fit["planted"]["n_elements"]
        figures["planted elements inside the 95 % interval"] = fit["planted"]["n_inside"]
    return figures


def _target(run: Run, target: str) -> dict[str, Any]:
    judged = run_tables.judged(run.ensemble, target)
    figures: dict[str, Any] = {"test crystals": judged["n"]}
    for key in JUDGED:
        figures[_worded(key, target)] = _round(judged[key]["value"])
    if "roc_auc_metal" in judged:
        figures[WORDS["roc_auc_metal"]] = _round(judged["roc_auc_metal"]["value"])
    error = judged["mae"]
    figures[f"MAE, 95 % interval from{_in(target)}"] = _round(error["low"])
    figures[f"MAE, 95 % interval to{_in(target)}"] = _round(error["high"])
    scores = run_tables.scores(run, target).to_dict("records")
    for kind in ("member", "baseline"):
        best = min(row["value"] for row in scores if row["kind"] == kind)
        figures[f"best {kind}: MAE{_in(target)}"] = _round(best)
    for row in scores:
        if row["kind"] == "baseline":
            figures[f"{row['name']}: MAE{_in(target)}"] = _round(row["value"])
    return figures


def _kinds(run: Run, target: str) -> list[dict[str, Any]]:
    """Every metric on every kind of test row, for the ensemble and for the member that is best in hindsight."""
    measured = run.ensemble["targets"][target]
    best = measured["best_member"]
    return [
        {
            "rows": kind,
            "test crystals": judged["n"],
            "ensemble: value, 95 % bootstrap interval": _estimates(judged, target),
            f"best member ({best['name']})": _estimates(best["rows"][kind], target),
        }
        for kind, judged in measured["ensemble"].items()
    ]


def _estimates(judged: Mapping[str, Any], target: str) -> dict[str, list[float | None]]:
    """[value, low, high] by metric."""
    return {
        _worded(key, target): [_round(judged[key][end]) for end in ("value", "low", "high")]
        for key in WORDS
        if key in judged
    }


def _worded(key: str, target: str) -> str:
    return WORDS[key] + (_in(target) if key in WITH_UNIT else "")


def _in(target: str) -> str:
    unit = wording.unit_of(target)
    return f" ({unit})" if unit else ""


def _counts(values: NDArray[Any]) -> dict[str, int]:
    names, counts = np.unique(values.astype(str), return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _mean(values: NDArray[Any]) -> float | None:
    return _round(float(values.mean())) if len(values) else None


def _round(value: float | None) -> float | None:
    return None if value is None or value != value else round(float(value), METRIC_DIGITS)  # noqa: PLR0124 -- NaN
