"""Write the tables of docs/performance.md from benchmarks/results/*.json: python docs/performance_table.py."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
# measured by others on other machines (two cores): to be read beside our figures, not divided by them
PEERS = {
    "graphs": "original CGCNN 63 (CIF, k = 12), ALIGNN 633, matgl 6,408 (4 Å), CHGNet 193",
    "cgcnn": "original CGCNN 1,698 and 229",
    "megnet": "matgl MEGNet 1,075 and 463",
    "alignn": "ALIGNN 38 and 7",
}
UNITS = {"band_gap": "eV", "formation_energy_per_atom": "eV/atom"}

RESULT_OF = {
    "screening": "screening_scale",
    "batches": "batch_sizes",
    "parts": "bounds",
}  # where the table has another name

Results = dict[str, Any]


def updated(page: str, results: Results) -> str:
    """The page with each marked table made anew from the results it needs; tables without results stay."""

    def table(found: re.Match[str]) -> str:
        if RESULT_OF.get(found[2], found[2]) not in results:
            return found[0]
        return f"{found[1]}{TABLES[found[2]](results)}\n{found[3]}"

    return MARKED.sub(table, page)


def graphs_table(results: Results) -> str:
    """Cell to graph, per core, against pymatgen's neighbour list in the same run."""
    lines = ["| cells | k | crystals/s, one core | ratio to pymatgen's list at 8 Å |", "|---|---|---|---|"]
    for key, cells in (("all_cells", "bench6k, mean 18 atoms"), ("cells_of_8_to_12_atoms", "of these, 8 to 12 atoms")):
        figures = results["graphs"][key]
        for k in (12, 24):
            rate, ratio = figures[f"asymmetric_unit_k{k}"], figures[f"asymmetric_unit_k{k}_over_pymatgen"]
            lines.append(f"| {cells} | {k} | {rate:,.0f} | {ratio:.1f} |")
    store = results["graphs"]["store"]
    size, whole = store["bytes_per_crystal_k24"] / 1000, store["gigabytes_for_230000"]
    words = (
        f"The graph store takes {size:.1f} kB per crystal at k = 24, so {whole:.2f} GB for 230,000. Batches of 64 are "
        f"assembled at {store['batch_64_crystals_per_s']:,.0f} crystals/s. Other codes, crystals/s: {PEERS['graphs']}."
    )
    return "\n".join([*lines, "", words])


def models_table(results: Results) -> str:
    """Inference and training of each member, of all, and of the published layer in the same run."""
    models = results["models"]
    head = "| | weights | inference, crystals/s | training, crystals/s | other codes, inference and training |"
    lines = [head, "|---|---|---|---|---|"]
    for name, figures in models["members"].items():
        rates = f"{figures['inference_per_s']:,} | {figures['training_per_s']:,}"
        lines.append(f"| `{name}` | {figures['n_parameters']:,} | {rates} | {PEERS.get(name, '')} |")
    lines.append(f"| all six, one after the other | | {models['ensemble']['inference_per_s']:,} | | |")
    published = " | ".join(f"{models['published_cgcnn'][key]:,}" for key in ("inference_per_s", "training_per_s"))
    lines.append(f"| the published CGCNN in plain torch | | {published} | |")
    over, setting = models["cgcnn_over_published"], models["setting"]
    words = (
        f"Speed of `cgcnn` relative to the published layer: inference {over['inference_per_s']}, training "
        f"{over['training_per_s']}. {setting['crystals']:,} cells of {setting['cells']}, {setting['threads']} threads, "
        f"{setting['cpu']}, torch {setting['torch']}."
    )
    return "\n".join([*lines, "", words])


