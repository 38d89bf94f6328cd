"""The text of `matscout results`: where the results are, and a short summary."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from matscout import layout
from matscout.errors import InputError
from matscout.params import PARAMS_FILE

PLACES = (
    ("report", str(layout.REPORT), "open it in a browser"),
    ("ranked candidates", str(layout.RANKED), "best first; crystals as CIF in data/screening/cif/"),
    ("metrics", "metrics/ensemble.json", "all of them: dvc metrics show"),
    ("members", str(layout.MEMBERS), "compare them: matscout compare"),
)
NEXT_STEPS = (
    ("another goal", "dvc exp run -S screening.goal=thermoelectric"),
    ("another learning rate", "dvc exp run -S model.lr=0.001"),
    ("your own crystals", "matscout predict my.cif"),
    ("hand the best to DFT", "matscout export --top 20 -o handoff/"),
    ("the curves", "dvc plots show"),
)


def lines_of_results(root: Path) -> Iterator[str]:
    """Where the results are, the main figures, and what to run next.

    Args:
        root: root of the repository.

    Yields:
        Lines of text for the terminal.

    Raises:
        InputError: `root` is not a repository, or a result is missing; the message names it and its command.
    """
    if not (root / PARAMS_FILE).is_file():
        raise InputError(f"{root / PARAMS_FILE} not found: run from the repository root")
    missing = [path for _, path, _ in PLACES if not (root / path).exists()]
    if missing:
        raise InputError(f"not made yet: {', '.join(missing)}; run `make repro`, or `dvc pull` if a cache is shared")
    yield "Results"
    for name, path, hint in PLACES:
        yield f"  {name:18} {path:32} {hint}"
    yield "Figures"
    yield from _figures(root)
    yield "Next (after: . .venv/bin/activate)"
    for name, command in NEXT_STEPS:
        yield f"  {name:22} {command}"
    if is_to_commit(root):
        yield "Commit this run: git add -A && git commit -m 'First run'"
        yield "  dvc.lock lists the files that this machine made; another processor rounds differently. Going back to"
        yield "  an older dvc.lock (git checkout, dvc checkout) replaces your files with those that it lists."


def is_to_commit(root: Path) -> bool:
    """Whether dvc.lock or the metrics differ from those of the last commit; False without Git."""
    git = shutil.which("git")
    if git is None:
        return False
    command = [git, "-C", str(root), "status", "--porcelain", "--", "dvc.lock", "metrics"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- fixed arguments
    return answer.returncode == 0 and bool(answer.stdout.strip())


def _figures(root: Path) -> Iterator[str]:
    """One line per target, and one of the screen."""
    ensemble, screening = (
        json.loads((root / f"metrics/{name}.json").read_text()) for name in ("ensemble", "screening")
    )
    for target, figures in ensemble.items():
        key = next(name for name in figures if name.startswith("MAE ("))
        best = figures[f"best member: {key}"]
        text = f"{figures[key]:.3f} on {figures['test crystals']} real test crystals (best single member {best:.3f})"
        yield f"  {target:26} {key} {text}"
    found = f"{screening['candidates']} candidates, {screening['meet the goal']} meet the goal"
    yield f"  {'screened':26} {found}, {screening['on the Pareto front']} on the Pareto front"
