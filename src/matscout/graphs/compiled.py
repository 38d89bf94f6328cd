"""Compile a function to machine code once per machine: `@compiled`, and for arithmetic in bulk `@kernel`."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable)


def compiled(function: Function) -> Function:
    """Compile at the first call, without the interpreter lock, and keep the machine code on disk.

    numba's cache looks at the file of a function only, so that editing a *called* function in another
    file would leave stale machine code in use. Here the cache is stamped with the content of every file of the
    function's folder and of the folders of what it calls: change one, and all that lean on it are compiled anew.
    """
    return _compiled(function)


def kernel(function: Function) -> Function:
    """`compiled` for loops over float32: a product and the sum after it may be one instruction, rounded once.

    Nothing else of `fastmath` is allowed: sums keep their order, and what is not a number stays one.
    """
    return _compiled(function, fastmath={"contract"}, error_model="numpy")


def inlined(function: Function) -> Function:
    """A step of a `kernel`: becomes part of the loop that calls it, and is vectorised with it."""
    return _compiled(function, fastmath={"contract"}, error_model="numpy", forceinline=True)


def _compiled(function: Function, **options: Any) -> Function:
    dispatcher = numba.njit(cache=True, nogil=True, **options)(function)
    if (kept := getattr(dispatcher, "_cache", None)) is not None:  # None where NUMBA_DISABLE_JIT is set, for debuggers
        kept._cache_file._source_stamp = _stamp(function)  # noqa: SLF001
    return cast("Function", dispatcher)


def _stamp(function: Callable) -> str:
    """SHA-256 of the sources in the folders of a function and of whatever is compiled that its file imports."""
    folders: set[Path] = set()
    waiting, seen = [function], set()
    while waiting:
        names = waiting.pop()
        if id(names.__globals__) not in seen:
            seen.add(id(names.__globals__))
            folders.add(Path(names.__code__.co_filename).parent)
            waiting += [value.py_func for value in names.__globals__.values() if hasattr(value, "py_func")]
    return "".join(_folder_stamp(folder) for folder in sorted(folders))


@cache
def _folder_stamp(folder: Path) -> str:
    """SHA-256 of the sources in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()
