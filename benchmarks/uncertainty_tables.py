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
    parts = [f"### {name}: {len(run['members'])} members"]
    for target, figures in run["targets"].items():
        parts += [
            _summary(target, figures),
            _errors(figures),
            _quality(figures),
            _coverage(figures),
            _temperature(figures),
            _constant(figures),
            _by_distance(figures),
            *(f"Fallback: {note}." for note in figures["conformal_notes"]),
        ]
    return "\n\n".join(parts)


def _summary(name: str, run: dict[str, Any]) -> str:
    temperature = run["temperature"]
    return (
        f"**{name}** ({run['unit']}; {run['n_test']} test rows, {run['n_validation']} validation rows). "
        f"MAE of the ensemble minus that of its best member ({run['best_member']['name']}): "
        f"{_interval(run['mae_minus_best_member'])}; minus that of gradient boosting: "
        f"{_interval(run['mae_minus_gradient_boosting'])}. Dropped: {', '.join(run['dropped']) or 'none'}. "
        f"Temperature {temperature['value']:.2f}, distance to the power {temperature['distance_exponent']:.2f}."
    )


def _errors(run: dict[str, Any]) -> str:
    beside = [("ensemble", run["ensemble"]["all"]["mae"])]
    beside += [(f"member {member}", mae) for member, mae in run["member_mae"].items()]
    beside += [(f"combined: {way}", made["mae"]) for way, made in run["combinations"].items()]
    beside += [(f"baseline: {baseline}", made["mae"]) for baseline, made in run["baselines"].items()]
    return _table(["", "MAE"], [[label, _interval(mae)] for label, mae in beside])


def _quality(run: dict[str, Any]) -> str:
    metrics = [metric for metric in METRICS if metric in run["ensemble"]["all"]]
    shown = [*metrics, "mae_most_certain_50", "mae_most_certain_80"]
    rows = [[subset, row["n"], *(_value(row[metric]) for metric in shown)] for subset, row in _subsets(run)]
    return _table(["rows", "n", *metrics, "MAE of surest 50 %", "of surest 80 %"], rows)


def _coverage(run: dict[str, Any]) -> str:
    shown = ["coverage_50", "coverage_80", "coverage_95", *(f"width_{level}" for level in (50, 80, 90, 95))]
    rows = [
        [subset, _interval(row["coverage_90"]), *(_value(row[metric]) for metric in shown)]
        for subset, row in _subsets(run)
    ]
    return _table(["rows", "90 % cover", *(f"{m.split('_')[1]} % {m.split('_')[0]}" for m in shown)], rows)


def _temperature(run: dict[str, Any]) -> str:
    shown = ["nll", "crps", "ence", "miscalibration_area"]
    rows = []
    for when in ("before", "after"):
        judged = run["calibration"][when]
        quantiles = [f"{judged[f'quantile_{what}_90']:.3f}" for what in ("coverage", "width")]
        rows.append([f"{when} the temperature", *(_value(judged[metric]) for metric in shown), *quantiles])
    return _table(["distribution", *shown, "its 90 % quantiles cover", "their width"], rows)


def _constant(run: dict[str, Any]) -> str:
    constant = run["constant_width"]
    return (
        f"90 % intervals of one width for all rows: {constant['width_90']:.3f} wide, covering "
        f"{constant['coverage_90']:.3f}; scaled by the spread, per stratum: {constant['scaled_width_90']:.3f}, "
        f"narrower by {100 * constant['scaled_narrower_by']:.0f} %."
    )


def _by_distance(run: dict[str, Any]) -> str:
    shown = ("mae", "mean_std", "coverage_90", "width_90")
    rows = [
        [
            f"{tenth['distance_low']:.2f} to {tenth['distance_high']:.2f}",
            tenth["n"],
            *(f"{tenth[m]:.3f}" for m in shown),
        ]
        for tenth in run["distance_deciles"]
    ]
    return _table(["distance from training", "n", "MAE", "mean spread", "90 % cover", "90 % width"], rows)


def _subsets(run: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    names = [*ROWS, *(name for name in run["ensemble"] if name.startswith("source:"))]
    return [(name, run["ensemble"][name]) for name in names if run["ensemble"].get(name, {"n": 0})["n"]]


def _shift(name: str, run: dict[str, Any]) -> str:
    rows = []
    for target, figures in run["targets"].items():
        for key, judged in figures.items():
            if key != "mae":
                width = "-" if judged["width_90"] is None else f"{judged['width_90']:.3f}"
                label = REMEDIES.get(key, key.replace("_", " "))
                rows.append([target, label, judged["n"], f"{judged['coverage_90']:.3f}", width])
    errors = ", ".join(f"{target} {figures['mae']:.3f}" for target, figures in run["targets"].items())
    said = (
        f"{run['n']} crystals that no fold held; members {', '.join(run['members'])}. MAE: {errors}. "
        f"Flagged: {100 * run['share_flagged']:.0f} % of them, "
        f"{100 * run['share_flagged_in_distribution']:.0f} % of the test fold."
    )
    return "\n\n".join([f"### {name}", said, _table(["target", "90 % interval", "n", "cover", "mean width"], rows)])


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _value(estimate: dict[str, Any]) -> str:
    return "-" if estimate["value"] is None else f"{estimate['value']:.3f}"


def _interval(estimate: dict[str, Any]) -> str:
    if estimate["low"] is None:
        return _value(estimate)
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"
