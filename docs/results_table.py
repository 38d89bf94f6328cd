"""Write the results tables of README.md and docs/relaxation.md: python docs/results_table.py.

Read metrics/*.json and, if they exist, hypothetical.json, relaxation.json and potential_properties.json of
benchmarks/results.
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MARKED = r"(<!-- {name}: begin .*?-->\n).*?(<!-- {name}: end -->)"
TARGETS = {"band_gap": ("band gap", "eV"), "formation_energy_per_atom": ("formation energy", "eV/atom")}
PAGE_NAMES = {"band gap": "PBE band gap"}  # where a page says more than the key of a metric
BASELINES = ("median of training", "mean of training", "gradient boosting on composition")

HYPOTHETICAL = ROOT / "benchmarks" / "results" / "hypothetical.json"
PROPERTIES = ROOT / "benchmarks" / "results" / "potential_properties.json"
RELAXATION = ROOT / "benchmarks" / "results" / "relaxation.json"
RELAXED_ROWS = {
    "combined verdict": "**combined prediction, relaxed cell**",
    "ensemble, relaxed": "ensemble, relaxed cell",
    "ensemble, unrelaxed": "ensemble, unrelaxed cell",
    "published: sevennet_0": "SevenNet-0, published",
    "published: mace_mp_0": "MACE-MP-0, published",
    "published: chgnet_0.3.0": "CHGNet 0.3, published",
    "published: alignn": "ALIGNN, published",
}
PROPERTY_ROWS = {  # by column: what it is compared with, unit, digits, whether its error is relative
    "surface_energy": ("lowest surface of metals, PBE (Tran et al. 2016)", "J/m²", 2, True),
    "average_voltage": ("lithium fully out, measured (Chevrier et al. 2010)", "V", 2, False),
    "volume_change": ("the same, measured", "", 2, False),
    "bulk_modulus_potential": ("Voigt-Reuss-Hill average of the Materials Project", "GPa", 1, True),
}
SAMPLE = "sample"  # the ensemble that `make repro` trains
HYPOTHETICAL_SETS = {
    "wbm": "WBM, unrelaxed cells", "oqmd_perovskites": "OQMD perovskites", "oqmd_heuslers": "OQMD Heuslers",
    "oqmd_diverse": "OQMD, diverse",
}  # fmt: skip
ONE_LOOK = {"voronoi_rf": "Voronoi forest", "megnet": "MEGNet", "alignn": "ALIGNN"}  # see the unrelaxed cell, as we do

Metrics = dict[str, Any]


def updated(page: str, table: str, name: str = "results") -> str:
    """The page's text with `table` between the markers of that name."""
    marked = re.compile(MARKED.format(name=name), re.DOTALL)
    return marked.sub(lambda found: f"{found[1]}{table}{found[2]}", page)


def table_of(ensemble: Metrics, members: Metrics, hypothetical: Metrics | None = None) -> str:
    """Test errors of baselines, members and ensemble as a Markdown table, with a line on the intervals.

    `hypothetical`, the figures on compounds that nobody has made, adds a table of its own.
    """
    heads = " | ".join(f"{PAGE_NAMES.get(name, name)} MAE, {unit}" for name, unit in TARGETS.values())
    lines = [f"| real test crystals, unseen in training | {heads} |", "|---|---|---|"]
    for baseline in BASELINES:
        values = [ensemble[target][f"{baseline}: MAE ({unit})"] for target, (_, unit) in TARGETS.items()]
        lines.append(_line(baseline, values))
    for member, figures in members.items():
        values = [figures[f"{name}: test MAE ({unit})"] for name, unit in TARGETS.values()]
        lines.append(_line(f"member `{member}`", values))
    values = [ensemble[t][f"MAE ({unit})"] for t, (_, unit) in TARGETS.items()]
    lines.append(_line("**ensemble**", values, mark="**"))
    known = "\n".join(lines) + "\n\n" + _words(ensemble) + "\n"
    return known if hypothetical is None else f"{known}\n{hypothetical_table(hypothetical)}"


def hypothetical_table(results: Metrics) -> str:
    """Errors, coverage and calls of stability of the sample's ensemble on hypothetical compounds."""
    sets = results["ensembles"][SAMPLE]["sets"]
    lines = [
        "| compounds that nobody has made | rows | formation energy MAE, eV/atom | bias | in the 90 % interval |",
        "|---|---|---|---|---|",
    ]
    for name, title in HYPOTHETICAL_SETS.items():
        energy, trust = sets[name]["energy"], sets[name]["trust"]
        figures = [f"{energy['rows']:,}", f"{energy['mae']:.3f}", f"{energy['bias']:+.3f}"]
        lines.append(f"| {title} | {' | '.join(figures)} | {100 * trust['coverage_90']:.0f} % |")
    exact, whole = (sets["wbm"]["stability"][grade] for grade in ("exact", "all rows"))
    beside = "; ".join(f"{title} {_calls(results['published'][name]['exact'])}" for name, title in ONE_LOOK.items())
    words = (
        f"Stable or unstable: on the {exact['rows']} rows of WBM with an exact hull the ensemble reaches F1 / "
        f"DAF {_calls(exact)}. Published predictions of the same rows reach: {beside}. On all rows, weighted as on the "
        f"leaderboard of Matbench Discovery, it reaches {whole['f1_reweighted']:.2f} / {whole['daf_reweighted']:.1f}. "
        "[What this means for a new compound](docs/hypothetical.md)."
    )
    return "\n".join(lines) + f"\n\n{words}\n"


