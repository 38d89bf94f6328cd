"""Thousands of bad inputs at every door: `python benchmarks/robustness.py` writes the table of docs/robustness.md.

With `--published FOLDER` the CIFs of that folder are read too, and held against the formula that each states.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "sources")]

from bad_inputs import _contradicts_formula, inventions, mutations, note_outcome, outcome, page_outcome, params_outcome  # noqa: E402

from matscout.sources.files.named_structures import read_structures  # noqa: E402
from matscout.sources.record import Record  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "robustness.json"
PAGE = ROOT / "docs" / "robustness.md"
TABLE = re.compile(r"(<!-- table -->\n).*?(<!-- end -->)", re.DOTALL)
NOT_SOUND = {"disordered", "hydrogens_missing", "several_crystals", "not_bulk", "coordinates_missing", "no_text"}


def tried(n: int, seed: int, folder: Path) -> Iterator[tuple[str, str, str | None, float]]:
    """Kind, answer, complaint and processor seconds of each input."""
    for item in (*mutations(n, seed), *inventions(n // 4, seed)):
        begun = time.process_time()
        found = outcome(item, folder)
        yield item.kind, found.answer, found.complaint, time.process_time() - begun
    for number in range(n // 8):
        for kind, found in (
            ("pages of the services, nodes replaced", page_outcome(number, seed)),
            ("params.yaml, nodes replaced", params_outcome(number, seed)),
            ("journals and manifests, bytes damaged", note_outcome(number, seed, folder)),
        ):
            yield kind, found.answer, found.complaint, 0.0


def table_of(kinds: dict[str, Counter[str]]) -> str:
    """Markdown."""
    lines = [
        "| kind of input | tried | read | refused, whole or row by row | traceback | read as something else |",
        "|---|---|---|---|---|---|",
    ]
    total: Counter[str] = Counter()
    for kind, counts in kinds.items():
        total += counts
        lines.append(_line(kind, counts))
    return "\n".join([*lines, _line("**together**", total)]) + "\n"


def _line(kind: str, counts: Counter[str]) -> str:
    cells = (counts.total(), counts["read"], counts["refused"], counts["traceback"], counts["changed"])
    return f"| {kind} | {' | '.join(f'{cell:,}' for cell in cells)} |"


def published(folder: Path) -> dict[str, object]:
    """How the CIFs of a folder are read: accepted, refused by reason, and any that disagrees with its own formula."""
    reasons: Counter[str] = Counter()
    disagreeing = []
    for path in sorted(folder.rglob("*.cif")):
        (item,) = read_structures([path])
        reasons["accepted" if isinstance(item, Record) else item.reason] += 1
        if isinstance(item, Record) and _contradicts_formula(item.crystal.element_counts, path.read_text("latin-1")):
            disagreeing.append(path.name)
    sound = sum(count for reason, count in reasons.items() if reason not in NOT_SOUND)
    share = reasons["accepted"] / sound if sound else None
    return {"reasons": dict(reasons.most_common()), "disagreeing": disagreeing, "accepted_of_sound": share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=2800, help="damaged files; a quarter as many are made up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--published", type=Path, help="folder of published CIFs")
    arguments = parser.parse_args()
    kinds: dict[str, Counter[str]] = {}
    complaints, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for kind, answer, complaint, seconds in tried(arguments.n, arguments.seed, Path(folder)):
            fate = "read" if answer in {"read", "accepted"} else "refused"
            if complaint:
                fate = "changed" if answer == "changed" else "traceback"
                complaints.append(f"{kind}: {complaint}")
                print(complaints[-1])
            kinds.setdefault(kind, Counter())[fate] += 1
            slowest = max(slowest, seconds)
    result = {"kinds": kinds, "complaints": complaints, "slowest_seconds": round(slowest, 3), "seed": arguments.seed}
    if arguments.published:
        result["published"] = published(arguments.published)
        print(json.dumps(result["published"], indent=2))
    RESULT.write_text(f"{json.dumps(result, indent=2)}\n")
    PAGE.write_text(TABLE.sub(lambda found: found[1] + table_of(kinds) + found[2], PAGE.read_text()))
    print(table_of(kinds))
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
