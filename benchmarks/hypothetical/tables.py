"""The figures of benchmarks/results/hypothetical.json as Markdown, and docs/hypothetical.md with them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.hypothetical.rows import CASTELLI, DEFAULT_ROWS, GRADES, TITLES, WBM
from benchmarks.hypothetical.scores import UNIQUE_PROTOTYPES_STABLE
from benchmarks.shared_rows import ROOT

PAGE = ROOT / "docs" / "hypothetical.md"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
KNOWN = "known"
SHOWN = {KNOWN: "known compounds, test rows"} | {name: title for name, title in TITLES.items() if name != CASTELLI}
MODELS = {
    "voronoi_rf": "Voronoi random forest", "megnet": "MEGNet", "megnet_rs2re": "MEGNet RS2RE", "alignn": "ALIGNN",
    "bowsr_megnet": "BOWSR + MEGNet", "m3gnet": "M3GNet", "chgnet_0.3.0": "CHGNet 0.3", "mace_mp_0": "MACE-MP-0",
    "sevennet_0": "SevenNet-0", "alchembert": "AlchemBERT", "esnet": "ESNet", "orb_mptrj": "ORB MPtrj",
}  # fmt: skip
UNRELAXED = "unrelaxed"
# which cell a published model judged, where it is not the unrelaxed one
CELLS = dict.fromkeys(
    ("bowsr_megnet", "m3gnet", "chgnet_0.3.0", "mace_mp_0", "sevennet_0", "orb_mptrj"), "relaxed by itself"
) | {"megnet_rs2re": "relaxed by DFT"}

# F1 and DAF of all unique prototypes, from the models' files in github.com/janosh/matbench-discovery
LEADERBOARD = {
    "voronoi_rf": (0.333, 1.579), "megnet": (0.510, 2.959), "alignn": (0.567, 3.206), "bowsr_megnet": (0.423, 1.964),
    "m3gnet": (0.569, 2.882), "chgnet_0.3.0": (0.613, 3.361), "mace_mp_0": (0.669, 3.777), "sevennet_0": (0.724, 4.252),
    "alchembert": (0.421, 2.001), "esnet": (0.572, 3.498), "orb_mptrj": (0.765, 4.702),
}  # fmt: skip

Figures = dict[str, Any]


def write_page(results: Figures, page: Path = PAGE) -> None:
    """Each marked table of the page made anew."""
    text = page.read_text(encoding="utf-8")
    page.write_text(MARKED.sub(lambda at: f"{at[1]}{TABLES[at[2]](results)}\n{at[3]}", text), encoding="utf-8")


def stability_table(results: Figures) -> str:
    """Stability of WBM: ours and the published models, best first."""
    ranked = _models(results)
    published = {MODELS.get(name, name): figures for name, figures in LEADERBOARD.items()}
    head = ["", "cell", "F1 (95 %), exact hull", "DAF", "precision", "recall", "all rows reweighted: F1, DAF"]
    head += ["leaderboard: F1, DAF", "all rows: MAE", "bias", "R²"]
    lines = []
    for name, cell, found in ranked:
        exact, whole = found["exact"], found["all rows"]
        f1 = f"{_number(exact['f1'])} ({_number(exact['f1_low'])} to {_number(exact['f1_high'])})"
        reweighted = f"{_number(whole['f1_reweighted'])}, {_number(whole['daf_reweighted'], 2)}"
        board = f"{published[name][0]:.3f}, {published[name][1]:.2f}" if name in published else ""
        calls = [f1, _number(exact["daf"], 2), _number(exact["precision"]), _number(exact["recall"])]
        lines.append([name, cell, *calls, reweighted, board, *(_number(whole[key]) for key in ("mae", "bias", "r2"))])
    exact, whole = ranked[0][2]["exact"], ranked[0][2]["all rows"]
    words = (
        f"Exact hull: {exact['rows']:,} rows, {_percent(exact['prevalence'])} of them stable, so that DAF is at most "
        f"{1 / exact['prevalence']:.1f}. All rows: {whole['rows']:,}, most of them relative to a reconstructed hull, "
        f"{_percent(whole['prevalence'])} stable; reweighted to the {100 * UNIQUE_PROTOTYPES_STABLE:.1f} % of all "
        f"unique prototypes, DAF at most {1 / UNIQUE_PROTOTYPES_STABLE:.1f}. MAE and bias, eV/atom, need no hull."
    )
    return "\n".join([*_table(head, lines), "", words])


def grades_table(results: Figures) -> str:
    """F1 and DAF by how the energy above the hull is known."""
    ranked = _models(results)
    grades = [grade for grade in GRADES if grade in ranked[0][2]]
    head = ["F1 / DAF / MAE", *(f"{grade}, {ranked[0][2][grade]['rows']:,} rows" for grade in grades)]
    lines = [
        [name, *(f"{_number(of[g]['f1'], 2)} / {_number(of[g]['daf'], 1)} / {_number(of[g]['mae'])}" for g in grades)]
        for name, _, of in ranked
    ]
    return "\n".join(_table(head, lines))


def energies_table(results: Figures) -> str:
    """Error and error bars of the formation energy on each set."""
    head = ["formation energy, eV/atom", "ensemble", "rows", "MAE", "bias", "inside the 90 % interval", "mean width"]
    head += ["errors above 0.2", "flagged far", "AUC: flag", "distance", "spread"]
    lines = []
    for name, title, ensemble, found in _each_set(results):
        energy, trust = found["energy"], found["trust"]
        auc = trust["auc_of_large_errors"]
        lines.append(
            [title, ensemble, _rows(results, name, energy["rows"]), _number(energy["mae"]), _number(energy["bias"])]
            + [_percent(trust["coverage_90"]), _number(trust["width_90"], 2), _percent(trust["share_of_large_errors"])]
            + [_percent(trust["flagged"])]
            + [_number(auc[key], 2) for key in ("far_from_training", "training_distance", "std")]
        )
    words = (
        "AUC: how well the flag, the distance from the training set and the predicted spread separate errors above "
        "0.2 eV/atom from the others (0.5: not at all, 1: perfectly)."
    )
    return "\n".join([*_table(head, lines), "", words])


def gaps_table(results: Figures) -> str:
    """Error of the band gap beside calling everything a metal."""
    head = ["band gap, eV", "ensemble", "rows", "MAE", "MAE if all are predicted metals", "bias", "metals"]
    head += ["AUC metal or not", "metals predicted as metals", "non-metals predicted as metals"]
    lines = []
    for _, title, ensemble, found in _each_set(results):
        if "gap" in found:
            gap = found["gap"]
            errors = [_number(gap[key]) for key in ("mae", "mae_if_all_metal", "bias")]
            called = [_percent(gap[key]) for key in ("metals_called_metal", "others_called_metal")]
            metals = [_percent(gap["metals"]), _number(gap["metal_auc"])]
            lines.append([title, ensemble, f"{gap['rows']:,}", *errors, *metals, *called])
    return "\n".join(_table(head, lines))


def kinds_table(results: Figures) -> str:
    """WBM by anion: mean error and bias of each ensemble."""
    of = {name: found["sets"][WBM]["kinds"] for name, found in results["ensembles"].items()}
    sizes = {kind: found["rows"] for kind, found in next(iter(of.values())).items()}
    head = ["WBM: MAE, bias in eV/atom", "rows", *of]
    lines = [
        [kind, f"{rows:,}", *(f"{_number(each[kind]['mae'])}, {_number(each[kind]['bias'])}" for each in of.values())]
        for kind, rows in sorted(sizes.items(), key=lambda item: -item[1])
    ]
    return "\n".join(_table(head, lines))


def castelli_table(results: Figures) -> str:
    """Agreement with labels of another functional and other references."""
    head = [TITLES[CASTELLI], "rows", "correlation", "rank correlation", "MAE after one offset"]
    head += ["after an offset per element", "offsets alone, no estimate"]
    lines = []
    for ensemble, found in results["ensembles"].items():
        energy = found["sets"][CASTELLI]["energy"]
        keys = ("correlation", "rank_correlation", "mae_one_offset", "mae_offset_per_element", "mae_offsets_alone")
        lines.append([ensemble, f"{energy['rows']:,}", *(_number(energy[key]) for key in keys)])
    return "\n".join(_table(head, lines))


def how(results: Figures) -> str:
    """The command and the members behind the tables."""
    members = "; ".join(f"{name}: {', '.join(each['members'])}" for name, each in results["ensembles"].items())
    made = f"`{results['command']}`, {results['device']}, torch {results['versions']['torch']}"
    return f"Command: {made}. Members, {members}."


def text_of(results: Figures) -> str:
    """All tables."""
    return "\n\n".join(table(results) for table in TABLES.values())


TABLES: dict[str, Callable[[Figures], str]] = {
    "stability": stability_table,
    "energies": energies_table,
    "gaps": gaps_table,
    "kinds": kinds_table,
    "castelli": castelli_table,
    "grades": grades_table,
    "how": how,
}


def _models(results: Figures) -> list[tuple[str, str, Figures]]:
    """Name, cell that is judged, and stability by grade: ours and the published models, best F1 first."""
    ours = [(f"**{name}**", UNRELAXED, found["sets"][WBM]["stability"]) for name, found in results["ensembles"].items()]
    others = [
        (MODELS.get(name, name), CELLS.get(name, UNRELAXED), found) for name, found in results["published"].items()
    ]
    return sorted([*ours, *others], key=lambda model: -(model[2]["exact"]["f1"] or 0))


def _each_set(results: Figures) -> list[tuple[str, str, str, Figures]]:
    """Key, title, ensemble and figures, the ensembles of one set below each other."""
    return [
        (key, title, ensemble, found["sets"][key])
        for key, title in SHOWN.items()
        for ensemble, found in results["ensembles"].items()
        if key in found["sets"]
    ]


def _rows(results: Figures, name: str, rows: int) -> str:
    available = results["rows"].get(name, {}).get("available", rows)
    return f"{rows:,} of {available:,}" if name in DEFAULT_ROWS and rows < available else f"{rows:,}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)]


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
