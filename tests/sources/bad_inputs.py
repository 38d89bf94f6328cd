"""Bad inputs without end: seeded damage to sound files, and values that hypothesis makes up; what must hold of each.

`benchmarks/robustness.py` tries thousands, `test_bad_inputs.py` a few of every kind. What must hold is stated by
`complaint`: nothing but our own errors, the same answer at every door, and never another crystal than the text says.
"""

import copy
import gzip
import json
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import yaml
from dialects import cif_of, document_of, poscar_of, with_a_slip, xyz_of
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pymatgen.core import Element
from sample_rows import ROOT, sample_pages
from written_files import FILES, OPTIMADE, PYMATGEN, content_of

from matscout.crystal_checks import Rejection
from matscout.errors import MatscoutError
from matscout.params import FileImport, check_params
from matscout.sources.files.file_rows import GZIP_MAGIC
from matscout.sources.files.import_file import import_file
from matscout.sources.files.named_structures import read_structures, read_text
from matscout.sources.record import Record
from matscout.sources.services.page_formats import FORMATS, parse_page
from matscout.sources.snapshots.download import Journal
from matscout.sources.snapshots.snapshot_files import read_manifest

PLAIN = FileImport(format="auto", columns={}, units={}, functional="PBE")
SOUND = [name for name, (_, wanted) in FILES.items() if isinstance(wanted, dict)]
ODD_NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "0",
    "1e-300",
    "9" * 400,
    "",
    "?",
    ".",
    "0x10",
    "1,5",
    "½",
    "1_000",
    "٣",
]
ODD_WORDS = [
    "Xx",
    "",
    "\x00",
    "\ud800",
    "D",
    "Wat",
    "OH",
    "Vac",
    "Rf",
    "../../etc/passwd",
    "=cmd|' /C calc'!A0",
    "'",
    '"',
    "é",
]
ODD_VALUES = [
    None,
    True,
    False,
    0,
    -1,
    1e9,
    10**400,
    math.inf,
    math.nan,
    "",
    "x",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    {"@module": "os"},
]
PUBLISHED = sorted(Path(sys.prefix).glob("lib/python3*/site-packages/ase/test/testdata/minerals/*.cif"))
REAL = {path.name: path.read_bytes() for path in PUBLISHED}  # none where ASE came without its test files
SYMBOLS = {element.symbol for element in Element} | {"D", "T"}


@dataclass(frozen=True)
class BadInput:
    """One input: its kind for the table, the name and bytes of the file, and for gzip the bytes it was packed from."""

    kind: str
    name: str
    content: bytes
    packed: bytes | None = None
    counts: Mapping[str, int] | None = None  # atoms by element that it must be read as, if it is read


@dataclass(frozen=True)
class Outcome:
    """What became of an input: `read`, or a reason; and what must not be, or None."""

    answer: str
    complaint: str | None


# ------------------------------------------------------------------------------------------------ generators
def _sound(chance: random.Random, endings: tuple[str, ...] = ()) -> tuple[str, bytes]:
    """Name and bytes of a sound file: one written here, or a published one."""
    names = [n for n in SOUND if not n.endswith(".gz") and (not endings or n.endswith(endings))]
    name = chance.choice([*names, *REAL])
    return name, REAL[name] if name in REAL else content_of(name)


def _damaged_bytes(chance: random.Random) -> BadInput:
    name, content = _sound(chance)
    raw = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(raw)), chance.randint(1, 40)
        match chance.randrange(5):
            case 0:
                raw[at] ^= 1 << chance.randrange(8)
            case 1:
                del raw[at : at + length]
            case 2:
                raw[at:at] = bytes(chance.randrange(256) for _ in range(length))
            case 3:
                raw[at:at] = raw[chance.randrange(len(raw)) :][:length]
            case _:
                raw = raw[: max(at, 1)]
        if not raw:
            break
    return BadInput("structure files, bytes damaged", name, bytes(raw))


def _damaged_lines(chance: random.Random) -> BadInput:
    name, content = _sound(chance, (".cif", ".vasp"))
    lines = content.decode("latin-1").splitlines()
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(lines))
        match chance.randrange(5):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[at])
            case 2:
                other = chance.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                other = content_of(chance.choice(SOUND[:20])).decode("latin-1").splitlines()
                lines.insert(at, chance.choice(other))
            case _:
                lines = lines[: at + 1]
        if len(lines) < 2:
            break
    return BadInput("structure files, lines moved", name, "\n".join(lines).encode())


