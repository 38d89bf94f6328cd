"""The fingerprint of unfinished work: one hash of its settings, inputs and code.

The code consists of all files that a module imports, directly or not, except those that cannot change an
output. `tests/project/test_dvc_yaml.py` checks the same files against the `deps` of each stage.
"""

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from matscout.files import sha256_of, sha256_of_json

SOURCES: Final = Path(__file__).parents[2]  # the folder that holds the package

# Files and folders of the package that cannot change an output, each with the reason.
UNDECIDING: Final = {
    "matscout/__init__.py": "names, and how threads wait",
    "matscout/params/": "checks values; the values themselves are settings",
    "matscout/errors.py": "what is raised instead of an output",
    "matscout/progress.py": "what is drawn while an output is made",
    "matscout/layout.py": "where commands look; stages get their paths as arguments",
    "matscout/stage.py": "how a stage reads its arguments",
    "matscout/engine/": "where work runs; results and their order are the same everywhere",
    "matscout/resume/": "where finished parts wait; results are the same without them",
    "matscout/training/tracking.py": "sends to MLflow; nothing comes back",
}


def fingerprint(settings: Any, *, inputs: Sequence[Path], code: Sequence[str], libraries: Sequence[str] = ()) -> str:
    """Hash everything that determines the result of a piece of work.

    Args:
        settings: the parameters, as JSON values.
        inputs: files and folders that are read.
        code: names of the modules that do the work; their imports count too (`code_files`).
        libraries: distributions whose version matters.

    Returns:
        SHA-256, as hex.
    """
    return sha256_of_json(
        {
            "settings": settings,
            "inputs": [sha256_of(path) for path in inputs],
            "code": code_hash(*code),
            "libraries": {name: version(name) for name in libraries},
        }
    )


@cache
def code_hash(*modules: str) -> str:
    """SHA-256, as hex, of the code that some modules run (`code_files`)."""
    return sha256_of_json({file.relative_to(SOURCES).as_posix(): sha256_of(file) for file in code_files(*modules)})


def code_files(*modules: str) -> list[Path]:
    """Files of the package that some modules run: their own, those they import, and data files beside these.

    Args:
        modules: dotted names; that of a folder stands for every file in it.
    """
    files = {file for module in modules for start in _files_of(module) for file in {start} | transitive_imports(start)}
    beside = {path for file in files for path in file.parent.iterdir() if path.is_file() and path.suffix != ".pyc"}
    files |= {path for path in beside if path.suffix != ".py"}
    return sorted(file for file in files if not is_undeciding(file))


def is_undeciding(file: Path) -> bool:
    """Whether a file of the package is one that cannot change an output (`UNDECIDING`)."""
    name = file.relative_to(SOURCES).as_posix()
    return any(name == free or (free.endswith("/") and name.startswith(free)) for free in UNDECIDING)


def transitive_imports(file: Path) -> set[Path]:
    """Files of the package that `file` imports, directly or not, read from their text, without importing anything."""
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        for target in imported_files(waiting.pop()) - seen:
            seen.add(target)
            waiting.append(target)
    return seen


@cache
def imported_files(file: Path) -> frozenset[Path]:
    """Files of the package that `file` imports directly, at the top or inside functions."""
    return frozenset(
        target
        for name in _imported_names(ast.parse(file.read_text()))
        if name.split(".")[0] == "matscout" and (target := module_file(name)) is not None
    )


def module_file(module: str) -> Path | None:
    """The file of a dotted module of the package, or None."""
    base = SOURCES.joinpath(*module.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)


def _files_of(module: str) -> list[Path]:
    file = module_file(module)
    if file is None:
        raise ModuleNotFoundError(f"{module} is not a module of {SOURCES}")
    return sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]


def _imported_names(tree: ast.AST) -> Iterator[str]:
    """Dotted names, also of what may be a module among imported names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
