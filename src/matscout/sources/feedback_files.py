"""Feedback: results of candidates, the fourth source that curation reads.

`matscout feedback` compares new files with the predictions that they test, and records each file that passes, with its
hash, in `checked.json` beside them. Only such files are read: ids and units can be checked only where the ranking is.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from matscout import columns
from matscout.crystal_checks import Rejection
from matscout.errors import InputError
from matscout.files import sha256_of, write_json
from matscout.sources.formats.own_records import parse_row, read_lines
from matscout.sources.record import Record, RowError

FEEDBACK_SOURCE: Final = "feedback"
RECEIPT_NAME: Final = "checked.json"
UNITS_KEY: Final = "units"
CANDIDATE_ID: Final = re.compile(r"ms-[0-9a-f]{12}")


def feedback_files(folder: Path) -> list[Path]:
    """List the result files of a folder.

    Args:
        folder: folder of the results; it may be empty.

    Returns:
        `*.jsonl`, sorted by name.

    Raises:
        InputError: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder} is not a folder; it may be empty, but it must exist (git checkout -- {folder})")
    return sorted(Path(folder).glob("*.jsonl"))


def read_feedback(folder: Path) -> Iterator[Record | Rejection]:
    """Results in the order of files and lines; a line that cannot be used comes as a `Rejection`.

    Args:
        folder: folder of the results.

    Yields:
        A record, or why the line is rejected.

    Raises:
        InputError: a file was not checked, or was changed since.
    """
    receipt = read_receipt(folder)
    for file in feedback_files(folder):
        if receipt.get(file.name) != sha256_of(file):
            state = "was changed since it was checked" if file.name in receipt else "was not checked yet"
            raise InputError(
                f"{file} {state}: run `matscout feedback {folder}`, which compares ids and units with the predictions"
            )
        yield from read_results(file)


def read_results(file: Path) -> Iterator[Record | Rejection]:
    """The results of one file."""
    return read_lines(file, _result, source=FEEDBACK_SOURCE, name=file.name)


def read_receipt(folder: Path) -> dict[str, str]:
    """SHA-256 of each checked file by name; empty if nothing was checked yet.

    Args:
        folder: folder of the results.

    Returns:
        SHA-256 of each checked file by name; empty if nothing was checked yet.

    Raises:
        InputError: `checked.json` is not a JSON object of that form.
    """
    path = Path(folder) / RECEIPT_NAME
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        return {str(name): str(digest) for name, digest in content.items()}
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it and run `matscout feedback {folder}`") from error


def write_receipt(folder: Path, files: list[Path]) -> None:
    """Record that `files` passed, with those that passed before and are unchanged."""
    known = {name: digest for name, digest in read_receipt(folder).items() if (Path(folder) / name).exists()}
    write_json(Path(folder) / RECEIPT_NAME, {**known, **{file.name: sha256_of(file) for file in files}})


def _result(row: Mapping[str, Any]) -> Record:
    """One checked line.

    Raises:
        RowError: it names no candidate or no functional, has a wrong unit, or lacks a complete crystal.
    """
    if not CANDIDATE_ID.fullmatch(str(row.get(columns.MATERIAL_ID, ""))):
        detail = f"material_id = {row.get(columns.MATERIAL_ID)!r:.40} is not a candidate; ids look like ms-2f59651b072a"
        raise RowError("unknown_id", detail)
    if not row.get(columns.FUNCTIONAL):
        detail = "functional is absent; state it: PBE for the exported inputs, else r2SCAN, HSE06, experiment, ..."
        raise RowError("functional_missing", detail)
    units = row.get(UNITS_KEY) or {}
    if not isinstance(units, Mapping):
        raise RowError("wrong_unit", f"units = {units!r:.60} must map labels to units, or be left out")
    for label, unit in units.items():
        if columns.UNITS.get(label) != unit:
            detail = f"{label} has the unit {unit!r}; convert it to {columns.UNITS.get(label, 'a known label')}"
            raise RowError("wrong_unit", detail)
    return parse_row(row, FEEDBACK_SOURCE)
