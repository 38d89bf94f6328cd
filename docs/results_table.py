"""Write the results table of README.md from metrics/*.json: python docs/results_table.py."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r"(<!-- results: begin .*?-->\n).*?(<!-- results: end -->)", re.DOTALL)


def updated(readme: str, table: str) -> str:
    """The README's text with `table` between the markers."""
    return MARKED.sub(lambda found: f"{found[1]}{table}{found[2]}", readme)


def table_of(metrics: dict) -> str:
    """A Markdown table out of `metrics/ensemble.json`."""
    raise SystemExit(json.dumps(metrics)[:2000])


def main() -> None:
    """Rewrite README.md in place."""
    metrics = json.loads((ROOT / "metrics" / "ensemble.json").read_text())
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text(), table_of(metrics)))


if __name__ == "__main__":
    main()