def _odd_tokens(chance: random.Random) -> BadInput:
    name, content = _sound(chance, (".cif", ".vasp"))
    tokens = re.split(r"(\s+)", content.decode("latin-1"))
    for _ in range(chance.randint(1, 2)):
        at = chance.randrange(0, len(tokens), 2)
        is_number = re.fullmatch(r"[-+.\d]+", tokens[at])
        tokens[at] = chance.choice(ODD_NUMBERS if is_number else ODD_WORDS)
    return BadInput("structure files, odd text and numbers", name, "".join(tokens).encode("utf-8", "surrogatepass"))


def _damaged_gzip(chance: random.Random) -> BadInput:
    name = chance.choice([n for n in SOUND if not n.endswith(".gz")])
    plain = content_of(name)
    raw = bytearray(gzip.compress(plain, mtime=0))
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    if chance.random() < 0.3:
        del raw[chance.randrange(len(raw)) :]
    return BadInput("gzip, damaged", f"{name}.gz", bytes(raw) or b"\x1f\x8b", plain)


def _mutated(tree, chance: random.Random):
    """A copy of a JSON tree with one node replaced, removed or doubled."""
    tree = copy.deepcopy(tree)
    nodes = []

    def walk(node):
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, child in children:
            nodes.append((node, key))
            walk(child)

    walk(tree)
    if not nodes:
        return chance.choice(ODD_VALUES)
    node, key = chance.choice(nodes)
    match chance.randrange(3):
        case 0:
            del node[key]
        case 1 if isinstance(node, list):
            node.insert(key, copy.deepcopy(chance.choice(node)))
        case _:
            node[key] = copy.deepcopy(chance.choice(ODD_VALUES))
    return tree


def _damaged_document(chance: random.Random) -> BadInput:
    name = chance.choice(["pymatgen.json", "jarvis.json", "optimade.json"])
    tree = json.loads(content_of(name))
    for _ in range(chance.randint(1, 2)):
        tree = _mutated(tree, chance)
    return BadInput("JSON structures, nodes replaced", name, json.dumps(tree).encode())


def _damaged_rows(chance: random.Random) -> BadInput:
    record = {"material_id": "a", "lattice": [4.0, 0, 0, 0, 4.0, 0, 0, 0, 4.0], "species": ["Cs", "Cl"]}
    record |= {"frac_coords": [0, 0, 0, 0.5, 0.5, 0.5], "band_gap": 1.0, "year": 2020, "functional": "PBE"}
    kinds = [
        record,
        {"id": "b", "type": "structures", "attributes": OPTIMADE},
        {"structure": PYMATGEN, "band_gap": 2.0},
    ]
    rows = [json.dumps(_mutated(chance.choice(kinds), chance)) for _ in range(chance.randint(1, 4))]
    if chance.random() < 0.4:
        rows.insert(
            chance.randrange(len(rows) + 1),
            chance.choice(["[" * 100_000, "5", "null", "[1,2]", "{", '"x"', "\x00", "NaN"]),
        )
    return BadInput("rows of a JSONL file", "rows.jsonl", "\n".join(rows).encode("utf-8", "surrogatepass"))


def _damaged_table(chance: random.Random) -> BadInput:
    cif = content_of(chance.choice([n for n in SOUND if n.endswith(".cif")])).decode("latin-1").replace('"', "'")
    cells = [chance.choice(["a", "", "=1+1", *ODD_WORDS]), chance.choice(["1.5", *ODD_NUMBERS]), f'"{cif}"']
    separator = chance.choice([",", ";", "\t", "|"])
    text = separator.join(["material_id", "band_gap", "cif"]) + "\n" + separator.join(cells)
    raw = bytearray(text.encode("utf-8", "surrogatepass"))
    if chance.random() < 0.5:
        del raw[chance.randrange(len(raw)) : chance.randrange(len(raw))]
    return BadInput("rows of a CSV file", "rows.csv", bytes(raw) or b"\n")


SLIPS = ("0.25", "2", "?", "x,y,z", "1.5")


def _in_a_dialect(chance: random.Random, *, is_sound: bool) -> BadInput:
    """A known crystal, written in one of the ways that its format allows, or with a mistake in it."""
    name, write = chance.choice(
        [("x.cif", cif_of), ("x.vasp", poscar_of), ("x.extxyz", xyz_of), ("x.json", document_of)]
    )
    written, counts = write(chance)
    text = written if isinstance(written, str) else json.dumps(written)
    if not is_sound and name != "x.json":
        text = with_a_slip(text, chance, (*SLIPS, "T", "F", "O", "Na") if name == "x.cif" else SLIPS)
    text = text.replace("\n", chance.choice(["\n", "\r\n"] if name == "x.extxyz" else ["\n", "\r\n", "\r"]))
    kind = "dialects of every format" if is_sound else "dialects with a mistake"
    return BadInput(kind, name, text.encode("latin-1"), counts=counts)


