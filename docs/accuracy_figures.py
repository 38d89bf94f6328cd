"""Draw figures/{learning_curves,transfer}.svg from benchmarks/results/: python docs/accuracy_figures.py."""

from typing import Any

from accuracy_table import TRANSFER_SETS, UNIT, curve_point, full_rate, read_results
from drawing import begin, save
from matplotlib import pyplot as plt

ENSEMBLE, BASELINE = "#1f6f8b", "#999999"


def draw_curves(runs: dict[str, Any]) -> None:
    """Errors against training rows: ensemble, members, gradient boosting; one panel a target."""
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    sizes = [int(n) for n in runs]
    for axes, (target, unit) in zip(panels, UNIT.items(), strict=True):
        members = list(next(iter(runs.values()))["times"])
        for name in ("gradient_boosting", *members, "ensemble"):
            errors = [curve_point(run["targets"][target], name) for run in runs.values()]
            style: dict[str, Any] = {"linewidth": 1, "alpha": 0.8}
            if name == "ensemble":
                style = {"linewidth": 2.5, "color": ENSEMBLE, "marker": "o"}
            elif name == "gradient_boosting":
                style = {"linewidth": 1.5, "color": BASELINE, "linestyle": "--"}
            axes.loglog(sizes, errors, label=name.replace("_", " "), **style)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:.2f}")
        axes.set_yticks(_round_ticks(*axes.get_ylim()))
        axes.set_xlabel("training rows")
        axes.set_ylabel(f"{target.removesuffix('_per_atom').replace('_', ' ')} MAE ({unit})")
    panels[1].legend(frameon=False, fontsize=7)
    save(figure, "learning_curves.svg")


def draw_transfer(results: dict[str, Any]) -> None:
    """Formation energy errors against fine-tuning rows, from scratch and from pretrained weights; one panel a set."""
    figure, panels = plt.subplots(1, len(TRANSFER_SETS), figsize=(8, 2.8), layout="constrained")
    target = "formation_energy_per_atom"
    for axes, (name, shown) in zip(panels, TRANSFER_SETS.items(), strict=True):
        for kind, colour, label in (("scratch", BASELINE, "from scratch"), ("pretrained", ENSEMBLE, "pretrained")):
            errors = {int(n): of_n[target] for n, of_n in results[name]["mae"][kind].items()}
            axes.loglog(list(errors), list(errors.values()), "o-", color=colour, label=label)
        axes.set_xticks(list(errors), [f"{size:,}" for size in errors])
        axes.minorticks_off()
        axes.set_yticks(_round_ticks(*axes.get_ylim()))
        axes.yaxis.set_major_formatter("{x:.2f}")
        axes.set_title(shown, fontsize=9)
        axes.set_xlabel("training rows")
    panels[0].set_ylabel("formation energy MAE (eV/atom)")
    panels[0].legend(frameon=False)
    save(figure, "transfer.svg")


def _round_ticks(low: float, high: float) -> list[float]:
    ticks = [0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0]
    return [tick for tick in ticks if low <= tick <= high]


if __name__ == "__main__":
    begin()
    found = read_results()
    if "curves" in found:
        draw_curves(found["curves"]["figures"])
    if "transfer" in found:
        draw_transfer(full_rate(found["transfer"]))
