"""Every table of the uncertainty benchmark, and the short one of docs/uncertainty.md, written from its figures."""

from pathlib import Path
from typing import Any

from benchmarks.uncertainty.narrowest import limits

SHIFT_HEAD = ["target", "MAE", "median error", "90 % interval", "n", "cover", "mean width"]
REMEDIES = {
    "before": "as calibrated",
    "before_near_only": "as calibrated, rows that are not far",
    "weighted": "weighted, no labels",
}


def shift(name: str, run: dict[str, Any]) -> str:
    """A chemistry that no fold held."""
    epochs = ", ".join(f"{member} {n}" for member, n in run["epochs"].items())
    said = (
        f"{run['n']} crystals that no fold held; members with their epochs: {epochs}. "
        f"Flagged of them: {_flagged(run['flagged'])}; of the test fold: {_flagged(run['flagged_in_distribution'])}."
    )
    rows = [[*row] for target, figures in run["targets"].items() for row in _remedies(target, figures)]
    return "\n\n".join([f"## {name}", said, table(SHIFT_HEAD, rows)])


def databases(name: str, run: dict[str, Any]) -> str:
    """Databases that trained no member."""
    flags, rows = [], []
    for database, judged in run["databases"].items():
        flagged = [f"{100 * judged['flagged'][why]:.0f} %" for why in ("far", "unseen", "either")]
        flags.append([database, judged["n"], judged["n_pairs"], *flagged])
        for target, figures in judged["targets"].items():
            rows += [[database, *row] for row in _remedies(target, figures)]
    said = f"Members {', '.join(run['members'])}. Flagged of the test fold: {_flagged(run['flagged_in_distribution'])}."
    head = ["database", "rows judged", "pairs for offsets", "far", "unseen element", "either"]
    return "\n\n".join([f"## {name}", said, table(head, flags), table(["database", *SHIFT_HEAD], rows)])


def _remedies(target: str, figures: dict[str, Any]) -> list[list[Any]]:
    rows = []
    own = [key for key in figures if key.startswith("own_quantile")]
    for key in (*REMEDIES, *own):
        judged = figures[key]
        if judged["n"]:
            width = "-" if judged["width_90"] is None else f"{judged['width_90']:.3f}"
            error = [f"{figures[what]:.3f}" for what in ("mae", "bias")]
            label = REMEDIES.get(key, key.replace("_", " "))
            rows.append([target, *error, label, judged["n"], f"{judged['coverage_90']:.3f}", width])
    return rows


def _flagged(shares: dict[str, float]) -> str:
    return f"{100 * shares['far']:.1f} % as far, {100 * shares['unseen']:.1f} % for an unseen element"


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def value(estimate: dict[str, Any]) -> str:
    """The value of an estimate, or a dash."""
    return "-" if estimate["value"] is None else f"{estimate['value']:.3f}"


def interval(estimate: dict[str, Any]) -> str:
    """The value of an estimate with its interval, where it has one."""
    if estimate["low"] is None:
        return value(estimate)
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


START, END = "<!-- table: written by benchmarks/uncertainty/__main__.py -->", "<!-- end of table -->"
ROWS = ("all", "metal", "non_metal", "predicted_metal", "predicted_non_metal", "near", "far")
METRICS = ("mae", "rmse", "r2", "nll", "crps", "ence", "miscalibration_area", "spearman", "ause", "roc_auc_metal")
LEVELS = (50, 80, 90, 95)
HEAD = """# Uncertainty: every table

Written by `python -m benchmarks.uncertainty`; [docs/uncertainty.md](../../docs/uncertainty.md) explains the method.
Figures in parentheses are 95 % bootstrap intervals over test rows. "metal" is by label, "predicted metal" by
the ensemble."""
WAYS_SHOWN = ("validation_width", "width", "coverage", "spearman", "farthest_fifth", "widest_fifth", "least_by_metal")


