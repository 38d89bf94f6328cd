"""How a DVC stage script runs: typed options in, one clear line on failure."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from matscout.engine.process_setup import collect_garbage_rarely, use_one_thread
from matscout.errors import InputError, MatscoutError
from matscout.files import sha256_of

EXIT_USER_ERROR = 1
STORAGE_ERRORS = {  # errors of a disk, and what its owner can do
    errno.EIO: "the disk is failing: copy its files and run again on another",
    errno.ENOENT: "create the folder, or run the stage that writes it",
    errno.ENOTDIR: "a file is where a folder must be: rename one of them",
    errno.EISDIR: "a folder is where a file must be: rename one of them",
    errno.ENAMETOOLONG: "shorten the name",
    errno.EMFILE: "raise the limit on open files (ulimit -n) and run again",
    errno.ENOSPC: "free some space and run again; what was finished is kept",
    errno.EDQUOT: "free some of your quota and run again; what was finished is kept",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) and run again",
    errno.EROFS: "make the file system writable and run again",
    errno.EACCES: "let this user read and write there and run again",
}
OTHER_STORAGE_ERROR = "check that path and its disk, and run again"

# A stage's arguments, each an option: `--materials PATH`, `--raw PATH --raw PATH`.
PathOption = Annotated[Path, typer.Option()]
PathsOption = Annotated[list[Path], typer.Option()]
NameOption = Annotated[str, typer.Option()]
FlagOption = Annotated[bool, typer.Option()]


def run(main: Callable[..., None]) -> None:
    """Run `main` with the command line's options, as its signature declares them.

    A `MatscoutError`, or an error of the disk, ends the process with exit code 1 and its message alone; any
    other exception is a defect and keeps its traceback.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        check_code(Path(__file__).parent, Path("src/matscout"))
        collect_garbage_rarely()
        use_one_thread()
        app()
    except MatscoutError as error:
        _leave(str(error))
    except OSError as error:
        if error.errno == errno.EBADF:  # a closed handle is a defect of ours, not of the disk
            raise
        _leave(storage_message(error))


def storage_message(error: OSError) -> str:
    """The disk's error, its place and the remedy, in one line."""
    if error.errno is None:  # a library's own words
        return f"{' '.join(str(error).split())}; {OTHER_STORAGE_ERROR}"
    remedy = STORAGE_ERRORS.get(error.errno, OTHER_STORAGE_ERROR)
    place = error.filename2 or error.filename or "while writing"  # of a copy, the second is the destination
    return f"{os.strerror(error.errno)}: {place}; {remedy}"


def check_code(imported: Path, here: Path) -> None:
    """Reject code that differs from that of the folder that DVC tracks.

    An editable installation imports the main folder's code, also for an experiment that runs in a copy.

    Args:
        imported: folder of the package that Python imports.
        here: folder of the package in the working directory; it may be absent.

    Raises:
        InputError: the two differ.
    """
    if here.is_dir() and not here.samefile(imported) and sha256_of(here) != sha256_of(imported):
        raise InputError(
            f"Python imports {imported}, which differs from {here.resolve()}, the code that DVC tracks here. A queued "
            "experiment keeps the code of when it was queued: `git add` new files, and do not edit src/ until the "
            "queue is done. In another clone, install there (make setup)"
        )


def _leave(message: str) -> None:
    sys.stderr.write(f"\n{os.environ.get('DVC_STAGE', 'matscout')}: error: {message}\n")
    sys.exit(EXIT_USER_ERROR)
