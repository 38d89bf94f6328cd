"""The tables of docs/rehearsal.md, out of benchmarks/results/rehearsal.json: python -m benchmarks.rehearsal.tables."""

import json
import re
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "benchmarks" / "results" / "rehearsal.json"
PAGE: Final = ROOT / "docs" / "rehearsal.md"
TABLE: Final = re.compile(r"(<!-- tables -->\n).*?(<!-- end of tables -->)", re.DOTALL)


def write_page(results: dict[str, Any]) -> None:
    """Put the tables of all rehearsals into the page."""
    told = "\n".join(_section(results[key]) for key in sorted(results, key=int))
    PAGE.write_text(TABLE.sub(lambda found: f"{found[1]}{told}{found[2]}", PAGE.read_text()))


def _section(facts: dict[str, Any]) -> str:
    setting = facts["setting"]
    members = ", ".join(f"`{name}`" for name in setting["members"]) if setting["members"] else "all six"
    epochs = f"{setting['epochs']} epoch(s)" if setting["epochs"] else "the profile's epochs"
    is_trained = any(stage.startswith("train@") for stage in facts["stages"])
    trained = f"members: {members}, {epochs}" if is_trained else "without training"
    pace = "the services' rate limits kept" if setting["paced"] else "no rate limits"
    killed = ", ".join(f"`{stage}`" for stage in facts["killed"]) or "no stage"
    told = (
        f"{facts['machine']}; commit {facts['commit']}; {trained}; {pace}. Killed in {killed}. "
        f"Largest disk of the folder {facts['peak_disk_gb']:.2f} GB; at the end data {facts['outputs_gb']:.2f} GB and "
        f"cache {facts['cache_gb']:.2f} GB."
    )
    columns = "| stage | runs (killed) | wall, s | processor, s | peak memory, GB | disk, GB | load |"
    head = [f"### {facts['rows']:,} rows", "", told, "", columns, "|---|---|---|---|---|---|---|"]
    rows = [
        f"| `{name}` | {found['runs']} ({found['kills']}) | {found['wall_s']:,.0f} | {found['processor_s']:,.0f} | "
        f"{found['peak_memory_gb']:.2f} | {found['peak_disk_gb']:.2f} | {found['load']:.1f} |"
        for name, found in facts["stages"].items()
    ]
    report = ["", f"The report has {facts['report_mb']} MB."] if "report_mb" in facts else []
    return "\n".join([*head, *rows, *report, ""])


if __name__ == "__main__":
    write_page(json.loads(RESULTS.read_text()))
