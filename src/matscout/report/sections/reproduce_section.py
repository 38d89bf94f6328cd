"""How to reproduce the page: commands, hashes of the inputs, settings and versions."""

import sys
from importlib.metadata import version
from typing import Any, Final

from markupsafe import Markup

from matscout.files import sha256_of, sha256_of_json
from matscout.report.html_table import Cell, Column, Row, Table, text_cell
from matscout.report.run import Run

PACKAGES: Final = ("matscout", "torch", "torch-geometric", "pymatgen", "moyopy", "smact", "numpy", "pandas", "plotly")
FILES: Final = (
    ("curated/materials.parquet", "curate"),
    ("splits/split.parquet", "split"),
    ("ensemble/calibration.json", "evaluate"),
    ("ensemble/predictions.parquet", "evaluate"),
    ("candidates/candidates.parquet", "propose"),
    ("screening/ranked.parquet", "screen"),
)
COMMANDS: Final = """\
# everything: from the bundled sample, or the databases that params.yaml names
make repro
# this page, and whatever it still needs
dvc repro report
# another goal: only screening and this page run again
dvc exp run -S screening.goal=thermoelectric
# the figures of this page as a table, and every member's run
dvc metrics show
mlflow ui
# which commit made the page that lies here: its dvc.lock holds the page's MD5
git log --oneline -S "$(md5sum < data/report/index.html | cut -c 1-32)" -- dvc.lock"""


def reproduce(run: Run) -> dict[str, Any]:
    """The section's text, table and lists."""
    compute = run.params.compute
    return {
        "intro": "The commit that made this page holds these files in its dvc.lock; the same inputs, parameters and "
        "versions give the same bytes. Compare the hashes below with sha256sum to see which run you are reading. No "
        "commit stands here: a page that named the commit it belongs to could never come out the same again.",
        "commands": COMMANDS,
        "hashes": _hashes(run),
        "settings": [
            ("device", compute.device),
            ("torch threads", compute.threads),
            ("deterministic", "yes" if compute.deterministic else "no"),
            ("seeds", _seeds(run)),
        ],
        "software": [
            ("Python", f"{sys.version_info.major}.{sys.version_info.minor}"),
            *((name, version(name)) for name in PACKAGES),
        ],
    }


def _hashes(run: Run) -> Table:
    rows = [("params.yaml, as checked", "you", sha256_of_json(run.params.model_dump(mode="json")))]
    rows += [(f"data/{name}", stage, sha256_of(run.data / name)) for name, stage in FILES]
    rows += [
        (f"data/members/{name}/weights.safetensors", run.stage_of(name), member.card["weights_sha256"])
        for name, member in run.members.items()
    ]
    return Table(
        "hashes",
        "What this page was made from",
        (Column("file", numeric=False), Column("made by", numeric=False), Column("SHA-256", numeric=False)),
        tuple(Row((_code(name), text_cell(stage), _code(digest))) for name, stage, digest in rows),
    )


def _code(text: str) -> Cell:
    return Cell(Markup('<span class="mono">{}</span>').format(text), text)


def _seeds(run: Run) -> str:
    params = run.params
    named = {
        "split": params.split.seed,
        "ensemble": params.ensemble.seed,
        "candidates": params.candidates.seed,
        "screening": params.screening.seed,
    }
    named |= {name: member.training.seed for name, member in params.ensembled.items()}
    return ", ".join(f"{name} {seed}" for name, seed in named.items())
