"""The texts of `matscout results` and `matscout compare`.

`results` says where the results are and sums them up. `compare` shows the workspace, revisions of Git and experiments
of DVC, with their members, in one table. It reads `metrics/` and `params.yaml`, which Git holds: of a revision as
committed, of an experiment as DVC keeps it in `refs/exps`. No data need be there.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from matscout import columns, layout
from matscout.errors import InputError
from matscout.params import PARAMS_FILE

if TYPE_CHECKING:
    import pandas as pd

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
    ("DFT input files", "matscout export --top 20 -o handoff/"),
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


WORKSPACE: Final = "workspace"
ENSEMBLE: Final = "ensemble"
EXPERIMENT: Final = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(?P<name>\S+)")
METRICS: Final = ("metrics/ensemble.json", "metrics/members.json")
MAE: Final = re.compile(r"(?:(?P<target>.+): test )?MAE \((?P<unit>[^)]+)\)")
CHANGES_SHOWN: Final = 3


@dataclass(frozen=True)
class Variant:
    """What one run left in Git.

    Attributes:
        name: `workspace`, a revision, or an experiment.
        ensemble: content of metrics/ensemble.json.
        members: content of metrics/members.json.
        params: by dotted path, the values of params.yaml.
    """

    name: str
    ensemble: Mapping[str, Any]
    members: Mapping[str, Any]
    params: Mapping[str, Any]


def compare(names: Sequence[str] = (), *, members: bool = True, root: Path = Path()) -> "pd.DataFrame":
    """One row a model: of each variant the ensemble, then its members.

    Args:
        names: revisions of Git and names of experiments; none = the last commit and its experiments.
        members: whether the members have rows too.
        root: of the repository.

    Returns:
        Text: the variant, the model, the mean absolute error on test crystals and the coverage of the 90 % intervals
        by target, epochs, and which parameters differ from those of the last commit.

    Raises:
        InputError: no Git repository here, an unknown name, or no variant with metrics.
    """
    experiments = _experiments(root)
    unknown = [name for name in names if name not in experiments and not _is_revision(root, name)]
    if unknown:
        known = f"; experiments: {', '.join(experiments)}" if experiments else ""
        raise InputError(f"{unknown[0]!r} is neither a revision of Git nor an experiment of DVC{known}")
    asked = {name: experiments.get(name, name) for name in names} or {"HEAD": "HEAD", **experiments}
    found = [_variant(root, WORKSPACE, None), *(_variant(root, name, revision) for name, revision in asked.items())]
    base = _variant(root, "HEAD", "HEAD")
    variants = [variant for variant in found if variant is not None]
    variants = [v for v in variants if v.name != "HEAD" or names or _differs(v, variants[0])]
    if not variants:
        raise InputError(f"no variant has {METRICS[0]}; run `make repro`, and commit the run")
    rows = [row for variant in variants for row in _rows(variant, base, members=members)]
    import pandas as pd  # `matscout results` starts without

    return pd.DataFrame(rows).fillna("")


def _differs(one: Variant, other: Variant) -> bool:
    return (one.ensemble, one.members, one.params) != (other.ensemble, other.members, other.params)


def _rows(variant: Variant, base: Variant | None, *, members: bool) -> list[dict[str, str]]:
    """The ensemble's row, then one for each member, best first at the first target."""
    titles = {target: title for target, figures in variant.ensemble.items() if (title := _title(target, figures))}
    row = {"variant": variant.name, "model": ENSEMBLE}
    for target, title in titles.items():
        figures = variant.ensemble[target]
        row[title] = f"{_mae(figures):.3f}"
        if coverage := figures.get("coverage of 90 % intervals"):
            row[title] += f" ({100 * coverage:.0f} %)"
    rows = [row]
    for name, figures in sorted(variant.members.items(), key=lambda item: _first_mae(item[1])) if members else ():
        line = {"variant": "", "model": name}
        for key, value in figures.items():
            if (found := MAE.fullmatch(key)) and found["target"]:
                line[f"{found['target']}, {found['unit']}"] = f"{value:.3f}"
        rows.append(line | {"epochs": str(figures.get("epochs", ""))})
    for line in rows:
        line.setdefault("epochs", "")
        line["changed"] = ""
    rows[0]["changed"] = _changes(variant.params, {} if base is None else base.params)
    return rows


def _title(target: str, figures: Mapping[str, Any]) -> str | None:
    unit = next((found["unit"] for key in figures if (found := MAE.fullmatch(key)) and not found["target"]), None)
    return None if unit is None else f"{columns.key_of(target)}, {unit}"


def _mae(figures: Mapping[str, Any]) -> float:
    return next(value for key, value in figures.items() if (found := MAE.fullmatch(key)) and not found["target"])


def _first_mae(figures: Mapping[str, Any]) -> float:
    return next((value for key, value in figures.items() if MAE.fullmatch(key)), float("inf"))


def _changes(params: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """`model.lr=0.001`: values that the base does not have, and how many more."""
    changed = [
        f"{path}={params.get(path, 'gone')}" for path in {**base, **params} if params.get(path) != base.get(path)
    ]
    more = f" and {len(changed) - CHANGES_SHOWN} more" if len(changed) > CHANGES_SHOWN else ""
    return ", ".join(changed[:CHANGES_SHOWN]) + more


def _variant(root: Path, name: str, revision: str | None) -> Variant | None:
    """What a revision, or the workspace, holds; None without metrics."""
    texts = [_read(root, path, revision) for path in (*METRICS, str(PARAMS_FILE))]
    if texts[0] is None:
        return None
    ensemble, members = (json.loads(text or "{}") for text in texts[:2])
    return Variant(name, ensemble, members, _leaves(yaml.safe_load(texts[2] or "{}")))


def _read(root: Path, path: str, revision: str | None) -> str | None:
    if revision is None:
        return (root / path).read_text() if (root / path).is_file() else None
    return _git(root, "show", f"{revision}:{path}")


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping) or (not tree and path):
        return {path: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _leaves(value, f"{path}.{key}" if path else str(key))
    return found


def _experiments(root: Path) -> dict[str, str]:
    """Commit of each of DVC's experiments by its name, oldest first."""
    listed = _git(root, "for-each-ref", "--sort=committerdate", "--format=%(refname) %(objectname)", "refs/exps")
    if listed is None:
        raise InputError(f"{root.resolve()} is no Git repository: run from the repository root")
    lines = [line.split() for line in listed.splitlines()]
    return {found["name"]: commit for ref, commit in lines if (found := EXPERIMENT.fullmatch(ref))}


def _is_revision(root: Path, name: str) -> bool:
    return not name.startswith("-") and _git(root, "rev-parse", "--verify", "-q", f"{name}^{{commit}}") is not None


def _git(root: Path, *arguments: str) -> str | None:
    """What Git says; None where it fails."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603 -- no shell
    return None if done.returncode else done.stdout
