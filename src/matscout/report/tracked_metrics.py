"""The metrics that Git tracks, with the unit of each in its name, in the same form for every run."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from matscout import columns
from matscout.report import run_tables, wording
from matscout.report.run import Run

DIGITS: Final = 6
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
                f"{wording.key_of(target)}: {fold} MAE{_in(target)}": _round(member.metrics[fold]["mae"][target])
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
    shortlist |= {f"mean {wording.key_of(wording.titled(t))}": _mean(top[t].to_numpy()) for t in run.targets}
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
    return None if value is None or value != value else round(float(value), DIGITS)  # noqa: PLR0124 -- NaN
