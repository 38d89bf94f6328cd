"""Write the tables of docs/accuracy.md from benchmarks/results/accuracy_*.json: python docs/accuracy_table.py."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "accuracy.md"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
GAP, ENERGY = "band_gap", "formation_energy_per_atom"
# measured with their defaults on these very rows and two cores: gap (eV), formation energy (eV/atom), time
PEERS = {
    "composition features + gradient boosting": (0.560, 0.193, ""),
    "original CGCNN, 30 epochs": (0.519, 0.130, "17 and 14 min"),
    "matgl MEGNet, 84 epochs": (0.469, None, "20 min"),
}

Figures = dict[str, Any]


def updated(page: str, results: Figures) -> str:
    """The page with each marked table made anew; a table without results says so."""

    def table(found: re.Match[str]) -> str:
        name = found[2]
        text = TABLES[name](results[name]) if name in results else "Not run yet."
        return f"{found[1]}{text}\n{found[3]}"

    return MARKED.sub(table, page)


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
    lines += [
        _row(f"ensemble, {way}", gap["combinations"][way], energy["combinations"][way], "") for way in ("mean", "stack")
    ]
    total = sum(spent["processor_seconds"] for spent in figures["times"].values()) / 60
    lines.append(_row("**ensemble**", gap["ensemble"], energy["ensemble"], f"{total:.0f}"))
    beside = "; ".join(
        f"{name} {_number(gap_error)} / {_number(energy_error)}" for name, (gap_error, energy_error, _) in PEERS.items()
    )
    differences = "; ".join(
        f"{target.replace('_', ' ')}: minus its best member ({found['best_member']['name']}) "
        f"{_interval(found['mae_minus_best_member'])}, minus the members' mean {_interval(found['mae_minus_mean'])}"
        for target, found in figures["targets"].items()
    )
    words = f"Test rows: {gap['n_test']} with a gap, {energy['n_test']} with an energy. Ensemble {differences}."
    return "\n".join([*lines, "", words, "", f"Peers on the rows of bench6k: {beside}."])


def groups_table(result: Figures) -> str:
    """The ensemble's error by kind of crystal."""
    groups = result["figures"]["groups"]
    lines = ["| | rows | gap MAE, eV | formation energy MAE, eV/atom |", "|---|---|---|---|"]
    for name, found in groups[GAP].items():
        lines.append(f"| {name} | {found['n']} | {found['mae']:.3f} | {groups[ENERGY][name]['mae']:.3f} |")
    return "\n".join(lines)


def curves_table(result: Figures) -> str:
    """Errors by number of training rows."""
    runs = result["figures"]
    members = list(next(iter(runs.values()))["times"])
    lines = []
    for target, unit in ((GAP, "eV"), (ENERGY, "eV/atom")):
        lines += [f"| {target.replace('_', ' ')}, {unit} | " + " | ".join(f"{int(n):,} rows" for n in runs) + " |"]
        lines += ["|" + "---|" * (len(runs) + 1)]
        for name in ("gradient_boosting", *members, "ensemble"):
            values = [_of(run["targets"][target], name) for run in runs.values()]
            shown = name.replace("_", " ") if name not in members else f"`{name}`"
            lines.append(f"| {shown} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
        lines.append("")
    return "\n".join(lines[:-1])


def _of(figures: Figures, name: str) -> float:
    if name == "ensemble":
        return figures["ensemble"]["value"]
    return figures["baselines" if name == "gradient_boosting" else "members"][name]["value"]


def ablations_table(result: Figures) -> str:
    """Validation errors with one thing changed: mean of the seeds, and their range."""
    figures = result["figures"]
    lines = ["| | member | gap, eV | formation energy, eV/atom |", "|---|---|---|---|"]
    for variant, found in figures["variants"].items():
        shown = [_seeds(found["validation_mae"].get(target)) for target in (GAP, ENERGY)]
        lines.append(f"| {variant} | `{found['member']}` | {shown[0]} | {shown[1]} |")
    words = (
        f"{figures['rows']:,} training rows, seeds {', '.join(map(str, figures['seeds']))}; mean (lowest to highest)."
    )
    return "\n".join([*lines, "", words])


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


TABLES = {
    "bench6k": ensemble_table,
    "bench6k_groups": groups_table,
    "curves": curves_table,
    "ablations": ablations_table,
    "mp_36k": ensemble_table,
    "mp_36k_groups": groups_table,
}


def main() -> None:
    """Rewrite docs/accuracy.md in place."""
    results = {}
    for part in ("bench6k", "curves", "ablations", "mp_36k"):
        path = RESULTS / f"accuracy_{part}.json"
        if path.exists():
            results[part] = results[f"{part}_groups"] = json.loads(path.read_text())
    PAGE.write_text(updated(PAGE.read_text(), results))


if __name__ == "__main__":
    main()
