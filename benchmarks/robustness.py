"""Thousands of bad inputs at every door: `python benchmarks/robustness.py` writes the table of docs/robustness.md.

With `--published FOLDER` the CIFs of that folder are read instead: how many are accepted, whether each accepted one is
what its own formula says, and what share of those that pymatgen finds sound is accepted.
"""

import argparse
import json
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "sources")]

from bad_inputs import _contradicts_formula, inventions, mutations, note_outcome, outcome, page_outcome, params_outcome  # noqa: E402
from pymatgen.io.cif import CifParser  # noqa: E402

from matscout.sources.files.named_structures import read_text  # noqa: E402
from matscout.sources.record import Record  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "robustness.json"
PAGE = ROOT / "docs" / "robustness.md"
TABLE = re.compile(r"(<!-- table -->\n).*?(<!-- end -->)", re.DOTALL)


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
        "| kind of input | tried | read | rejected, whole or row by row | traceback | read as something else |",
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
    """How the CIFs of a folder are read.

    Returns:
        how many are accepted and refused, by reason; which disagree with the formula that they state, or have other
        numbers of atoms than pymatgen finds; how many are sound by pymatgen's judgement, what share of these is
        accepted, and which are not. The same file in two places counts once.
    """
    reasons: Counter[str] = Counter()
    disagreeing, otherwise, refused = [], [], {}
    files = {path.read_bytes(): path for path in sorted(folder.rglob("*")) if path.suffix.lower() in {".cif", ".mcif"}}
    n_sound = n_proven = 0
    for content, path in files.items():
        text, name = content.decode("latin-1"), path.relative_to(folder).as_posix()
        item = read_text(content, name)
        counts = item.crystal.element_counts if isinstance(item, Record) else {}
        reasons["accepted" if counts else item.reason] += 1
        if counts and _contradicts_formula(counts, text):
            disagreeing.append(name)
        n_proven += bool(counts) and "_chemical_formula_sum" in text
        if (theirs := _by_pymatgen(content.decode(errors="replace"), text)) is None:
            continue
        n_sound += 1
        if not counts:
            refused[name] = f"{item.reason}: {item.detail}"
        elif counts != theirs:
            otherwise.append(f"{name}: {counts} here, {theirs} by pymatgen")
    return {
        "files": len(files),
        "reasons": dict(reasons.most_common()),
        "accepted_with_formula": n_proven,
        "disagreeing": disagreeing,
        "sound": n_sound,
        "accepted_of_sound": round(1 - len(refused) / n_sound, 4) if n_sound else None,
        "sound_but_refused": refused,
        "other_than_pymatgen": otherwise,
    }


def _by_pymatgen(text: str, plain: str) -> dict[str, int] | None:
    """Atoms by element in a sound file: one ordered crystal of elements, of the formula that it states; else None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            (structure,) = CifParser.from_str(text).parse_structures(primitive=False)
            counts = {symbol: int(n) for symbol, n in structure.composition.get_el_amt_dict().items()}
        except Exception:  # noqa: BLE001 - whatever the library raises: it does not read the file
            return None
    if not structure.is_ordered or not structure.is_valid() or _contradicts_formula(counts, plain):
        return None
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3600, help="damaged files; a quarter as many are made up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--published", type=Path, help="folder of published CIFs")
    arguments = parser.parse_args()
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if arguments.published:
        found = published(arguments.published)
        print(json.dumps(found, indent=2, ensure_ascii=False))
        RESULT.write_text(f"{json.dumps(result | {'published': found}, indent=2)}\n")
        sys.exit(bool(found["disagreeing"]))
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
    result |= {"kinds": kinds, "complaints": complaints, "slowest_seconds": round(slowest, 3), "seed": arguments.seed}
    RESULT.write_text(f"{json.dumps(result, indent=2)}\n")
    PAGE.write_text(TABLE.sub(lambda found: found[1] + table_of(kinds) + found[2], PAGE.read_text()))
    print(table_of(kinds))
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