def subnormals_table(results: Results) -> str:
    """Each member by what its numbers and its passes over edges are, inference and training."""
    subnormals = results["subnormals"]
    columns = {
        "tails": "full Gaussians",
        "tails_flushed": "full, subnormals flushed to zero",
        "plain": "Gaussians cut off at four steps",
        "kernels": "cut off, with kernels",
    }
    lines = [f"| inference / training | {' | '.join(columns.values())} |", "|---" * (1 + len(columns)) + "|"]
    for name, found in subnormals["members"].items():
        rates = [f"{found['inference_per_s'][key]:,} / {found['training_per_s'][key]:,}" for key in columns]
        lines.append(f"| `{name}` | {' | '.join(rates)} |")
    together = [f"{subnormals['ensemble_inference_per_s'][key]:,}" for key in columns]
    lines.append(f"| all six, one after the other | {' | '.join(together)} |")
    setting = subnormals["setting"]
    words = f"{setting['crystals']:,} cells of {setting['cells']}, one thread, {_cpu({'machine': setting})}."
    return "\n".join([*lines, "", words])


def screening_table(results: Results) -> str:
    """The stages from candidates to a ranked list, by number of candidates."""
    lines = [
        "| candidates | stage | wall time, s | processor time, s | processor ms per crystal | peak memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    runs = results["screening_scale"]["runs"]
    for run in runs:
        for stage, each in run["milliseconds_per_crystal"].items():
            took = run[stage]
            lines.append(
                f"| {run['n_candidates']:,} | `{stage}` | {took['seconds']:,} | {took['processor_seconds']:,} "
                f"| {each} | {took['peak_memory_mb']:,} |"
            )
    machines = {words: None for run in runs if (words := _machine_of(run))}
    return "\n".join([*lines, *(f"\n{words}" for words in machines)])


def _machine_of(run: Results) -> str:
    """Where a run was made, as far as it says so."""
    if not (machine := run.get("machine")):
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in machine.items() if name != "cpu")
    load = " to ".join(f"{value:g}" for value in run["screen"]["load_average"])
    return f"{run['n_candidates']:,}: {machine['cpu']}, {versions}; load average while screening {load}."


def precision_table(results: Results) -> str:
    """What bfloat16 and the compiler would bring, and cost."""
    head = "| | bfloat16: speed, largest shift | compiled: speed, largest shift | compiling, s; pays from crystals |"
    lines = [head, "|---|---|---|---|"]
    for name, ways in results["precision"]["members"].items():
        cells = [f"{ways[way]['over_float32']}, {_largest(ways[way]):.1e}" for way in ("bfloat16", "compiled")]
        cost, pays = (ways["compiled"].get(key) for key in ("compile_processor_s", "pays_from_crystals"))
        cells.append("not measured" if cost is None else f"{cost}; {'never' if pays is None else f'{pays:,}'}")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def cascade_table(results: Results) -> str:
    """What a first look by one member gains and loses, by the share that the ensemble then judges."""
    members = results["cascade"]["members"]
    keeps = sorted(next(iter(members.values())), key=float)
    lines = [f"| fast member | {' | '.join(f'keep {float(keep):.0%}' for keep in keeps)} |"]
    lines += ["|---" * (len(keeps) + 1) + "|"]
    for name, by_keep in members.items():
        kept = [by_keep[keep] for keep in keeps]
        cells = [f"{k['crystals_per_processor_second']:,}, {k['recall_of_top_1_percent']:.3f}" for k in kept]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    setting = results["cascade"]["setting"]
    lines += ["", f"{setting['candidates']:,} candidates; {setting['obey_element_rules']:,} obey the element rules."]
    for name, told in setting["distilled"].items():
        differences = told["teacher"]["differences"]
        words = " and ".join(f"{found:.3f} {UNITS[target]}" for target, found in sorted(differences.items()))
        taught = told["teacher"]["crystals"]["taught"]
        lines.append(
            f"`{name}` has {told['n_parameters']:,} weights, was trained on {taught:,} crystals, and differs from the "
            f"ensemble by {words} on average on held-out crystals. {_cpu({'machine': setting})}."
        )
    return "\n".join(lines)


