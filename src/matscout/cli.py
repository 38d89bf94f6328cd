"""`matscout ...`: predict, screen, explain and check from the command line.

Exit codes: 0 done, 1 an input, parameter or artifact that the message tells how to mend, 2 wrong usage.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from matscout import __version__
from matscout.errors import InputError, MatscoutError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find new materials: predict, screen and explain with the ensemble that `make repro` trained.",
    epilog="Example: `matscout screen my_cifs/ --goal solar_absorber -o ranked.parquet`",
)
Structures = Annotated[
    list[Path], typer.Argument(help="CIF, POSCAR, a folder of them, or a record JSONL", show_default=False)
]
MembersOption = Annotated[Path, typer.Option("--members", help="folder of trained members")]
EnsembleOption = Annotated[Path, typer.Option("--ensemble", help="folder of the calibration")]
MEMBERS = Path("data/members")
ENSEMBLE = Path("data/ensemble")
CURATED = Path("data/curated")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"matscout {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and leave")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: `matscout doctor --online`")
def doctor(
    online: Annotated[bool, typer.Option(help="also try the databases' endpoints")] = False,
) -> None:
    """Say what is installed, set, reachable and free; exit 1 on a problem."""
    from matscout.doctor import examine

    marks = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}
    problems = 0
    for finding in examine(online=online):
        problems += finding.status == "problem"
        typer.echo(f"{marks[finding.status]} {finding.topic:18} {finding.text}")
    if problems:
        raise InputError(f"{problems} problem(s); each line above says what to do")


@app.command()
def results() -> None:
    """Say where the results of the last run lie, what they say, and what to run next."""
    from matscout.results import lines_of_results

    for line in lines_of_results(Path.cwd()):
        typer.echo(line)


def main() -> None:
    """Entry point: errors that a user can mend are one message and exit code 1."""
    try:
        app()
    except MatscoutError as error:
        sys.stderr.write(f"matscout: error: {error}\n")
        sys.exit(1)
