"""Tables and estimates as Markdown."""

from typing import Any


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def value(estimate: dict[str, Any]) -> str:
    """The value of an estimate, or a dash."""
    return "-" if estimate["value"] is None else f"{estimate['value']:.3f}"


def interval(estimate: dict[str, Any]) -> str:
    """The value of an estimate with its interval, where it has one."""
    if estimate["low"] is None:
        return value(estimate)
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"
