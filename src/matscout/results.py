"""Where the results lie and what they say in a few lines: the text behind `matscout results`."""

import json
from collections.abc import Iterator
from pathlib import Path

from matscout.errors import InputError

PLACES = (
    ("report", "data/report/index.html", "open it in a browser"),
    ("ranked candidates", "data/screening/ranked.parquet", "best first; crystals as CIF in data/screening/cif/"),
    ("metrics", "metrics", "dvc metrics show"),
    ("members", "data/members", "compare them: mlflow ui"),
)
NEXT_STEPS = (
    ("another goal", "dvc exp run -S screening.goal=thermoelectric"),
    ("another learning rate", "dvc exp run -S model.lr=0.001"),
    ("your own crystals", "matscout predict my.cif -o predictions.parquet"),
    ("the curves", "dvc plots show"),
)


def lines_of_results(root: Path) -> Iterator[str]:
    """The places, the headline figures and what to run next.

    Raises:
        InputError: a result is missing; the message names it and the command that makes it.
    """
    missing = [path for _, path, _ in PLACES if not (root / path).exists()]
    if missing:
        raise InputError(f"not made yet: {', '.join(missing)}; run `make repro`, or `dvc pull` where a cache is shared")
    yield "Results"
    for name, path, hint in PLACES:
        yield f"  {name:18} {path:32} {hint}"
    yield from _headline(root)
    yield "Next"
    for name, command in NEXT_STEPS:
        yield f"  {name:22} {command}"


def _headline(root: Path) -> Iterator[str]:
    metrics = json.loads((root / "metrics" / "ensemble.json").read_text())
    yield json.dumps(metrics, indent=1)[:400]