def relaxation_table(results: Metrics) -> str:
    """WBM's compounds relaxed and judged as the stage `relax` does, beside published models on the same rows."""
    lines = ["| | F1 | DAF | MAE, eV/atom | bias |", "|---|---|---|---|---|"]
    for key, title in RELAXED_ROWS.items():
        score = results["scores"][key]
        lines.append(
            f"| {title} | {score['f1']:.2f} | {score['daf']:.1f} | {score['mae']:.3f} | {score['bias']:+.3f} |"
        )
    matched, known = results["relaxed_cells_that_match_dft"]
    covered = 100 * results["coverage_90_of_the_verdict"]
    words = (
        f"{results['rows']} rows of WBM with an exact hull, {results['failed']} of them not relaxed. The 90 % "
        f"intervals of the combined prediction contain {covered:.0f} % of the DFT energies. Of {known} rows whose "
        f"relaxed DFT cell is known, {matched} relaxed to that structure."
    )
    return "\n".join(lines) + f"\n\n{words}\n"


def properties_table(results: Metrics) -> str:
    """Errors of properties by the potential, each beside cited values, and the voltages one by one."""
    lines = ["| column | compared with | crystals | mean error | mean absolute error | root mean square |"]
    lines += ["|---|---|---|---|---|---|"]
    for column, (reference, unit, digits, relative) in PROPERTY_ROWS.items():
        if (found := results.get(column)) is None:
            continue
        bias, mae = (f"{found[key]:+.{digits}f} {unit}".strip() for key in ("bias", "mae"))
        rms = f"{100 * found['rms_relative']:.0f} %" if relative else f"{found['rms']:.{digits}f} {unit}".strip()
        lines.append(f"| `{column}` | {reference} | {found['n']} | {bias} | {mae.removeprefix('+')} | {rms} |")
    one_by_one = "; ".join(
        f"{formula} {values['computed']:.2f} V (measured {values['cited']:.1f}), volume "
        f"{100 * results['volume_change']['of'][formula]['computed']:+.0f} % "
        f"({100 * results['volume_change']['of'][formula]['cited']:+.0f} %)"
        for formula, values in results["average_voltage"]["of"].items()
    )
    name, seconds = results["potential"]["name"], results["processor_seconds"]
    return "\n".join(lines) + f"\n\nBy {name}, {seconds} s of one core. {one_by_one}.\n"


def _calls(figures: Metrics) -> str:
    return f"{figures['f1']:.2f} / {figures['daf']:.1f}"


def _line(name: str, values: list[float], mark: str = "") -> str:
    return f"| {name} | " + " | ".join(f"{mark}{value:.3f}{mark}" for value in values) + " |"


def _words(ensemble: Metrics) -> str:
    parts = []
    for target, (key, unit) in TARGETS.items():
        name = PAGE_NAMES.get(key, key)
        figures = ensemble[target]
        low, high = (figures[f"MAE, 95 % interval {end} ({unit})"] for end in ("from", "to"))
        cover = figures["coverage of 90 % intervals"]
        parts.append(
            f"For the {name} ({figures['test crystals']} crystals), the 95 % bootstrap interval of the ensemble's "
            f"MAE is {low:.3f} to {high:.3f} {unit}, and the 90 % intervals contain {100 * cover:.0f} % of the labels."
        )
    return f"Measured by `make repro` on the bundled sample. {' '.join(parts)}"


def read_figures() -> tuple[Metrics, Metrics, Metrics | None]:
    """The arguments of `table_of`, from their files."""
    ensemble, members = (
        json.loads((ROOT / "metrics" / f"{name}.json").read_text()) for name in ("ensemble", "members")
    )
    hypothetical = json.loads(HYPOTHETICAL.read_text()) if HYPOTHETICAL.is_file() else {"ensembles": {}}
    return ensemble, members, hypothetical if SAMPLE in hypothetical["ensembles"] else None


def main() -> None:
    """Rewrite the pages in place."""
    readme, relaxation = ROOT / "README.md", ROOT / "docs" / "relaxation.md"
    readme.write_text(updated(readme.read_text(), table_of(*read_figures())))
    page = updated(relaxation.read_text(), properties_table(json.loads(PROPERTIES.read_text())))
    relaxation.write_text(updated(page, relaxation_table(json.loads(RELAXATION.read_text())), "wbm"))


if __name__ == "__main__":
    main()
