"""Benchmarks call stages with the options that these have: a missing one shows only when a long benchmark reaches it."""

import ast

import pytest
from imports import ROOT

CALLS = [
    (file, node)
    for file in sorted((ROOT / "benchmarks").rglob("*.py"))
    for node in ast.walk(ast.parse(file.read_text()))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "run_stage"
]


def options_of(stage):
    """Names and whether they may be left out."""
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    (main,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    names = [argument.arg for argument in main.args.args]
    n_free = len(main.args.defaults)
    return set(names), set(names[: len(names) - n_free])


@pytest.mark.parametrize(("file", "call"), CALLS, ids=lambda value: getattr(value, "stem", None))
def test_a_benchmark_gives_a_stage_all_of_its_options_and_no_others(file, call):
    known, needed = options_of(call.args[1].value)
    given = {keyword.arg for keyword in call.keywords}
    assert needed <= given <= known, file