def bounds_table(results: Results) -> str:
    """How far each encoder is from its arithmetic, and what takes the time."""
    bounds = results["bounds"]
    kinds = list(next(iter(bounds["members"].values()))["shares"])
    head = "| | MFLOP per crystal | crystals/s, one core | matrix products alone, crystals/s |"
    lines = [f"{head} {' | '.join(kinds)} |", "|---" * (4 + len(kinds)) + "|"]
    for name, found in bounds["members"].items():
        rates = (found["crystals_per_s_of_one_core"], found["floor_per_s_of_one_core"])
        shares = " | ".join(f"{found['shares'][kind]:.0%}" for kind in kinds)
        lines.append(f"| `{name}` | {found['megaflop_per_crystal']} | {rates[0]:,} | {rates[1]:,} | {shares} |")
    words = f"A large matrix product runs at {bounds['gflops_of_one_core']} GFLOP/s on one core here ({_cpu(bounds)})."
    return "\n".join([*lines, "", words])


def parts_table(results: Results) -> str:
    """Where the seconds of one screening go."""
    screened = results["bounds"]["screen"]
    total = sum(screened["seconds"].values())
    lines = [f"| {screened['n']:,} candidates | wall time, s | share |", "|---|---|---|"]
    lines += [f"| {part} | {took:.1f} | {took / total:.0%} |" for part, took in screened["seconds"].items()]
    return "\n".join([*lines, f"| together | {total:.1f} | |", "", f"{_cpu(results['bounds'])}."])


def _cpu(result: Results) -> str:
    return f"{result['machine']['cpu']}, torch {result['machine']['torch']}"


def batches_table(results: Results) -> str:
    """Crystals per second of one core by edges per batch."""
    rates = results["batch_sizes"]["crystals_per_s"]
    sizes = sorted(next(iter(rates.values())), key=int)
    lines = [f"| edges per batch | {' | '.join(f'{int(size):,}' for size in sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    lines += [f"| `{name}` | {' | '.join(f'{row[size]:,}' for size in sizes)} |" for name, row in rates.items()]
    return "\n".join(lines)


def _largest(way: dict[str, Any]) -> float:
    return max(shift["largest_shift"] for shift in way.values() if isinstance(shift, dict))


def threads_table(results: Results) -> str:
    """Seconds of a training on one thread and on several, alone and beside a busy process."""
    found = results["threads"]
    lines = ["| | alone, s | beside a busy process, s | times as long |", "|---|---|---|---|"]
    for way, seconds in found["seconds"].items():
        alone, beside = seconds["alone"], seconds["beside a busy process"]
        lines.append(f"| {way} | {alone:.1f} | {beside:.1f} | {beside / alone:.2f} |")
    words = (
        f"`{found['member']}`, {found['epochs']} epochs of the sample, the slowest of those that run at once, "
        f"{found['cores']} cores, {found['cpu']}, torch {found['torch']}."
    )
    return "\n".join([*lines, "", words])


def relaxing_table(results: Results) -> str:
    """What a relaxation costs, by number of atoms."""
    figures = results["relaxing"]
    lines = ["| atoms | candidates | mean atoms | steps | processor, s |", "|---|---|---|---|---|"]
    for size, row in sorted(figures["by_size"].items(), key=lambda item: item[1]["atoms"]):
        cells = f"{row['candidates']:.0f} | {row['atoms']:.1f} | {row['steps']:.1f} | {row['seconds']:.2f}"
        lines.append(f"| {size} | {cells} |")
    words = (
        f"{figures['per_hour_and_core']:,} candidates per hour and core with {figures['potential']}. The time of a "
        f"step grows as the number of atoms to the power {figures['growth_of_a_step_with_atoms']:.2f}. "
        f"{figures['cpu']}, torch {figures['torch']}."
    )
    return "\n".join([*lines, "", words])


TABLES = {
    "graphs": graphs_table,
    "models": models_table,
    "subnormals": subnormals_table,
    "screening": screening_table,
    "bounds": bounds_table,
    "parts": parts_table,
    "precision": precision_table,
    "batches": batches_table,
    "cascade": cascade_table,
    "threads": threads_table,
    "relaxing": relaxing_table,
}


def read_results() -> Results:
    """All results by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(), read_results()))
