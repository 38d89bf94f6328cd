"""How a DVC stage script runs: typed options in, one clear line on failure."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from matscout.errors import MatscoutError

EXIT_USER_ERROR = 1

# A stage's arguments, each an option: `--materials PATH`, `--raw PATH --raw PATH`.
PathOption = Annotated[Path, typer.Option()]
PathsOption = Annotated[list[Path], typer.Option()]
NameOption = Annotated[str, typer.Option()]
FlagOption = Annotated[bool, typer.Option()]


def run(main: Callable[..., None]) -> None:
    """Run `main` with the command line's options, as its signature states them.

    A `MatscoutError` ends the process with exit code 1 and its message alone; any other exception
    is a defect and keeps its traceback.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except MatscoutError as error:
        name = os.environ.get("DVC_STAGE", "matscout")
        sys.stderr.write(f"\n{name}: error: {error}\n")
        sys.exit(EXIT_USER_ERROR)