MUTATIONS = (
    _damaged_bytes,
    _damaged_lines,
    _odd_tokens,
    _damaged_gzip,
    _damaged_document,
    _damaged_rows,
    _damaged_table,
    partial(_in_a_dialect, is_sound=True),
    partial(_in_a_dialect, is_sound=False),
)
NAMES = ["x.cif", "POSCAR", "x.vasp", "x.json", "x.jsonl", "x.csv", "x.extxyz", "x.cif.gz", "x.parquet", "x.jsonl.gz"]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.sampled_from(["H", "Cs", "Cl"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "lattice",
                    "species",
                    "frac_coords",
                    "structure",
                    "sites",
                    "data",
                    "attributes",
                    "material_id",
                    "atoms",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def mutations(n: int, seed_number: int) -> Iterator[BadInput]:
    """`n` inputs made by damage to sound files, every kind in turn."""
    for number in range(n):
        yield MUTATIONS[number % len(MUTATIONS)](random.Random(f"{seed_number}:{number}"))


def inventions(n: int, seed_number: int) -> list[BadInput]:
    """`n` inputs that hypothesis makes up: any bytes, any text, any JSON, under every ending."""
    found: list[BadInput] = []

    @seed(seed_number)
    @settings(
        max_examples=n, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(NAMES), st.one_of(st.binary(max_size=200), st.text(max_size=200), JSON_VALUES))
    def invent(name, content):
        if not isinstance(content, bytes):
            content = (content if isinstance(content, str) else json.dumps(content)).encode("utf-8", "surrogatepass")
        found.append(BadInput("generated by hypothesis", name, content))

    invent()
    return found


# --------------------------------------------------------------------------------------------- what must hold
def outcome(item: BadInput, folder) -> Outcome:
    """Try an input at every door; see the top of this file for what must hold."""
    path = folder / item.name
    path.write_bytes(item.content)
    answers = [
        _answer(lambda: list(read_structures([path])), item),
        _answer(lambda: list(import_file(path, PLAIN, "lab")), item),
    ]
    if not item.content.startswith(GZIP_MAGIC) and item.name.endswith((".cif", ".vasp", "POSCAR")):
        answers.append(_answer(lambda: [read_text(item.content, item.name)], item))
    path.unlink()
    complaint = next((a.complaint for a in answers if a.complaint), None)
    if complaint is None and len({a.answer for a in answers}) > 1:
        complaint = f"doors disagree: {[a.answer for a in answers]}"
    return Outcome(answers[0].answer, complaint)


def _answer(read, item: BadInput) -> Outcome:
    try:
        items = read()
    except MatscoutError as error:
        return Outcome("refused as a whole", None if "\n" not in str(error) else "an error of several lines")
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return Outcome("traceback", f"{type(error).__name__}: {error!s:.200}")
    told = []
    for found in items:
        if isinstance(found, Rejection):
            for text in (found.material_id, found.file, found.detail):
                text.encode()
            # whether an id is taken is each door's own: an import tells it when the snapshot is read
            told.append("read" if found.reason == "duplicate_id" else found.reason)
        elif fault := _changed(found, item):
            return Outcome("changed", fault)
        else:
            told.append("read")
    return Outcome(", ".join(sorted(set(told))) or "refused as a whole", None)


def _changed(record: Record, item: BadInput) -> str | None:
    """Why a crystal is another one than its text says, told without our reader; None where it is not."""
    counts = record.crystal.element_counts
    if item.counts is not None:
        return None if counts == item.counts else f"{counts} read from a file of {item.counts}"
    text = item.content if item.packed is None else item.packed
    text = text.decode("latin-1")
    if item.packed is not None:
        return (
            None
            if item.name[:-3] not in FILES or counts == FILES[item.name[:-3]][1]
            else f"{counts} out of a damaged gzip file"
        )
    if item.name.endswith(".cif"):
        return _contradicts_formula(counts, text)
    if item.name.endswith((".vasp", "POSCAR")):
        return _contradicts_poscar(counts, text)
    return None


def _contradicts_formula(counts: dict[str, int], text: str) -> str | None:
    """The file's own formula, read by a regular expression, against the crystal."""
    stated = re.findall(
        r"^\s*_chemical_formula_sum\s+(?:'([^'\n]*)'|\"([^\"\n]*)\"|([^\s'\"]+))\s*$", text, re.MULTILINE
    )
    if len(stated) != 1 or text.count("_chemical_formula_sum") != 1:
        return None
    formula: Counter[str] = Counter()
    for symbol, number in re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", "".join(stated[0])):
        formula["H" if symbol in {"D", "T"} else symbol] += Fraction(number or "1") if number != "." else 1
    ratios = {Fraction(counts.get(s, 0)) / n if n else None for s, n in formula.items()}
    tolerance = 0 if all(n.denominator == 1 for n in formula.values()) else Fraction(1, 50)  # of rounded formulas
    same = set(counts) == set(formula) and None not in ratios and max(ratios) - min(ratios) <= max(ratios) * tolerance
    return None if same else f"{counts} read from a file of {dict(formula)}"


def _contradicts_poscar(counts: dict[str, int], text: str) -> str | None:
    lines = text.splitlines()
    names, numbers = lines[5].split(), lines[6].split()
    if not all(name.isalpha() for name in names):
        return None
    stated: Counter[str] = Counter()
    for name, number in zip(names, numbers, strict=False):
        stated["H" if name in {"D", "T"} else name] += int(number)
    return None if +stated == Counter(counts) else f"{counts} read from a POSCAR of {dict(stated)}"


# -------------------------------------------------------------------------- what no file holds: pages, settings, notes
def page_outcome(number: int, seed_number: int) -> Outcome:
    """A page of a service with nodes replaced: every row a record or a rejection."""
    chance = random.Random(f"page {seed_number}:{number}")
    name = chance.choice(["materials_project", "aflow", "oqmd"])
    page = copy.deepcopy(sample_pages(name)[0])
    page = _few_rows(page)
    for _ in range(chance.randint(1, 3)):
        page = _mutated(page, chance)
    shape = FORMATS[_format_of(name)]
    try:
        items = list(parse_page(page, shape, source=name, file="page"))
    except (
        KeyError,
        TypeError,
        AttributeError,
    ) as error:  # a page of another shape: told by `read_snapshot` as one line
        return Outcome("page refused", None if isinstance(error, Exception) else "")
    except BaseException as error:  # noqa: BLE001
        return Outcome("traceback", f"{name}: {type(error).__name__}: {error!s:.200}")
    return Outcome("rows read or rejected" if items else "no rows", None)


def _few_rows(page):
    if isinstance(page, list):
        return page[:3]
    if "labels" in page:
        return {"labels": {"data": page["labels"]["data"][:3]}, "structures": {"data": page["structures"]["data"][:3]}}
    if "data" in page:
        return page | {"data": page["data"][:3]}
    return dict(list(page.items())[:3])


def _format_of(name: str) -> str:
    return read_manifest(ROOT / "data" / "sample" / name).format


def params_outcome(number: int, seed_number: int) -> Outcome:
    """`params.yaml` with nodes replaced: accepted, or one error that names the path."""
    chance = random.Random(f"params {seed_number}:{number}")
    tree = _mutated(yaml.safe_load((ROOT / "params.yaml").read_text()), chance)
    try:
        check_params(tree)
    except MatscoutError:
        return Outcome("refused with its path", None)
    except BaseException as error:  # noqa: BLE001
        return Outcome("traceback", f"{type(error).__name__}: {error!s:.200}")
    return Outcome("accepted", None)


def note_outcome(number: int, seed_number: int, folder) -> Outcome:
    """A download's journal or a manifest, damaged: read up to the damage, or refused in one line."""
    chance = random.Random(f"note {seed_number}:{number}")
    if number % 2:
        lines = [
            {"version": "v1"},
            *({"page": f"pages-{n:05d}.json.gz", "sha256": "0", "ids": [f"a{n}"], "next": {"p": n}} for n in range(3)),
        ]
        raw = bytearray("".join(json.dumps(line) + "\n" for line in lines).encode())
        path = folder / "journal.jsonl"
    else:
        raw = bytearray((ROOT / "data" / "sample" / "aflow" / "manifest.json").read_bytes())
        path = folder / "manifest.json"
    for _ in range(chance.randint(1, 3)):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    path.write_bytes(bytes(raw))
    try:
        if number % 2:
            journal = Journal(folder)
            answer = f"{len(journal.pages)} of 3 pages known"
            assert journal.ids <= {"a0", "a1", "a2"} or len(journal.ids) <= 3
            _ = journal.cursor, journal.is_finished, journal.version
        else:
            read_manifest(folder)
            answer = "read"
    except MatscoutError:
        answer = "refused as a whole"
    except BaseException as error:  # noqa: BLE001
        return Outcome("traceback", f"{type(error).__name__}: {error!s:.200}")
    finally:
        path.unlink(missing_ok=True)
    return Outcome(answer, None)
