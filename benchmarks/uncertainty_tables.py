"""The tables of docs/uncertainty.md, written from the benchmark's figures."""

from pathlib import Path
from typing import Any

START, END = "<!-- figures: written by benchmarks/uncertainty.py -->", "<!-- end of figures -->"
ROWS = ("all", "metal", "non_metal", "predicted_metal", "predicted_non_metal", "near", "far")
METRICS = ("mae", "rmse", "r2", "nll", "crps", "ence", "miscalibration_area", "spearman", "ause", "roc_auc_metal")
REMEDIES = {
    "before": "as calibrated",
    "before_near_only": "as calibrated, rows not flagged",
    "weighted": "weighted, no labels",
}


def write_tables(results: dict[str, Any], document: Path) -> None:
    """Replace what stands between the two marks of the document."""
    text = document.read_text()
    before, rest = text.split(START)
    _, after = rest.split(END)
    parts = [_shift(name, run) if "share_flagged" in run else _run(name, run) for name, run in sorted(results.items())]
    document.write_text(f"{before}{START}\n\n" + "\n\n".join(parts) + f"\n\n{END}{after}")


def _run(name: str, run: dict[str, Any]) -> str:
    return "\n\n".join(
        [f"### {name}: {len(run['members'])} members", *[_target(*item) for item in run["targets"].items()]]
    )


def _target(name: str, run: dict[str, Any]) -> str:
    beside = [("ensemble", run["ensemble"]["all"]["mae"])]
    beside += [(f"member {member}", mae) for member, mae in run["member_mae"].items()]
    beside += [(f"combined: {way}", made["mae"]) for way, made in run["combinations"].items()]
    beside += [(f"baseline: {baseline}", made["mae"]) for baseline, made in run["baselines"].items()]
    subsets = [
        row for row in [*ROWS, *(k for k in run["ensemble"] if k.startswith("source:"))] if row in run["ensemble"]
    ]
    measured = {subset: run["ensemble"][subset] for subset in subsets if run["ensemble"][subset]["n"]}
    metrics = [metric for metric in METRICS if metric in run["ensemble"]["all"]]
    temperature, constant = run["temperature"], run["constant_width"]
    best = _interval(run["mae_minus_best_member"])
    boosted = _interval(run["mae_minus_gradient_boosting"])
    return "\n\n".join(
        [
            (
                f"**{name}** ({run['unit']}; {run['n_test']} test rows, {run['n_validation']} validation rows). "
                f"Ensemble minus best member ({run['best_member']['name']}): {best}; minus gradient boosting: {boosted}. "
                f"Dropped: {', '.join(run['dropped']) or 'none'}. Temperature {temperature['value']:.2f}, growing with "
                f"distance to the power {temperature['distance_exponent']:.2f}."
            ),
            _table(["", "MAE"], [[label, _interval(mae)] for label, mae in beside]),
            _table(
                ["rows", "n", *metrics, "MAE of surest 50 %", "80 %"],
                [
                    [
                        subset,
                        row["n"],
                        *(_value(row[m]) for m in metrics),
                        _value(row["mae_most_certain_50"]),
                        _value(row["mae_most_certain_80"]),
                    ]
                    for subset, row in measured.items()
                ],
            ),
            _table(
                ["rows", *(f"cover {p} %" for p in (50, 80, 90, 95)), *(f"width {p} %" for p in (50, 80, 90, 95))],
                [
                    [
                        subset,
                        *(_value(row[f"coverage_{p}"]) for p in (50, 80)),
                        _interval(row["coverage_90"]),
                        _value(row["coverage_95"]),
                        *(_value(row[f"width_{p}"]) for p in (50, 80, 90, 95)),
                    ]
                    for subset, row in measured.items()
                ],
            ),
            _table(
                ["distribution", "NLL", "CRPS", "ENCE", "miscalibration", "90 % quantiles cover"],
                [
                    [
                        f"{when} the temperature",
                        *(_value(run["calibration"][when][m]) for m in METRICS[3:7]),
                        f"{run['calibration'][when]['quantile_coverage_90']:.3f}",
                    ]
                    for when in ("before", "after")
                ],
            ),
            (
                f"Intervals of one width for all rows: {constant['width_90']:.3f} wide, covering "
                f"{constant['coverage_90']:.3f}; scaled by the spread: {constant['scaled_width_90']:.3f} "
                f"({100 * constant['scaled_narrower_by']:.0f} % narrower)."
            ),
            _table(
                ["distance from training", "n", "MAE", "mean spread", "cover 90 %", "width 90 %"],
                [
                    [f"{d['distance_low']:.2f} to {d['distance_high']:.2f}", d["n"]]
                    + [f"{d[key]:.3f}" for key in ("mae", "mean_std", "coverage_90", "width_90")]
                    for d in run["distance_deciles"]
                ],
            ),
            *([f"Fallbacks: {'; '.join(run['conformal_notes'])}."] if run["conformal_notes"] else []),
        ]
    )


def _shift(name: str, run: dict[str, Any]) -> str:
    rows = []
    for target, figures in run["targets"].items():
        for key, judged in figures.items():
            if key != "mae":
                width = "-" if judged["width_90"] is None else f"{judged['width_90']:.3f}"
                label = REMEDIES.get(key, key.replace("_", " "))
                rows.append([target, label, judged["n"], f"{judged['coverage_90']:.3f}", width])
    errors = ", ".join(f"{target} {figures['mae']:.3f}" for target, figures in run["targets"].items())
    return "\n\n".join(
        [
            f"### {name}",
            (
                f"{run['n']} crystals that no fold held ({', '.join(run['members'])}). MAE: {errors}. Flagged: "
                f"{100 * run['share_flagged']:.0f} % of them, {100 * run['share_flagged_in_distribution']:.0f} % of the "
                "test fold."
            ),
            _table(["target", "90 % interval", "n", "cover", "mean width"], rows),
        ]
    )


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _value(estimate: dict[str, Any]) -> str:
    return "-" if estimate["value"] is None else f"{estimate['value']:.3f}"


def _interval(estimate: dict[str, Any]) -> str:
    if estimate["low"] is None:
        return _value(estimate)
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"
