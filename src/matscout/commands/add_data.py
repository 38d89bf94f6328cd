"""`matscout add-data`: add a lab's own file as another database, with its entries in params.yaml and dvc.yaml."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import yaml
from pydantic import ValidationError

from matscout import columns
from matscout.errors import InputError, ParameterError
from matscout.files import write_bytes
from matscout.params import PARAMS_FILE, FileImport, check_params
from matscout.sources.files.file_rows import RawRow
from matscout.sources.files.import_file import ALIASES, KNOWN, import_file, read_any
from matscout.sources.record import Record, Rejection

PIPELINE: Final = Path("dvc.yaml")
LOOKED_AT: Final = 50  # number of rows whose columns are examined
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")
# Common column names, without units and punctuation; tried in this order.
GUESSES: Final = MappingProxyType(
    {
        columns.FORMATION_ENERGY: r"formation|e_?form|^e_?f$|delta_?h|^h_?f(orm)?$|heat_of_formation",
        columns.ENERGY_ABOVE_HULL: r"hull|stability|e_?ah",
        columns.BAND_GAP: r"gap|^e_?g$",
        columns.BULK_MODULUS: r"bulk|^k_?vrh$|^b_?0$",
        columns.SHEAR_MODULUS: r"shear|^g_?vrh$",
        columns.MATERIAL_ID: r"^(sample|entry|compound|material|structure)?_?(id|name|no|number|code|label)$",
    }
)


@dataclass(frozen=True)
class Added:
    """The result of `add_data`.

    Attributes:
        mapping: column of the file for each label, as guessed or given; known names are left out.
        units: units by label, if they are not matscout's.
        n_rows: number of rows that can be read.
        labels: rows by label.
        rejections: rows that cannot be read.
    """

    mapping: Mapping[str, str]
    units: Mapping[str, str]
    n_rows: int
    labels: Mapping[str, int]
    rejections: Sequence[Rejection]


def add_data(
    path: Path,
    name: str,
    *,
    mapping: Mapping[str, str],
    units: Mapping[str, str],
    functional: str,
    licence: str,
    own_labels: Mapping[str, str] = MappingProxyType({}),
    root: Path = Path(),
) -> Added:
    """Find the columns of a file, count its labels, and add it as a database of this repository.

    Args:
        path: CSV with structures, extended XYZ, JSON, a folder, ... as `import_file` reads them.
        name: name of the new database: small letters, digits and `_`.
        mapping: column of the file for each label whose guess is wrong.
        units: units by label, if the column's name does not state them.
        functional: functional of rows that do not state it: `PBE`, `HSE06`, `experiment`, ...
        licence: owner and licence, for the manifest, the report and the data card.
        own_labels: columns of further labels, by the names that targets use, such as `band_gap_exp`.
        root: root of the repository.

    Returns:
        The columns, units, labels and rejections found.

    Raises:
        ParameterError: the name is taken or invalid, a quantity or unit is unknown, or there is no repository.
        InputError: the file cannot be read, or no row has a label.
    """
    params = root / PARAMS_FILE
    if not params.is_file() or not (root / PIPELINE).is_file():
        raise ParameterError(f"{params} or {root / PIPELINE} not found: run from the repository root")
    text = params.read_text()
    known = check_params(yaml.safe_load(text), params).databases
    if not NAME.fullmatch(name) or name in known:
        rule = "small letters, digits and _, and none of " + ", ".join(sorted(known))
        raise ParameterError(f"--name {name!r}: a new database's name is {rule}")
    header = _header(path)
    for option, given in (("--column", mapping), ("--label", own_labels)):
        if absent := sorted(set(given.values()) - set(header)):
            raise ParameterError(f"{option}: {absent[0]!r} is not a column of {path}; it has {header}")
    found = {**_guessed(header, taken={*mapping.values(), *own_labels.values()}), **mapping}
    stated = {label: unit for label, column in found.items() if (unit := _unit_of(label, column))} | dict(units)
    options = _options(_needed(found), stated, own_labels, functional, licence)
    added = _counted(path, options, header)
    pipeline = (root / PIPELINE).read_text()
    place = path.resolve()
    shown = place.relative_to(root.resolve()) if place.is_relative_to(root.resolve()) else place
    written = _with_block(text, name, shown.as_posix(), options)
    check_params(yaml.safe_load(written), params)
    joined = with_database(pipeline, list(known)[-1], name)
    write_bytes(root / PIPELINE, joined.encode())
    write_bytes(params, written.encode())
    return added


def with_database(pipeline: str, last: str, name: str) -> str:
    """Add a database to the text of dvc.yaml, wherever it lists the snapshots; everything else stays.

    Args:
        pipeline: text of dvc.yaml.
        last: the database after which the new one is listed.
        name: name of the new database.

    Returns:
        The new text.

    Raises:
        ParameterError: the text lists no snapshot of `last`.
    """
    joined = pipeline.replace(f"--raw data/raw/{last}", f"--raw data/raw/{last} --raw data/raw/{name}")
    joined = re.sub(rf"^( *- data/raw/){last}$", rf"\g<0>\n\g<1>{name}", joined, flags=re.MULTILINE)
    if joined == pipeline:
        raise ParameterError(f"{PIPELINE} lists no data/raw/{last}: add data/raw/{name} where it lists the snapshots")
    return joined


def _options(
    mapping: Mapping[str, str], units: Mapping[str, str], own_labels: Mapping[str, str], functional: str, licence: str
) -> FileImport:
    try:
        return FileImport(
            format="auto",
            columns=dict(mapping),
            units=dict(units),
            labels=dict(own_labels),
            functional=functional,
            licence=licence,
        )
    except ValidationError as error:
        raise ParameterError(f"--label: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error


def _header(path: Path) -> list[str]:
    """Keys of the first rows, in order."""
    rows = islice(read_any(path), LOOKED_AT)
    return list(dict.fromkeys(str(key) for row in rows if isinstance(row, RawRow) for key in row.fields))


def _guessed(header: Sequence[str], taken: set[str]) -> dict[str, str]:
    """Column for each label: a known name first, then a common one."""
    found: dict[str, str] = {}
    for ours in (*GUESSES, *(name for name in ALIASES if name not in GUESSES)):
        free = [column for column in header if column not in taken]
        usual = next((alias for alias in ALIASES[ours] if alias in free), None)
        pattern = GUESSES.get(ours)
        like = [c for c in free if pattern and re.search(pattern, _bare(c))]
        if column := usual or next(iter(like), None):
            found[ours] = column
            taken = {*taken, column}
    return found


def _needed(found: Mapping[str, str]) -> dict[str, str]:
    """The columns without those that the reader knows by name."""
    return {ours: column for ours, column in found.items() if column not in ALIASES[ours]}


def _bare(column: str) -> str:
    """`E_g (eV)` -> `e_g`: small letters, without a unit in brackets."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"[\[(].*?[\])]", "", column.lower())).strip("_")


