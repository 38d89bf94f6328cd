"""Public functions that take much or can fail say what they take, return and raise, in Google's sections."""

import ast
import re

import pytest
from imports import SRC

PACKAGE = SRC / "matscout"
SHARE = 0.6  # of the functions that need sections
MANY = 2  # a function of more parameters, or one that raises, needs sections
SECTION = re.compile(r"^(Args|Returns|Yields|Raises):\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)
RETURNS_NOTHING = {"None", "Never", "NoReturn", "Iterator[None]"}  # the last: of a context manager


def public_functions(body, owner=""):
    """Functions and methods of public classes by qualified name, nested functions excepted."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, f"{owner}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield f"{owner}{node.name}", node


def parameters(function):
    found = function.args
    named = [argument.arg for argument in found.posonlyargs + found.args + found.kwonlyargs]
    return [name for name in named if name not in {"self", "cls"}] + [
        argument.arg for argument in (found.vararg, found.kwarg) if argument
    ]


def own_nodes(node):
    """Everything in a function but what functions and classes inside it hold."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield child
            yield from own_nodes(child)


def raises(function):
    """Whether it raises by itself; an abstract method's NotImplementedError and a bare `raise` do not count."""
    errors = [node.exc for node in own_nodes(function) if isinstance(node, ast.Raise) and node.exc]
    return any("NotImplementedError" not in ast.unparse(error) for error in errors)


def is_command(function):
    """Commands of the command line: their docstring is the help text, and `Option` describes each parameter."""
    return any(".command" in ast.unparse(decorator) for decorator in function.decorator_list)


def needs_sections(function):
    return not is_command(function) and (len(parameters(function)) > MANY or raises(function))


def lacking(function):
    """Parameters that `Args` does not describe, and the other sections that are absent."""
    sections = dict(SECTION.findall((ast.get_docstring(function) or "") + "\n"))
    described = re.findall(r"^ {4}\**(\w+)(?: \(.*?\))?: \S", sections.get("Args", ""), re.MULTILINE)
    missing = [name for name in parameters(function) if name not in described]
    returns = ast.unparse(function.returns) if function.returns else "None"
    is_property = any("property" in ast.unparse(decorator) for decorator in function.decorator_list)
    if returns not in RETURNS_NOTHING and not is_property and not sections.keys() & {"Returns", "Yields"}:
        missing.append("Returns")
    if raises(function) and "Raises" not in sections:
        missing.append("Raises")
    return missing


def test_most_public_functions_describe_what_they_take_return_and_raise():
    found = {
        f"{file.relative_to(PACKAGE)}: {name}": lacking(function)
        for file in sorted(PACKAGE.rglob("*.py"))
        for name, function in public_functions(ast.parse(file.read_text()).body)
        if needs_sections(function)
    }
    bare = {name: missing for name, missing in found.items() if missing}
    share = 1 - len(bare) / len(found)
    listed = "\n".join(f"{name} lacks {', '.join(missing)}" for name, missing in bare.items())
    assert share >= SHARE, f"{share:.0%} of {len(found)} public functions have sections:\n{listed}"


def functions_of(code):
    return dict(public_functions(ast.parse(code).body))


WHOLE = '''
def f(a, *b, c=1, **d) -> int:
    """Do.

    Args:
        a: (n,) one.
        *b: others.
        c: Å;
            or nothing.
        d (dict): more.

    Returns:
        A number.

    Raises:
        ValueError: it is bad.
    """
    raise ValueError(a)
'''


@pytest.mark.parametrize(
    ("removed", "missing"),
    [
        ("", []),
        ("        a: (n,) one.\n", ["a"]),
        ("        c: Å;\n            or nothing.\n", ["c"]),
        ("Args:", ["a", "c", "b", "d"]),
        ("    Returns:\n        A number.\n", ["Returns"]),
        ("    Raises:\n        ValueError: it is bad.\n", ["Raises"]),
    ],
)
def test_what_is_missing_is_named(removed, missing):
    assert removed in WHOLE
    assert lacking(functions_of(WHOLE.replace(removed, "", 1))["f"]) == missing


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("def f(a, b): ...", False),
        ("def f(a, b, *, c): ...", True),
        ("class A:\n    def f(self, a, b): ...", False),
        ("class A:\n    def f(self, a, b, c): ...", True),
        ("def f():\n    raise ValueError", True),
        ("def f():\n    raise NotImplementedError", False),
        ("def f():\n    def g():\n        raise ValueError\n    return g", False),
        ("@app.command()\ndef f(a, b, c): ...", False),
    ],
)
def test_many_parameters_or_an_error_need_sections(code, needed):
    assert [needs_sections(function) for function in functions_of(code).values()] == [needed]


def test_private_names_need_nothing():
    code = "def _f(): ...\nclass _A:\n    def f(self): ...\nclass A:\n    def _f(self): ...\n    def g(self): ..."
    assert list(functions_of(code)) == ["A.g"]
