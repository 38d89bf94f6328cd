"""Which files of matscout a file imports, and which libraries, read from its source."""

import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from matscout.resume.fingerprint import imported_files, module_file, transitive_imports

__all__ = ["ROOT", "SRC", "imported_files", "loaded_at_start", "module_file", "transitive_imports"]

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"


def loaded_at_start(modules: Sequence[str], packages: Sequence[str]) -> dict[str, list[str]]:
    """Modules of the given packages that loading some modules of ours loads: each with the files that lead to it.

    Imports within functions and for type checkers alone do not count: they run when they are needed, if ever. What a
    library loads in its turn is its own affair.
    """
    waiting = [(module, [module]) for module in modules]
    seen: set[str] = set()
    found: dict[str, list[str]] = {}
    while waiting:
        module, chain = waiting.pop(0)
        if module in seen:
            continue
        seen.add(module)
        if module.split(".")[0] in packages:
            found.setdefault(module, chain[::-1])
        elif (file := module_file(module)) is not None:
            parents = module.split(".")[:-1]
            named = [".".join(parents[: n + 1]) for n in range(len(parents))]  # whose `__init__` runs first
            named += _imported_at_load(ast.parse(file.read_text()).body)
            waiting += [(name, [*chain, name]) for name in named]
    return found


def _imported_at_load(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Dotted names, also of what may be a module among imported names, in the order of the file."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            if node.module.split(".")[0] == "matscout":
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from _imported_at_load(ast.iter_child_nodes(node))
