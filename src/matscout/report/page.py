"""The stage `report`: one self-contained page, with the same bytes for the same inputs and how to reproduce it."""

import json
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.cif_files import cif_text
from matscout.files import sha256_of, sha256_of_json, write_bytes
from matscout.params import Params
from matscout.progress import progress
from matscout.report.figures import chart
from matscout.report.figures.crystal_scene import covalent_radius, scene
from matscout.report.html_table import Cell, Column, Row, Table, text_cell
from matscout.report.run import Run
from matscout.report.sections.candidates_section import candidates
from matscout.report.sections.data_section import data
from matscout.report.sections.ensemble_section import members, trust
from matscout.report.sections.overview_section import asked, overview
from matscout.report.sections.shortlist_section import shortlist, shown_rows
from matscout.report.wording import name_of

SECTIONS: Final = (
    ("asked", "Goal"),
    ("shortlist", "Results"),
    ("together", "Compute"),
    ("trust", "Trust"),
    ("members", "Models"),
    ("data", "Data"),
    ("candidates", "Candidates"),
    ("cards", "Cards"),
    ("reproduce", "Reproduce"),
)
SCRIPTS: Final = ("viewer.js", "tables.js", "page.js")


def write_report(data: Path, *, params: Params, destination: Path) -> None:
    """Write the page of the run under `data` to `destination`, atomically.

    Args:
        data: folder with every stage's outputs (see docs/architecture.md).
        params: all of `params.yaml`.
        destination: the HTML file.

    Raises:
        InputError: an output of an earlier stage is missing; the message names the stage.
    """
    write_bytes(destination, render(Run(Path(data), params)).encode())


def render(run: Run) -> str:
    """The page as text."""
    crystals = run.crystals(list(shown_rows(run)[columns.CANDIDATE_ID]))
    parts: dict[str, Any] = {
        "overview": overview(run),
        "asked": asked(run),
        "candidates": candidates(run),
        "reproduce": reproduce(run),
    }
    figures: dict[str, go.Figure] = {}
    drawn = {"shortlist": partial(shortlist, crystals=crystals), "trust": trust, "members": members, "data": data}
    for name, part in progress(drawn.items(), description="report", total=len(drawn), unit="section"):
        parts[name], more = part(run)
        figures |= more
    environment = _environment()
    assets = {name: Markup(_asset(environment, name)) for name in ("style.css", *SCRIPTS)}  # noqa: S704 -- our own files
    return environment.get_template("page.html.j2").render(
        **parts,
        page={
            "title": f"{name_of(run.params.screening.goal)}: matscout report",
            "sections": [s for s in SECTIONS if s[0] != "together" or parts["shortlist"]["together"]],
        },
        version=version("matscout"),
        theme=Markup(_theme()),  # noqa: S704 -- our own colours
        style=assets["style.css"],
        scripts=Markup("\n").join(assets[name] for name in SCRIPTS),
        plotly=Markup(get_plotlyjs()),  # noqa: S704 -- the library as pip installed it
        figures=_inline(chart.to_json(figures)),
        scenes=_inline(_scenes(crystals)),
        look=_inline(_look(crystals)),
        twins=_inline(json.dumps(dict(chart.DARK_TWINS), sort_keys=True)),
    )


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("matscout.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(environment: Environment, name: str) -> str:
    assert environment.loader is not None  # noqa: S101 -- set just above
    return environment.loader.get_source(environment, name)[0]


def _inline(text: str) -> Markup:
    """JSON that cannot end the script element around it."""
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 -- escaped here


def _scenes(crystals: dict[str, Crystal]) -> str:
    scenes = {key: scene(crystal).to_json() | {"cif": cif_text(crystal)} for key, crystal in sorted(crystals.items())}
    return json.dumps(scenes, separators=(",", ":"), sort_keys=True)


def _look(crystals: dict[str, Crystal]) -> str:
    symbols = sorted({symbol for crystal in crystals.values() for symbol in crystal.species})
    return json.dumps({"radii": {s: covalent_radius(s) for s in symbols}}, sort_keys=True)


def _theme() -> str:
    """Custom properties of the light page, and of the dark one."""
    names = {
        "blue": chart.BLUE,
        "vermillion": chart.VERMILLION,
        "green": chart.GREEN,
        "ochre": chart.OCHRE,
        "ink": chart.INK,
        "muted": chart.MUTED,
        "faint": chart.FAINT,
        "line": chart.GRID,
        "surface": chart.SURFACE,
        "band": chart.BAND,
    }
    light = (
        "".join(f"--{name}:{color};" for name, color in names.items())
        + "--page:#f6f8fa;--tint:#eef2f6;--chosen:#eaf4fc;"
    )
    dark = "".join(f"--{name}:{chart.DARK_TWINS[color]};" for name, color in names.items())
    dark += "--page:#0f141a;--tint:#1f2730;--chosen:#152a3a;"
    ramps = [(name, ramp) for name, ramp in (("counts", chart.DATA_RAMP), ("errors", chart.ERROR_RAMP))]
    light_ramps = "".join(f".ramp .{name}{{--from:{ramp[0][0]};--to:{ramp[0][1]}}}" for name, ramp in ramps)
    dark_ramps = "".join(f".ramp .{name}{{--from:{ramp[1][0]};--to:{ramp[1][1]}}}" for name, ramp in ramps)
    return (
        f":root{{color-scheme:light dark;{light}}}{light_ramps}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}{dark_ramps}"
        ".ptable span.on{background:var(--d)!important;color:var(--di)!important}}"
    )


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
# everything, from the bundled sample or the databases in params.yaml
make repro
# only this page, and the stages that it needs
dvc repro report
# another goal: only screening, relaxation and this page run again
dvc exp run -S screening.goal=thermoelectric
# the metrics of this page as a table, and the training runs
dvc metrics show
mlflow ui
# the commit that made this page: its dvc.lock contains the MD5 of the page
git log --oneline -S "$(md5sum < data/report/index.html | cut -c 1-32)" -- dvc.lock"""


def reproduce(run: Run) -> dict[str, Any]:
    """The text, table and lists of the section."""
    compute = run.params.compute
    return {
        "intro": "The same inputs, parameters and versions give the same bytes. To find the run behind this page, "
        "compare the hashes below with sha256sum; the dvc.lock of its commit lists the same files. The page cannot "
        "name its own commit, because its bytes would then change with every commit.",
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
        "Files that this page is made from",
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
