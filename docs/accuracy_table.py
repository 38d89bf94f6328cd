"""Write the tables of docs/accuracy.md and of benchmarks/results/accuracy.md: python docs/accuracy_table.py."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matscout.ensemble.mixture import METHODS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "docs" / "accuracy.md", RESULTS / "accuracy.md")
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
GAP, ENERGY = "band_gap", "formation_energy_per_atom"
# measured with their defaults on the rows of bench6k and two cores: gap (eV), formation energy (eV/atom)
PEERS = {
    "composition features + gradient boosting": (0.560, 0.193),
    "original CGCNN, 30 epochs": (0.519, 0.130),
    "matgl MEGNet, 84 epochs": (0.469, None),
}
UNIT = {GAP: "eV", ENERGY: "eV/atom"}
TRANSFER_SETS = {
    "oqmd_perovskites": "OQMD perovskites", "oqmd_heuslers": "OQMD Heuslers", "aflow_metals": "AFLOW intermetallics",
}  # fmt: skip

Figures = dict[str, Any]


def updated(page: str, results: Figures) -> str:
    """The page with each marked table made anew; a table without results says so."""

    def table(found: re.Match[str]) -> str:
        part, make = TABLES[found[2]]
        return f"{found[1]}{make(results[part]) if part in results else 'Not run yet.'}\n{found[3]}"

    return MARKED.sub(table, page)


def summary_table(result: Figures) -> str:
    """Baseline, best member for each target and ensemble: errors with bootstrap intervals."""
    gap, energy = (result["figures"]["targets"][target] for target in (GAP, ENERGY))
    members = {target["best_member"]["name"] for target in (gap, energy)}
    lines = ["| | gap MAE, eV | formation energy MAE, eV/atom |", "|---|---|---|"]
    shown = [("gradient boosting", "baselines", "gradient_boosting")]
    shown += [(f"best member, `{member}`", "members", member) for member in sorted(members)]
    for label, kind, name in shown:
        lines.append(f"| {label} | {_interval(gap[kind][name])} | {_interval(energy[kind][name])} |")
    title = f"**ensemble**, {gap['method']} of {len(result['figures']['times'])}"
    return "\n".join([*lines, f"| {title} | {_interval(gap['ensemble'])} | {_interval(energy['ensemble'])} |"])


def bench6k_summary(result: Figures) -> str:
    """`summary_table` with the peers that were measured on the same rows."""
    peers = [f"| {name} | {_number(gap)} | {_number(energy)} |" for name, (gap, energy) in PEERS.items()]
    return "\n".join([summary_table(result), *peers])


def ensemble_table(result: Figures) -> str:
    """Members, baselines, ensemble: errors with bootstrap intervals, and what they took."""
    figures = result["figures"]
    gap, energy = figures["targets"][GAP], figures["targets"][ENERGY]
    lines = ["| | gap MAE, eV | formation energy MAE, eV/atom | processor, min |", "|---|---|---|---|"]
    lines += [
        _row(name.replace("_", " "), gap["baselines"][name], energy["baselines"][name], "")
        for name in ("median", "gradient_boosting")
    ]
    for member, spent in figures["times"].items():
        minutes = f"{spent['processor_seconds'] / 60:.1f}"
        lines.append(_row(f"`{member}`", gap["members"][member], energy["members"][member], minutes))
    ways = [way for way in METHODS if way != gap["method"]]
    lines += [_row(f"ensemble, {way}", gap["combinations"][way], energy["combinations"][way], "") for way in ways]
    total = sum(spent["processor_seconds"] for spent in figures["times"].values()) / 60
    lines.append(_row(f"**ensemble**, {gap['method']}", gap["ensemble"], energy["ensemble"], f"{total:.0f}"))
    differences = "; ".join(
        f"{target.replace('_', ' ')}: minus its best member ({found['best_member']['name']}) "
        f"{_interval(found['mae_minus_best_member'])}, minus the members' mean {_interval(found['mae_minus_mean'])}"
        for target, found in figures["targets"].items()
    )
    words = f"Test rows: {gap['n_test']} with a gap, {energy['n_test']} with an energy. Ensemble {differences}."
    coverage = ", ".join(f"{_interval(found['coverage_90'])}" for found in (gap, energy))
    words += f" 90 % intervals cover (gap, energy) {coverage}. By: {_how(result)}."
    return "\n".join([*lines, "", words])


def groups_table(result: Figures) -> str:
    """The ensemble's error by kind of crystal."""
    groups = result["figures"]["groups"]
    lines = ["| | rows | gap MAE, eV | formation energy MAE, eV/atom |", "|---|---|---|---|"]
    for name, found in sorted(groups[GAP].items(), key=lambda item: [int(n) for n in re.findall(r"\d+", item[0])]):
        lines.append(f"| {name} | {found['n']} | {found['mae']:.3f} | {groups[ENERGY][name]['mae']:.3f} |")
    return "\n".join(lines)


