"""Compile a function to machine code once per machine: `@compiled`, and `@kernel` for loops over float32."""

import hashlib
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

SETTINGS: Any = numba.config  # type: ignore[reportPrivateImportUsage]  # documented; filled when it is loaded
SETTING = threading.Lock()  # modules may be imported in several threads, and the setting is one for all
FROZEN = (int, float, tuple)  # of module constants, which numba compiles into the code
Function = TypeVar("Function", bound=Callable)


def compiled(function: Function) -> Function:
    """Compile at the first call, without the interpreter lock, and keep the machine code on disk.

    numba knows only the file of a function: after an edit of a *called* function in another file it would go on using
    stale machine code. So the folder of the machine code is named after the content of every source file in the folders
    of the function and of what it calls.
    """
    return _compiled(function)


def kernel(function: Function) -> Function:
    """`compiled` for loops over float32: a product and the sum after it may be one instruction, rounded once.

    Nothing else of `fastmath` is allowed: sums keep their order, and NaN stays NaN.
    """
    return _compiled(function, fastmath={"contract"}, error_model="numpy")


def inlined(function: Function) -> Function:
    """A step of a `kernel`: becomes part of the loop that calls it, and is vectorised with it."""
    return _compiled(function, fastmath={"contract"}, error_model="numpy", forceinline=True)


def _compiled(function: Function, **options: Any) -> Function:
    with SETTING:
        root, SETTINGS.CACHE_DIR = SETTINGS.CACHE_DIR, str(_cache_folder(function))
        try:  # numba reads the setting while it decorates
            return cast("Function", numba.njit(cache=True, nogil=True, **options)(function))
        finally:
            SETTINGS.CACHE_DIR = root


def _cache_folder(function: Callable) -> Path:
    """Below NUMBA_CACHE_DIR, else beside the sources, else, where these are read-only, in the user's cache."""
    sources = Path(function.__code__.co_filename).parent
    if SETTINGS.CACHE_DIR:
        root = Path(SETTINGS.CACHE_DIR)
    elif os.access(sources, os.W_OK):
        root = sources / "__pycache__"
    else:
        root = Path.home() / ".cache" / "matscout"
    return root / f"machine_code-{_content_hash(function)}"


def _content_hash(function: Callable) -> str:
    """Hash of the folders of a function and of what it calls, and of constants, which may be from other files."""
    folders: set[Path] = set()
    constants: dict[str, Any] = {}
    waiting, seen = [function], set()
    while waiting:
        names = waiting.pop()
        if id(names.__globals__) not in seen:
            seen.add(id(names.__globals__))
            constants |= {name: value for name, value in names.__globals__.items() if type(value) in FROZEN}
            folders.add(Path(names.__code__.co_filename).parent)
            waiting += [value.py_func for value in names.__globals__.values() if hasattr(value, "py_func")]
    limits = sorted((name, repr(value)) for name, value in constants.items() if not name.startswith("__"))
    content = "".join([repr(limits), *(_folder_hash(folder) for folder in sorted(folders))])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@cache
def _folder_hash(folder: Path) -> str:
    """SHA-256 of the sources in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()