def write_tables(results: dict[str, Any], page: Path, details: Path) -> None:
    """Write every table to `details`, and the summary between the two marks of `page`.

    Args:
        results: figures by the name of the run.
        page: a Markdown page that holds both marks.
        details: a Markdown file, replaced as a whole.
    """
    before, rest = page.read_text().split(START)
    _, after = rest.split(END)
    page.write_text(f"{before}{START}\n{_summary(results)}\n{END}{after}")
    parts = [_part(name, run) for name, run in sorted(results.items())]
    details.write_text("\n\n".join([HEAD, *parts, _limits()]) + "\n")


def _summary(results: dict[str, Any]) -> str:
    """Coverage and width of the 90 % intervals of each run and target, beside one width for all rows."""
    rows = []
    for name, run in sorted(results.items()):
        if not name.isidentifier():  # an element held out, or other databases: no run of its own
            continue
        for target, figures in run["targets"].items():
            ours, one, floor = (figures["widths"][key] for key in ("scaled", "constant", "constant_holding_floor"))
            least = [f"{100 * width['least_coverage_of_a_stratum']:.0f} %" for width in (ours, one)]
            gains = [f"{100 * gain:.0f} %" for gain in (one["narrower_by_uncut"], floor["narrower_by"])]
            cover = f"{100 * ours['coverage_90']:.1f} %"
            rows.append([f"`{name}`, {len(run['members'])}", target, figures["n_test"], cover, *least, *gains])
    head = ["run, members", "target", "test rows", "coverage", "lowest in a stratum", "lowest with one width for all"]
    return table([*head, "narrower than one width", "narrower than one width with 85 % per stratum"], rows)


def _part(name: str, run: dict[str, Any]) -> str:
    if "databases" in run:
        return databases(name, run)
    return shift(name, run) if "flagged" in run else _run(name, run)


def _run(name: str, run: dict[str, Any]) -> str:
    parts = [f"## {name}: {len(run['members'])} members"]
    for target, figures in run["targets"].items():
        parts += [
            _about(target, figures),
            _errors(figures),
            _quality(figures),
            _coverage(figures),
            _temperature(figures),
            _widths(figures),
            _strata(figures),
            _ways(figures),
            *filter(None, [_narrowest(figures)]),
            _by_distance(figures),
            *(f"Fallback: {note}." for note in figures["conformal_notes"]),
        ]
    return "\n\n".join(parts)


def _about(name: str, run: dict[str, Any]) -> str:
    temperature = run["temperature"]
    return (
        f"**{name}** ({run['unit']}; {run['n_test']} test rows, {run['n_validation']} validation rows). "
        f"MAE of the ensemble minus that of its best member ({run['best_member']['name']}): "
        f"{interval(run['mae_minus_best_member'])}; minus that of gradient boosting: "
        f"{interval(run['mae_minus_gradient_boosting'])}. Dropped: {', '.join(run['dropped']) or 'none'}. "
        f"Temperature {temperature['value']:.2f}, distance to the power {temperature['distance_exponent']:.2f}."
    )


def _errors(run: dict[str, Any]) -> str:
    beside = [("ensemble", run["ensemble"]["all"]["mae"])]
    beside += [(f"member {member}", mae) for member, mae in run["member_mae"].items()]
    beside += [(f"combined: {way}", made["mae"]) for way, made in run["combinations"].items()]
    beside += [(f"baseline: {baseline}", made["mae"]) for baseline, made in run["baselines"].items()]
    return table(["", "MAE"], [[label, interval(mae)] for label, mae in beside])


def _quality(run: dict[str, Any]) -> str:
    metrics = [metric for metric in METRICS if metric in run["ensemble"]["all"]]
    shown = [*metrics, "mae_most_certain_50", "mae_most_certain_80"]
    rows = [[subset, row["n"], *(value(row[metric]) for metric in shown)] for subset, row in _with_best(run)]
    return table(["rows", "n", *metrics, "MAE of surest 50 %", "of surest 80 %"], rows)


