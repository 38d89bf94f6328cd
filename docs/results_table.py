"""Write the results table of README.md from metrics/*.json: python docs/results_table.py."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r"(<!-- results: begin .*?-->\n).*?(<!-- results: end -->)", re.DOTALL)
TARGETS = {"band_gap": ("band gap", "eV"), "formation_energy_per_atom": ("formation energy", "eV/atom")}
BASELINES = ("median of training", "mean of training", "gradient boosting on composition")

Metrics = dict[str, Any]


def updated(readme: str, table: str) -> str:
    """The README's text with `table` between the markers."""
    return MARKED.sub(lambda found: f"{found[1]}{table}{found[2]}", readme)


def table_of(ensemble: Metrics, members: Metrics) -> str:
    """Test errors of baselines, members and ensemble as a Markdown table, with a line on the intervals."""
    heads = " | ".join(f"{name} MAE, {unit}" for name, unit in TARGETS.values())
    lines = [f"| on real test crystals that no model saw | {heads} |", "|---|---|---|"]
    for baseline in BASELINES:
        values = [ensemble[target][f"{baseline}: MAE ({unit})"] for target, (_, unit) in TARGETS.items()]
        lines.append(_line(baseline, values))
    for member, figures in members.items():
        values = [figures[f"{name}: test MAE ({unit})"] for name, unit in TARGETS.values()]
        lines.append(_line(f"member `{member}`", values))
    values = [ensemble[t][f"MAE ({unit})"] for t, (_, unit) in TARGETS.items()]
    lines.append(_line("**ensemble**", values, mark="**"))
    return "\n".join(lines) + "\n\n" + _words(ensemble) + "\n"


def _line(name: str, values: list[float], mark: str = "") -> str:
    return f"| {name} | " + " | ".join(f"{mark}{value:.3f}{mark}" for value in values) + " |"


def _words(ensemble: Metrics) -> str:
    parts = []
    for target, (name, unit) in TARGETS.items():
        figures = ensemble[target]
        low, high = (figures[f"MAE, 95 % interval {end} ({unit})"] for end in ("from", "to"))
        cover = figures["coverage of 90 % intervals"]
        parts.append(
            f"{name}: {figures['test crystals']} crystals, ensemble MAE between {low:.3f} and {high:.3f} {unit} "
            f"(95 % bootstrap), 90 % intervals hold {100 * cover:.0f} % of them"
        )
    return f"Measured by `make repro` on the bundled sample: {'; '.join(parts)}."


def main() -> None:
    """Rewrite README.md in place."""
    ensemble, members = (
        json.loads((ROOT / "metrics" / f"{name}.json").read_text()) for name in ("ensemble", "members")
    )
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text(), table_of(ensemble, members)))


if __name__ == "__main__":
    main()
