"""Draw figures/curation_*.svg from benchmarks/results/curation.json: python docs/curation_figures.py."""

import json
from pathlib import Path
from typing import Any

from drawing import begin, save
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "curation.json"


def draw_offsets(offsets: dict[str, Any]) -> None:
    """Offsets of the elements of most pairs with their joint intervals; errors before and after."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), width_ratios=(2, 1), layout="constrained")
    entries = offsets["elements_of_most_pairs"]
    values = [1000 * entry["offset"] for entry in entries.values()]
    down = [value - 1000 * entry["low95"] for value, entry in zip(values, entries.values(), strict=True)]
    up = [1000 * entry["high95"] - value for value, entry in zip(values, entries.values(), strict=True)]
    left.errorbar(range(len(values)), values, yerr=[down, up], fmt="o", color="#1f6f8b", capsize=2)
    left.axhline(0, color="#999999", linewidth=0.8)
    left.set_xticks(range(len(values)), list(entries))
    left.set_ylabel("OQMD − Materials Project\n(meV per atom of the element)")
    held_out = offsets["held_out"]
    names = {"mae_before": "before", "mae_after_constant": "constant", "mae_after": "offsets"}
    right.bar(list(names.values()), [1000 * held_out[key] for key in names], color=["#bbbbbb", "#8fb8c6", "#1f6f8b"])
    right.set_ylabel("held-out MAE (meV/atom)")
    save(figure, "curation_offsets.svg")


def draw_scale(runs: list[dict[str, Any]]) -> None:
    """Processor time against the number of structures, with a line of slope one."""
    figure, axes = plt.subplots(figsize=(4.5, 3), layout="constrained")
    sizes = [run["structures"] for run in runs]
    minutes = [run["processor_s"] / 60 for run in runs]
    axes.loglog(sizes, minutes, "o-", color="#1f6f8b", label="measured")
    axes.loglog(sizes, [minutes[0] * size / sizes[0] for size in sizes], ":", color="#999999", label="linear")
    axes.set_xlabel("structures")
    axes.set_ylabel("processor time (minutes)")
    axes.legend(frameon=False)
    save(figure, "curation_scale.svg")


if __name__ == "__main__":
    begin()
    results = json.loads(RESULTS.read_text())
    if "offsets" in results:
        draw_offsets(results["offsets"])
    if "scale" in results:
        draw_scale(results["scale"])
