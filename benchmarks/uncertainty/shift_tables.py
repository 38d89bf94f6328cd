"""Tables of what the error bars are worth elsewhere than where they were calibrated."""

from typing import Any

from benchmarks.uncertainty.markdown import table

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