def _coverage(run: dict[str, Any]) -> str:
    shown = [
        f"{what}_{level}" for what in ("coverage", "width") for level in LEVELS if (what, level) != ("coverage", 90)
    ]
    rows = [
        [subset, interval(row["coverage_90"]), *(value(row[metric]) for metric in shown)]
        for subset, row in _with_best(run)
    ]
    return table(["rows", "90 % cover", *(f"{m.split('_')[1]} % {m.split('_')[0]}" for m in shown)], rows)


def _temperature(run: dict[str, Any]) -> str:
    shown = ["nll", "crps", "ence", "miscalibration_area"]
    rows = []
    for when in ("before", "after"):
        judged = run["calibration"][when]
        quantiles = [f"{judged[f'quantile_{what}_90']:.3f}" for what in ("coverage", "width")]
        rows.append([f"{when} the temperature", *(value(judged[metric]) for metric in shown), *quantiles])
    return table(["distribution", *shown, "its 90 % quantiles cover", "their width"], rows)


def _widths(run: dict[str, Any]) -> str:
    names = {
        "scaled": "ours",
        "constant": "one width for all, 90 % overall",
        "constant_holding_floor": "one width for all, no stratum below 85 %",
    }
    rows = []
    for key, label in names.items():
        judged = run["widths"][key]
        figures = [judged[f] for f in ("coverage_90", "least_coverage_of_a_stratum", "width_90", "median_width_90")]
        gain = ["-", "-"]
        if key != "scaled":
            gain = [f"{100 * judged[f]:.0f} %" for f in ("narrower_by", "narrower_by_uncut")]
        rows.append([label, *(f"{figure:.3f}" for figure in figures), *gain])
    head = ["90 % intervals", "cover", "least cover of a stratum", "mean width", "median width", "ours narrower by"]
    return table([*head, "where it is not cut at the least value"], rows)


def _strata(run: dict[str, Any]) -> str:
    widths = run["widths"]
    rows = [
        [name, n, *(f"{widths[key]['coverage_by_stratum'][name]:.3f}" for key in ("scaled", "constant"))]
        for name, n in widths["strata"].items()
    ]
    return table(["stratum", "n", "90 % cover", "one width for all covers"], rows)


def _ways(run: dict[str, Any]) -> str:
    rows = [
        [name, *("-" if judged[shown] is None else f"{judged[shown]:.3f}" for shown in WAYS_SHOWN)]
        for name, judged in sorted(run["ways_tried"].items(), key=lambda way: -way[1]["validation_width"])
    ]
    head = ["symmetric half width proportional to", "mean width, validation", "test", "cover", "Spearman with error"]
    return table([*head, "cover of farthest fifth", "of widest fifth", "least of metal, non-metal"], rows)


def _narrowest(run: dict[str, Any]) -> str:
    """Empty for a run of before they were measured."""
    constant = run["widths"]["constant"]["width_90_uncut"]
    rows = [
        [name, n, *(f"{100 * (1 - width / constant):.0f} %" for width in widths)]
        for name, by_steps in run.get("limits", {}).items()
        for n, widths in by_steps.items()
    ]
    head = ["widths set on these very test rows, one a step of", "steps", "90 % overall: narrower by at most"]
    return table([*head, "and 85 % of each step"], rows) if rows else ""


def _limits() -> str:
    rows = [
        [f"{row['sigma']:.1f}", *(f"{value:.3f}" for key, value in row.items() if key != "sigma")] for row in limits()
    ]
    head = ["σ", "Spearman of scale and error", "90 % of every row: narrower by", "narrowest possible: narrower by"]
    head += ["which cover of the hardest tenth", "one width for all covers of it"]
    return "\n\n".join(["## Simulated errors of known scale", table(head, rows)])


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
    return table(["distance from training", "n", "MAE", "mean spread", "90 % cover", "90 % width"], rows)


def _with_best(run: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    best = run["best_member"]
    return [*_subsets(run), (f"all, best member alone ({best['name']})", best["all"])]


def _subsets(run: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    names = [*ROWS, *(name for name in run["ensemble"] if name.startswith("source:"))]
    return [(name, run["ensemble"][name]) for name in names if run["ensemble"].get(name, {"n": 0})["n"]]
