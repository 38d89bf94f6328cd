"""The stage `report`: one self-contained page, the same bytes for the same inputs."""

import json
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
from matscout.files import write_bytes
from matscout.params import Params
from matscout.progress import progress
from matscout.report.figures import chart, palette
from matscout.report.figures.crystal_scene import covalent_radius, element_colors, scene
from matscout.report.run import Run
from matscout.report.sections.candidates_section import candidates
from matscout.report.sections.data_section import data
from matscout.report.sections.members_section import members
from matscout.report.sections.overview_section import asked, overview
from matscout.report.sections.reproduce_section import reproduce
from matscout.report.sections.shortlist_section import shortlist, shown_rows
from matscout.report.sections.trust_section import trust
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
        twins=_inline(json.dumps(dict(palette.DARK_TWINS), sort_keys=True)),
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
    colors = element_colors()
    return json.dumps(
        {"colors": {s: colors[s] for s in symbols if s in colors}, "radii": {s: covalent_radius(s) for s in symbols}},
        sort_keys=True,
    )


def _theme() -> str:
    """Custom properties of the light page, and of the dark one."""
    names = {
        "blue": palette.BLUE,
        "vermillion": palette.VERMILLION,
        "green": palette.GREEN,
        "ochre": palette.OCHRE,
        "ink": palette.INK,
        "muted": palette.MUTED,
        "faint": palette.FAINT,
        "line": palette.GRID,
        "surface": palette.SURFACE,
        "band": palette.BAND,
    }
    light = (
        "".join(f"--{name}:{color};" for name, color in names.items())
        + "--page:#f6f8fa;--tint:#eef2f6;--chosen:#eaf4fc;"
    )
    dark = "".join(f"--{name}:{palette.DARK_TWINS[color]};" for name, color in names.items())
    dark += "--page:#0f141a;--tint:#1f2730;--chosen:#152a3a;"
    ramps = [(name, ramp) for name, ramp in (("counts", palette.DATA_RAMP), ("errors", palette.ERROR_RAMP))]
    light_ramps = "".join(f".ramp .{name}{{--from:{ramp[0][0]};--to:{ramp[0][1]}}}" for name, ramp in ramps)
    dark_ramps = "".join(f".ramp .{name}{{--from:{ramp[1][0]};--to:{ramp[1][1]}}}" for name, ramp in ramps)
    return (
        f":root{{color-scheme:light dark;{light}}}{light_ramps}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}{dark_ramps}"
        ".ptable span.on{background:var(--d)!important;color:var(--di)!important}}"
    )
