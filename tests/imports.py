"""Which files of matscout a file imports, read from its source."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"


def module_file(module: str) -> Path | None:
    """The file of a dotted module of ours, or None."""
    base = SRC.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imported_files(file: Path) -> set[Path]:
    """Our files that `file` imports directly, at the top or inside functions."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] == "matscout" and (target := module_file(name)):
                found.add(target)
    return found


def transitive_imports(file: Path) -> set[Path]:
    """Our files that `file` imports, directly or not."""
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        for target in imported_files(waiting.pop()) - seen:
            seen.add(target)
            waiting.append(target)
    return seen