def _unit_of(label: str, column: str) -> str | None:
    """The unit that a column's name states, if it is another than ours."""
    if label not in KNOWN:
        return None
    stated = re.findall(r"[\[(](.*?)[\])]", column) + re.findall(r"_(meV|Ha|Ry|kJ/mol|kcal/mol|MPa|kbar)\b", column)
    for unit in stated:
        for known in KNOWN[label]:
            if unit.replace(" ", "").lower() in {known.lower(), known.lower().removesuffix("/atom")}:
                return None if known == columns.UNITS.get(label) else known
    return None


def _counted(path: Path, options: FileImport, header: Sequence[str]) -> Added:
    labels: Counter[str] = Counter()
    rejections, n_rows = [], 0
    for item in import_file(path, options, "own"):
        if isinstance(item, Record):
            n_rows += 1
            labels.update(label for label in columns.LABELS if getattr(item, label) is not None)
            labels.update(list(item.own_labels))
        else:
            rejections.append(item)
    if not n_rows:
        first = f"; the first: {rejections[0].detail}" if rejections else ""
        raise InputError(f"none of {len(rejections)} row(s) of {path} can be read{first}")
    if absent := sorted(set(options.labels) - set(labels)):
        raise InputError(f"--label {absent[0]}='{options.labels[absent[0]]}': none of {n_rows} rows has a number there")
    if not labels:
        raise InputError(
            f"none of {n_rows} rows of {path} has a label; its columns are {list(header)}: name one, such as "
            f"--column {columns.BAND_GAP}='{next(iter(header), 'Eg')}'"
        )
    return Added(options.columns, options.units, n_rows, labels, rejections)


def _with_block(text: str, name: str, path: str, options: FileImport) -> str:
    """params.yaml with the block at the end of `databases`, written as its neighbours are."""
    service = "{page_size: 1000, requests_per_second: 1.0, patience: 1800}"
    query = "{elements: null, n_elements: [1, 6], n_atoms: [1, 200], energy_above_hull: null, limit: 100000}"
    file: dict[str, Any] = options.model_dump(mode="json")
    block = (
        f"  {name}:\n    origin: file\n    path: {json.dumps(path, ensure_ascii=False)}\n    endpoint: null\n"
        f"    optimade_endpoint: null\n    query: {query}\n    service: {service}\n"
        f"    file: {json.dumps(file, ensure_ascii=False)}\n"
    )
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    databases = next(value for key, value in root.value if key.value == "databases")
    place = databases.value[-1][1].end_mark.index
    end = text.rindex("\n", 0, place) + 1 if text[:place].rstrip(" ").endswith("\n") else text.index("\n", place) + 1
    head = text[:end].rstrip("\n") + "\n"
    return f"{head}{block}{text[len(text[:end].rstrip(chr(10))) + 1 :]}"