def curves_table(result: Figures) -> str:
    """Errors by number of training rows."""
    runs = result["figures"]
    members = list(next(iter(runs.values()))["times"])
    lines = []
    for target, unit in UNIT.items():
        lines += [f"| {target.replace('_', ' ')}, {unit} | " + " | ".join(f"{int(n):,} rows" for n in runs) + " |"]
        lines += ["|" + "---|" * (len(runs) + 1)]
        for name in ("gradient_boosting", *members, "ensemble"):
            values = [curve_point(run["targets"][target], name) for run in runs.values()]
            shown = name.replace("_", " ") if name not in members else f"`{name}`"
            lines.append(f"| {shown} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
        lines.append("")
    return "\n".join([*lines, f"By: {_how(result)}."])


def curve_point(figures: Figures, name: str) -> float:
    """The error of a member, the ensemble or gradient boosting on one target."""
    if name == "ensemble":
        return figures["ensemble"]["value"]
    return figures["baselines" if name == "gradient_boosting" else "members"][name]["value"]


def ablations_table(result: Figures) -> str:
    """Validation errors with one thing changed: mean of the seeds, and their range."""
    figures = result["figures"]
    lines = ["| | member | gap, eV | formation energy, eV/atom |", "|---|---|---|---|"]
    order = {name: (found["member"], not name.endswith("as it is")) for name, found in figures["variants"].items()}
    for variant in sorted(order, key=lambda name: order[name]):
        found = figures["variants"][variant]
        shown = [_seeds(found["validation_mae"].get(target)) for target in (GAP, ENERGY)]
        if found["diverged"]:
            shown = [f"{each}; {found['diverged']} diverged" for each in shown]
        lines.append(f"| {variant} | `{found['member']}` | {shown[0]} | {shown[1]} |")
    words = (
        f"{figures['rows']:,} training rows, seeds {', '.join(map(str, figures['seeds']))}; mean (lowest to highest)."
    )
    return "\n".join([*lines, "", f"{words} By: {_how(result)}."])


def search_table(result: Figures) -> str:
    """Trials of the search, best first."""
    figures = result["figures"]
    paths = list(figures["trials"][0]["proposed"])
    head = " | ".join(path.rpartition(".")[2].replace("_", " ") for path in paths)
    lines = [f"| trial | {head} | gap, eV | formation energy, eV/atom | ended |", "|---" * (len(paths) + 4) + "|"]
    for trial in figures["trials"]:
        values = " | ".join(f"{trial['proposed'][path]:g}" for path in paths)
        errors = " | ".join(f"{trial['mae'][target]:.3f}" for target in (GAP, ENERGY))
        lines.append(f"| {trial['number']} | {values} | {errors} | {trial['ended']} |")
    words = [
        f"`{figures['member']}`, {figures['rows']:,} training rows, {figures['epochs']} epochs, validation errors;",
        "those of a pruned trial are of the epoch at which it ended;",
        f"trial 1 has the values of the recipe. By: {_how(result)}.",
    ]
    return "\n".join([*lines, "", " ".join(words)])


def full_rate(by_scale: Figures) -> Figures:
    """The transfer with the undiminished learning rate, which is the one that counts."""
    return by_scale["1.0"]


def _ways(by_scale: Figures) -> list[tuple[str, str | None]]:
    return [("scratch", None), *(("pretrained", scale) for scale in sorted(by_scale, key=float, reverse=True))]


def transfer_table(by_scale: Figures) -> str:
    """Errors by number of fine-tuning rows, from scratch and from pretrained weights, and the factor in rows."""
    head = [kind if scale is None else f"{kind}, {scale} of the rate" for kind, scale in _ways(by_scale)]
    lines = [f"| rows of | target | training rows | {' | '.join(head)} | rows saved, times |"]
    lines += ["|---" * (len(head) + 4) + "|"]
    result = full_rate(by_scale)
    for name, shown in TRANSFER_SETS.items():
        found = result[name]
        for target, unit in found["unit"].items():
            label = f"{target.replace('_', ' ')}, {unit}"
            untuned = found["pretrained_not_tuned_mae"][target]
            lines.append(f"| {shown} | {label} | 0 | -{f' | {untuned:.3f}' * len(by_scale)} | |")
            for n, saved in found["rows_saved"][target].items():
                runs = [(by_scale[scale or "1.0"][name], kind) for kind, scale in _ways(by_scale)]
                cells = [
                    f"{run['mae'][kind][n][target]:.3f} ({run['validation_mae'][kind][n][target]:.3f})"
                    for run, kind in runs
                ]
                lines.append(f"| | | {int(n):,} | {' | '.join(cells)} | {saved} |")
    tested = ", ".join(f"{result[name]['test_rows']} {shown}" for name, shown in TRANSFER_SETS.items())
    settings, base = result["settings"], result["base"]
    words = [
        f"Test rows: {tested}; in parentheses the error on validation rows. Rows saved: at the full rate.",
        f"Pretrained: `{base['member']}` on {base['rows']:,} rows of bench6k, {base['epochs']} epochs;",
        f"{base['left_out_as_tested']} more were left out, since a test set holds their formula.",
        f"At least {settings['least_epochs']} epochs and {settings['least_steps']} steps;",
        f"fewest rows: mean of {_n_seeds(result)} seeds.",
        f"By: {', '.join('`' + run['command'] + '`' for run in by_scale.values())}; {result['device']}.",
    ]
    return "\n".join([*lines, "", " ".join(words)])


def _n_seeds(result: Figures) -> int:
    runs = result[next(iter(TRANSFER_SETS))]["runs"]["scratch"]
    return max(len(of_n) for of_n in runs.values())


def _how(result: Figures) -> str:
    setting = result["setting"]
    threads = f"{setting['threads_a_member']} thread a training"
    return f"`{result['command']}`, {setting['device']}, {threads}, torch {setting['torch']}"


def _seeds(values: list[float] | None) -> str:
    if not values:
        return "-"
    return f"{sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _row(label: str, gap: Figures, energy: Figures, minutes: str) -> str:
    return f"| {label} | {_interval(gap)} | {_interval(energy)} | {minutes} |"


def _interval(figure: Figures) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


TABLES: dict[str, tuple[str, Callable[[Figures], str]]] = {
    "bench6k_summary": ("bench6k", bench6k_summary),
    "mp_36k_summary": ("mp_36k", summary_table),
    "bench6k": ("bench6k", ensemble_table),
    "bench6k_groups": ("bench6k", groups_table),
    "curves": ("curves", curves_table),
    "ablations": ("ablations", ablations_table),
    "search": ("search", search_table),
    "mp_36k": ("mp_36k", ensemble_table),
    "mp_36k_groups": ("mp_36k", groups_table),
    "transfer": ("transfer", transfer_table),
}


def read_results() -> Figures:
    """What was measured, by part; rows in order."""
    parts = sorted({part for part, _ in TABLES.values()} - {"transfer"})
    paths = {part: RESULTS / f"accuracy_{part}.json" for part in parts} | {"transfer": RESULTS / "transfer.json"}
    results = {part: json.loads(path.read_text()) for part, path in paths.items() if path.exists()}
    if "curves" in results:
        runs = results["curves"]["figures"]
        results["curves"]["figures"] = {n: runs[n] for n in sorted(runs, key=int)}
    return results


def main() -> None:
    """Rewrite both pages in place."""
    results = read_results()
    for page in PAGES:
        page.write_text(updated(page.read_text(), results))


if __name__ == "__main__":
    main()
