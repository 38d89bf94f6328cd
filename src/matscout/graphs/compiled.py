"""Compile a function to machine code once per machine: `@compiled`."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable)


def compiled(function: Function) -> Function:
    """Compile at the first call, without the interpreter lock, and keep the machine code on disk.

    numba's cache looks at the file of a function only, so that editing a *called* function in another
    file would leave stale machine code in use. Here the cache is stamped with the content of every
    file of this folder: change one, and all are compiled anew.
    """
    dispatcher = numba.njit(cache=True, nogil=True)(function)
    if (kept := getattr(dispatcher, "_cache", None)) is not None:  # None where NUMBA_DISABLE_JIT is set, for debuggers
        kept._cache_file._source_stamp = _folder_stamp()  # noqa: SLF001
    return cast("Function", dispatcher)


@cache
def _folder_stamp() -> str:
    """SHA-256 of the sources beside this file."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()
