"""CIF: one crystal of a file, checked against what the file itself states.

A CIF states its crystal twice: as sites with symmetry, and as a formula, a number of formula units, a density and a
volume. Nothing is guessed from the first alone: what the second contradicts is rejected, and an element, a setting or
an origin that the first leaves open is accepted only if the second decides it.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import moyopy
import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element, Lattice

from matscout.crystal import Crystal
from matscout.crystal_checks import MAX_ATOMS_READ
from matscout.sources.fields import make_crystal, to_element
from matscout.sources.record import RowError

TOKEN: Final = re.compile(
    r"""^;(?P<text>.*?)^;"""  # a text field
    r"""|(?<!\S)'(?P<single>[^\n]*?)'(?=\s|$)|(?<!\S)"(?P<double>[^\n]*?)"(?=\s|$)"""
    r"""|(?<!\S)\#[^\n]*|(?P<bare>\S+)""",
    re.MULTILINE | re.DOTALL,
)
LARGEST: Final = 1e6  # of any number that a cell is made of
ABSENT: Final = ("", "?", ".")
NUMBER: Final = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?:\(\d+\))?")
FRACTION: Final = re.compile(r"([-+]?)(\d+)/(\d+)")
OPERATOR_TERM: Final = re.compile(r"([+-]?)(?:(\d+(?:\.\d*)?|\.\d+)(?:/(\d+))?)?\*?([xyz]?)")
FORMULA_PART: Final = re.compile(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+)?")
TYPE_SYMBOL: Final = re.compile(r"([A-Za-z]{1,2})(?:\d*\.?\d*[+-]\d*|[+-]?\d*\.?\d*)")

STATED_ONCE: Final = ("_cell_", "_chemical_formula_sum", "_symmetry_", "_space_group_")
OPERATORS: Final = (
    "_space_group_symop_operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
)
MAGNETIC_OPERATORS: Final = ("_space_group_symop_magn_operation_xyz",)
MAGNETIC_CENTRINGS: Final = ("_space_group_symop_magn_centering_xyz",)
NAMES: Final = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m",
)
HALL_NAMES: Final = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
NUMBERS: Final = ("_space_group_it_number", "_symmetry_int_tables_number")
# Symbols from before 1992 for the glide plane e.
OLD_NAMES: Final = {
    "cmca": "cmce", "ccmb": "ccme", "abma": "aema", "acam": "aeam", "bbcm": "bbem", "bmab": "bmeb",
    "cmma": "cmme", "abmm": "aemm", "bmcm": "bmem", "ccca": "ccce", "abm2": "aem2", "aba2": "aea2",
}  # fmt: skip
OLD_CUBIC: Final = re.compile(r"([pfi][mnad])3(.*)")  # P m 3 m is P m -3 m
SPECIAL: Final = 0.25  # Å: images of one site nearer than this are one atom on a special position
ONE_SITE: Final = 0.01  # Å: two lines of one element nearer than this are one site written twice
NEAREST: Final = 0.5  # Å: a setting that brings atoms nearer is the wrong one
MOST_IMAGES: Final = 100_000  # of all sites under all operations
MOST_COMPARED: Final = 1000  # atoms between which distances are computed
METRIC_TOLERANCE: Final = 0.02  # relative: the operations must map the cell onto itself
VOLUME_TOLERANCE: Final = 0.03  # relative
RATIO_TOLERANCE: Final = 0.011  # relative: formulas are written with few digits
SAME_DENSITY: Final = (0.85, 1.18)
OTHER_DENSITY: Final = (0.7, 1.4)
MOST_READINGS: Final = 64  # ways to read ambiguous labels that are tried
GRAMS_PER_DALTON_PER_CUBIC_ANGSTROM: Final = 1.66053907  # g/cm³ of 1 Da/Å³


@dataclass(frozen=True)
class Block:
    """One data block: its name, its single values and its loops' columns, keys in lower case."""

    name: str
    items: Mapping[str, str]
    columns: Mapping[str, Sequence[str]]

    def first(self, keys: Sequence[str]) -> str | None:
        """The first of `keys` with a value; None if there is none."""
        for key in keys:
            value = self.items.get(key) or next(iter(self.columns.get(key, ())), None)
            if value is not None and value not in ABSENT:
                return value
        return None


@dataclass(frozen=True)
class Statement:
    """What a file states about its crystal as a whole; None = not stated."""

    formula: Mapping[str, float] | None
    units: float | None
    density: float | None
    volume: float | None


@dataclass(frozen=True)
class Site:
    """One line of the list of atoms: what is written of the element, and the fractional position."""

    label: str
    symbol: str | None
    position: NDArray[np.float64]


Operations = tuple[NDArray[np.float64], NDArray[np.float64]]  # (n, 3, 3) rotations, (n, 3) translations


def parse_cif(text: str) -> Crystal:
    """The crystal of a CIF that holds one.

    Args:
        text: text of the file.

    Returns:
        The cell, Å.

    Raises:
        RowError: none or several crystals, a cell that is not ordered and whole, or one that contradicts what the
            file says of it.
    """
    blocks = [block for block in read_blocks(text) if "_atom_site_fract_x" in block.columns]
    if not blocks:
        raise RowError(
            "unreadable_structure", "no data block holds atoms (_atom_site_fract_x in a loop); export it again"
        )
    if len(blocks) > 1:
        names = ", ".join(block.name for block in blocks[:5])
        detail = f"{len(blocks)} data blocks hold crystals ({names}); write one crystal per file"
        raise RowError("several_crystals", detail)
    return crystal_of(blocks[0])


def crystal_of(block: Block) -> Crystal:
    """The crystal of one block, by the first set of symmetry operations that fits all that the block says."""
    lattice = _lattice(block)
    sites = _sites(block)
    statement = _statement(block)
    _check_volume(lattice, statement)
    found: list[Crystal] = []
    faults: list[RowError] = []
    for operations, is_certain in _settings(block, lattice):
        try:
            crystal = _fitting(lattice, sites, operations, statement, is_certain=is_certain)
        except RowError as error:
            faults.append(error)
            continue
        if is_certain:
            return crystal
        found.append(crystal)
    if not found:
        raise faults[0]
    if len({crystal.n_atoms for crystal in found}) > 1 or len(found) > 1:
        rule = "the operations are absent and the name fits several settings or origins"
        raise RowError("symmetry_unclear", f"{block.first(NAMES)}: {rule}; list _space_group_symop_operation_xyz")
    return found[0]


# --------------------------------------------------------------------------------------------- text to blocks
def read_blocks(text: str) -> list[Block]:
    """Every data block.

    Raises:
        RowError: a loop whose values do not fill its rows.
    """
    blocks: list[Block] = []
    tokens = _tokens(text)
    items: dict[str, str] = {}
    columns: dict[str, list[str]] = {}
    names: list[str] | None = None  # of the loop that is being read
    values: list[str] = []
    key = ""
    for token, is_bare in tokens:
        word = token.lower() if is_bare else ""
        if word.startswith(("data_", "loop_")) or (word.startswith("_") and (names is None or values)):
            if names is not None and (values or not word.startswith("_")):
                _end_loop(names, values, columns)
                names, values = None, []
            if word.startswith("data_"):
                items, columns, key = {}, {}, ""
                blocks.append(Block(token[5:], items, columns))
            elif word.startswith("loop_"):
                names, values, key = [], [], ""
            else:
                key = _key(word)
        elif names is not None and word.startswith("_"):
            names.append(_key(word))
        elif names is not None:
            values.append(token)
        elif key:
            _keep(items, key, token)
            key = ""
    if names is not None:
        _end_loop(names, values, columns)
    return blocks


def _keep(items: dict[str, str], key: str, value: str) -> None:
    """Add a value; what a crystal is made of may be stated twice only if it is the same."""
    known = items.get(key, "")
    if value in ABSENT and known not in ABSENT:
        return
    if known not in ABSENT and known != value and key.startswith(STATED_ONCE):
        raise RowError("structure_malformed", f"{key} is {known!r:.40} and {value!r:.40}; state it once")
    items[key] = value


def _tokens(text: str) -> Iterator[tuple[str, bool]]:
    for match in TOKEN.finditer(text):
        if match.lastgroup is not None:
            yield match.group(match.lastgroup).strip(), match.lastgroup == "bare"


def _key(word: str) -> str:
    return word.replace(".", "_")  # the dotted names of DDLm are the same


def _end_loop(names: list[str], values: list[str], columns: dict[str, list[str]]) -> None:
    if not names:
        return
    if len(values) % len(names):
        if any(name.startswith(("_atom_site_fract", *OPERATORS)) for name in names):
            detail = f"{len(values)} values in a loop of {len(names)} columns ({names[0]}, ...); the file is cut off"
            raise RowError("structure_malformed", detail)
        return  # a loop that is not read
    read = {name: values[start :: len(names)] for start, name in enumerate(names)}
    if twice := [name for name in names if name in columns and name.startswith("_atom_site_")]:
        raise RowError("structure_malformed", f"two lists of atoms ({twice[0]}); write one")
    if twice := [name for name in OPERATORS if columns.get(name, read.get(name)) != read.get(name, columns.get(name))]:
        raise RowError("structure_malformed", f"two different lists of operations ({twice[0]}); write one")
    columns |= read


# ----------------------------------------------------------------------------------------- blocks to values
def _number(value: str | None, what: str) -> float | None:
    """`5.4309(2)` as 5.4309; None if absent."""
    if value is None or value in ABSENT:
        return None
    found = NUMBER.fullmatch(value)
    if found and abs(float(found[1])) < LARGEST:
        return float(found[1])
    if fraction := FRACTION.fullmatch(value):
        return float(f"{fraction[1]}1") * int(fraction[2]) / max(int(fraction[3]), 1)
    raise RowError("not_a_number", f"{what} = {value!r:.40} must be a number of ordinary size")


def _lattice(block: Block) -> NDArray[np.float64]:
    names = [
        f"_cell_{part}" for part in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    ]
    values = [_number(block.first([name]), name) for name in names]
    missing = [name for name, value in zip(names, values, strict=True) if value is None]
    if missing:
        raise RowError("lattice_missing", f"{missing[0]} is absent; a crystal needs its cell")
    a, b, c, *angles = (float(value or 0) for value in values)
    if min(a, b, c) <= 0 or max(a, b, c) > 1e4 or not all(0 < angle < 180 for angle in angles):
        raise RowError("zero_volume", f"cell {a:g} {b:g} {c:g} Å, {angles}°: lengths and angles must span a volume")
    alpha, beta, gamma = np.cos(np.radians(angles))
    if 1 - alpha**2 - beta**2 - gamma**2 + 2 * alpha * beta * gamma <= 1e-9:
        raise RowError("zero_volume", f"the angles {angles}° span no volume; check them")
    return np.array(Lattice.from_parameters(a, b, c, *angles).matrix)


def _sites(block: Block) -> list[Site]:
    xyz = [block.columns.get(f"_atom_site_fract_{axis}") for axis in "xyz"]
    if any(axis is None for axis in xyz):
        raise RowError("coordinates_missing", "_atom_site_fract_y or _z is absent")
    n_lines = len(xyz[0] or ())
    if n_lines > MAX_ATOMS_READ:
        raise RowError("too_many_atoms", f"{n_lines} sites; at most {MAX_ATOMS_READ} are read")
    if block.first(["_cell_modulation_dimension"]) not in {None, "0"}:
        raise RowError("disordered", "the structure is modulated; matscout needs an ordered cell")
    lines = [_site(block, row) for row in range(n_lines)]
    groups = block.columns.get("_atom_site_disorder_group", [""] * n_lines)
    groups = {group for group, site in zip(groups, lines, strict=True) if site is not None and group not in ABSENT}
    if len(groups) > 1 or any(group.startswith("-") for group in groups):
        raise RowError("disordered", f"sites of the disorder groups {sorted(groups)[:5]} exclude each other; keep one")
    if not (sites := [site for site in lines if site is not None]):
        raise RowError("no_atoms", "the cell holds no atom")
    return sites


def _site(block: Block, row: int) -> Site | None:
    """One line of the list of atoms; None for a dummy and for a site that nothing occupies."""

    def value(name: str) -> str:
        column = block.columns.get(f"_atom_site_{name}")
        return "" if column is None else column[row]

    label, symbol = value("label"), value("type_symbol")
    name = label or symbol
    occupancy = _number(value("occupancy"), f"{name}: occupancy")
    if occupancy == 0 or value("calc_flag").lower() == "dum":
        return None
    if occupancy is not None and abs(occupancy - 1) > 1e-3:
        raise RowError("disordered", f"site {name} has the occupancy {occupancy:g}; give an ordered cell")
    if hydrogens := _number(value("attached_hydrogens"), f"{name}: attached hydrogens"):
        raise RowError("hydrogens_missing", f"site {name} carries {hydrogens:g} hydrogens without positions")
    position = [_number(value(f"fract_{axis}"), f"{name}: coordinate") for axis in "xyz"]
    if any(part is None for part in position):
        raise RowError("coordinates_missing", f"site {name} has no position; every atom needs one")
    return Site(label, symbol if symbol not in ABSENT else None, np.array(position, dtype=float))


def _statement(block: Block) -> Statement:
    return Statement(
        formula=_formula(block.first(["_chemical_formula_sum"])),
        # pymatgen writes 0 for half a formula unit: one atom of an element whose molecule has two
        units=_number(block.first(["_cell_formula_units_z"]), "_cell_formula_units_Z") or None,
        density=_soft_number(block.first(["_exptl_crystal_density_diffrn"])),
        volume=_soft_number(block.first(["_cell_volume"])),
    )


def _soft_number(value: str | None) -> float | None:
    """A number that only confirms others; one that cannot be read counts as absent."""
    found = NUMBER.match(value or "")
    return float(found[1]) if found and float(found[1]) > 0 else None


def _formula(text: str | None) -> dict[str, float] | None:
    """Atoms by element in `_chemical_formula_sum`; None if absent."""
    if text is None:
        return None
    counts: dict[str, float] = {}
    for part in re.split(r"[\s,]+", text.strip(" '\"")):
        parts = [part] if FORMULA_PART.fullmatch(part) else [found[0] for found in FORMULA_PART.finditer(part)]
        if "".join(parts) != part:
            raise RowError(
                "formula_unreadable", f"_chemical_formula_sum {text!r:.60} is not a list of elements and counts"
            )
        for one in parts:
            symbol, number = FORMULA_PART.fullmatch(one).groups()  # type: ignore[union-attr]
            element = to_element(symbol)
            if element is None:
                raise RowError("formula_unreadable", f"_chemical_formula_sum {text!r:.60}: {symbol} is not an element")
            counts[element] = counts.get(element, 0) + float(number or 1)
    return {element: number for element, number in counts.items() if number > 0}


# ------------------------------------------------------------------------------------------------- symmetry
def _settings(block: Block, lattice: NDArray[np.float64]) -> Iterator[tuple[Operations, bool]]:
    """Sets of symmetry operations that may be meant, and whether one needs no further proof.

    Operations that the file lists are certain, unless their number is not that of the group that it names: then they
    must be proven by formula and formula units or density, as names are that leave the setting open.
    """
    listed = _listed(block)
    named = [_fit_to(lattice, operations) for operations in _named(block)]
    known = [operations for operations in named if operations is not None]
    if listed is not None:
        operations = listed
        orders = {len(rotations) for rotations, _ in known}
        if not _preserves(lattice, operations):
            raise RowError("symmetry_disagrees", "the symmetry operations do not map the cell onto itself")
        if _is_group(operations) and (not orders or len(operations[0]) in orders):
            yield operations, True
            return
        yield operations, False
    elif not named:
        if block.first((*NAMES, *HALL_NAMES, *NUMBERS)) is not None:
            name = block.first((*NAMES, *HALL_NAMES, *NUMBERS))
            raise RowError("symmetry_unclear", f"space group {name!r:.40} is not known, and no operations are listed")
        yield (np.eye(3)[None], np.zeros((1, 3))), False
    elif not known:
        raise RowError(
            "symmetry_disagrees", f"space group {block.first(NAMES)!r:.40} does not fit the cell's lengths and angles"
        )
    certain = len(known) == 1 and listed is None
    for operations in known:
        yield operations, certain


def _listed(block: Block) -> Operations | None:
    """The operations that the file lists; of a magnetic group those of its crystal, without time reversal."""
    for key in OPERATORS:
        if texts := block.columns.get(key) or ((single := block.first([key])) and (single,)):
            return _parse_operators(tuple(texts))
    if not (magnetic := next((block.columns[key] for key in MAGNETIC_OPERATORS if key in block.columns), None)):
        return None
    rotations, shifts = _parse_operators(tuple(text.rpartition(",")[0] for text in magnetic))
    centred = next((block.columns[key] for key in MAGNETIC_CENTRINGS if key in block.columns), ["x,y,z,+1"])
    _, more = _parse_operators(tuple(text.rpartition(",")[0] for text in centred))
    return np.tile(rotations, (len(more), 1, 1)), np.concatenate([shifts + shift for shift in more])


def _named(block: Block) -> list[Operations]:
    """Operations of every setting that the file's Hall symbol, name and number may mean.

    Where they agree, what all of them allow; where they contradict each other, what any of them does.
    """
    hall, name = block.first(HALL_NAMES), block.first(NAMES)
    number = _number(block.first(NUMBERS), "space group number")
    found: tuple[int, ...] = ()
    for meant in (
        ()
        if hall is None or (plain := _plain(hall).replace("=", '"')) not in _hall_table()
        else (_hall_table()[plain],),
        () if name is None else settings_of(name),
        () if number is None else tuple(entry.hall_number for entry in _entries() if entry.number == number),
    ):
        shared = tuple(hall_number for hall_number in found if hall_number in meant)
        found = shared or (*found, *meant)
    return [_operations_of(hall_number) for hall_number in found]


def settings_of(name: str) -> tuple[int, ...]:
    """Hall numbers that a Hermann-Mauguin symbol may mean: `F d -3 m:2`, `P 21/n`, `P m 3 m`; empty where unknown."""
    words, _, choice = name.strip().strip("'\"").partition(":")
    words = words.strip()
    if not choice and (suffix := re.fullmatch(r"(.*\S)\s+([SZHR])", words)):
        words, choice = suffix[1], {"S": "1", "Z": "2"}.get(suffix[2], suffix[2])
    plain = _plain(words)
    if old := OLD_CUBIC.fullmatch(plain):
        plain = f"{old[1]}-3{old[2]}"
    found = _name_table().get(OLD_NAMES.get(plain, plain), ())
    choice = choice.strip().upper()
    if choice:
        exact = tuple(number for number in found if str(_entries()[number - 1].setting).upper() == choice)
        return exact or (found if len(found) == 1 else ())
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\s_()]", "", name).lower()


@lru_cache(maxsize=1)
def _entries() -> list[moyopy.HallSymbolEntry]:
    return [moyopy.HallSymbolEntry(number) for number in range(1, 531)]


@lru_cache(maxsize=1)
def _hall_table() -> dict[str, int]:
    return {_plain(entry.hall_symbol).replace("=", '"'): entry.hall_number for entry in _entries()}  # 2" is moyo's 2=


@lru_cache(maxsize=1)
def _name_table() -> dict[str, tuple[int, ...]]:
    """Hall numbers by plain name: the full symbol, it without the axes `1`, and the short one."""
    table: dict[str, dict[int, None]] = {}
    for entry in _entries():
        names = {_plain(entry.hm_full), _plain(" ".join(part for part in entry.hm_full.split() if part != "1"))}
        if not 3 <= entry.number <= 15:  # there the short symbol names several settings alike
            names.add(_plain(entry.hm_short))
        for name in names:
            table.setdefault(name, {})[entry.hall_number] = None
    return {name: tuple(numbers) for name, numbers in table.items()}


@lru_cache(maxsize=64)
def _operations_of(hall_number: int) -> Operations:
    setting = moyopy.Setting.hall_number(hall_number)
    found = moyopy.operations_from_number(_entries()[hall_number - 1].number, setting=setting)
    return np.array(found.rotations, dtype=float), np.array(found.translations, dtype=float)


@lru_cache(maxsize=256)
def _parse_operators(texts: tuple[str, ...]) -> Operations:
    parsed = [_parse_operator(text) for text in dict.fromkeys(texts)]
    if len(parsed) > 192:
        raise RowError("symmetry_disagrees", f"{len(parsed)} symmetry operations; no space group has more than 192")
    return np.array([rotation for rotation, _ in parsed]), np.array([shift for _, shift in parsed])


def _parse_operator(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`-y, x-y, z+1/3` as a rotation and a translation."""
    parts = text.strip("'\" ").lower().replace(" ", "").split(",")
    rotation, shift = np.zeros((3, 3)), np.zeros(3)
    for row, part in enumerate(parts[:3]):
        position = 0
        while position < len(part):
            found = OPERATOR_TERM.match(part, position)
            if found is None or found.end() == position or not (found[2] or found[4]):
                break
            value = float(f"{found[1]}1") * float(found[2] or 1) / float(found[3] or 1)
            if found[4]:
                rotation[row, "xyz".index(found[4])] += value
            else:
                shift[row] += value
            position = found.end()
        if position < len(part) or not part:
            raise RowError(
                "structure_malformed", f"{text!r:.60} is not a symmetry operation; write it as 'x, y, z+1/2'"
            )
    if len(parts) != 3 or abs(abs(np.linalg.det(rotation)) - 1) > 1e-6:
        raise RowError("structure_malformed", f"{text!r:.60} is not a symmetry operation; write it as 'x, y, z+1/2'")
    return rotation, shift


def _preserves(lattice: NDArray[np.float64], operations: Operations) -> bool:
    """Whether every rotation leaves lengths and angles of the cell as they are."""
    metric = lattice @ lattice.T
    scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    turned = np.einsum("nji,jk,nkl->nil", operations[0], metric, operations[0])
    return bool((np.abs(turned - metric) <= METRIC_TOLERANCE * scale).all())


def _is_group(operations: Operations) -> bool:
    """Whether the product of any two operations is in the list: one that lost a line is not a group."""
    rotations, shifts = operations
    products = np.einsum("aij,bjk->abik", rotations, rotations).reshape(-1, 9)
    moved = (np.einsum("aij,bj->abi", rotations, shifts) + shifts[:, None]).reshape(-1, 3)
    return bool(np.isin(_codes(products, moved), _codes(rotations.reshape(-1, 9), shifts)).all())


def _codes(rotations: NDArray[np.float64], shifts: NDArray[np.float64]) -> NDArray[np.int64]:
    """A number an operation, shifts in 24ths of the cell: `.3333` is 1/3."""
    turns = (np.rint(rotations).astype(np.int64) + 20) @ 41 ** np.arange(9)
    return turns * 24**3 + np.rint(shifts * 24).astype(np.int64) % 24 @ np.array([576, 24, 1])


def _fit_to(lattice: NDArray[np.float64], operations: Operations) -> Operations | None:
    return operations if _preserves(lattice, operations) else None


# ------------------------------------------------------------------------------------------------ the crystal
def _fitting(
    lattice: NDArray[np.float64], sites: list[Site], operations: Operations, statement: Statement, *, is_certain: bool
) -> Crystal:
    """The crystal of these operations, if the file's statement allows it; if not certain, only if it proves it."""
    if len(sites) * len(operations[0]) > MOST_IMAGES:
        detail = f"{len(sites)} sites in {len(operations[0])} images; at most {MOST_IMAGES} images are computed"
        raise RowError("too_many_atoms", detail)
    orbits = [_orbit(site.position, lattice, operations) for site in sites]
    if (n_atoms := sum(map(len, orbits))) > MAX_ATOMS_READ:
        raise RowError("too_many_atoms", f"{n_atoms} atoms; at most {MAX_ATOMS_READ} are read")
    elements = _elements(sites, [len(orbit) for orbit in orbits], statement)
    species = [element for element, orbit in zip(elements, orbits, strict=True) for _ in orbit]
    positions = np.concatenate(orbits)
    kept = _without_repeats(species, positions, lattice, has_formula=statement.formula is not None)
    crystal = make_crystal(lattice, [species[row] for row in kept], positions[kept])
    is_proven = _check_contents(crystal, statement)
    if not is_certain:
        if not is_proven:
            rule = "the symmetry is absent or leaves a choice, and no formula with Z or density decides it"
            raise RowError("symmetry_unclear", f"{rule}; list _space_group_symop_operation_xyz")
        if _are_too_near(crystal):
            raise RowError("symmetry_unclear", f"with the stated space group, atoms are closer than {NEAREST:g} Å")
    return crystal


def _orbit(position: NDArray[np.float64], lattice: NDArray[np.float64], operations: Operations) -> NDArray[np.float64]:
    """(m, 3) images of a site; one that lies nearly on a special position is moved onto it first."""
    rotations, shifts = operations
    images = rotations @ position + shifts
    offset = images - position
    offset -= np.round(offset)
    stays = np.linalg.norm(offset @ lattice, axis=1) < SPECIAL
    if stays.any():
        position = position + offset[stays].mean(axis=0)
    images = (rotations @ position + shifts) % 1.0
    away = images[:, None] - images[None]
    away -= np.round(away)
    is_near = np.linalg.norm(away @ lattice, axis=2) < SPECIAL
    return images[~np.tril(is_near, k=-1).any(axis=1)]


def _without_repeats(
    species: list[str], positions: NDArray[np.float64], lattice: NDArray[np.float64], *, has_formula: bool
) -> list[int]:
    """Rows of the atoms, each once; an atom that is listed twice is recognised only with a formula."""
    if len(species) > MOST_COMPARED:
        return list(range(len(species)))
    near = _near_pairs(positions, lattice, ONE_SITE)
    if not len(near):
        return list(range(len(species)))
    first, second = near[0]
    if not has_formula or any(species[a] != species[b] for a, b in near):
        detail = f"{species[first]} and {species[second]} share a position; list each site once"
        raise RowError("sites_overlap", detail)
    repeated = {int(pair[1]) for pair in near}
    return [row for row in range(len(species)) if row not in repeated]


def _near_pairs(positions: NDArray[np.float64], lattice: NDArray[np.float64], limit: float) -> NDArray[np.int64]:
    first, second = np.triu_indices(len(positions), k=1)
    away = positions[first] - positions[second]
    away -= np.round(away)
    near = np.linalg.norm(away @ lattice, axis=1) < limit
    return np.column_stack([first[near], second[near]])


def _are_too_near(crystal: Crystal) -> bool:
    is_comparable = crystal.n_atoms <= MOST_COMPARED
    return is_comparable and len(_near_pairs(crystal.frac_coords, crystal.lattice, NEAREST)) > 0


# --------------------------------------------------------------------------------------------------- elements
def _elements(sites: list[Site], multiplicities: list[int], statement: Statement) -> list[str]:
    """The element of each site, from its type symbol, else from its label and the formula."""
    options = [_options(site, statement.formula) for site in sites]
    open_labels = sorted(
        {(_letters(site.label), choice) for site, choice in zip(sites, options, strict=True) if len(choice) > 1}
    )
    if not open_labels:
        return [choice[0] for choice in options]
    readings = []
    for picked in itertools.islice(itertools.product(*(choice for _, choice in open_labels)), MOST_READINGS + 1):
        by_letters = dict(zip((letters for letters, _ in open_labels), picked, strict=True))
        elements = [
            choice[0] if len(choice) == 1 else by_letters[_letters(site.label)]
            for site, choice in zip(sites, options, strict=True)
        ]
        counts: Counter[str] = Counter()
        for element, number in zip(elements, multiplicities, strict=True):
            counts[element] += number
        if statement.formula is not None and _same_ratios(counts, statement.formula):
            readings.append(elements)
    if len(readings) != 1:
        letters, choice = open_labels[0]
        detail = f"label {letters!r} may be {' or '.join(choice)}; add _atom_site_type_symbol"
        raise RowError("element_unclear", detail)
    return readings[0]


def _options(site: Site, formula: Mapping[str, float] | None) -> tuple[str, ...]:
    """Elements that a site may be; one where the file says it."""
    if site.symbol is not None:
        found = TYPE_SYMBOL.fullmatch(site.symbol)
        element = to_element(found[1].capitalize()) if found else None
        if element is None:
            raise RowError("unknown_element", f"site {site.label}: type symbol {site.symbol!r:.20} is not an element")
        letters = found[1] if found else ""
        is_plain = letters in {element, "D", "T"} or _letters(site.label) == element or formula is not None
        if not is_plain and all(to_element(letter.upper()) for letter in letters):  # CO, HO, NO, CN: two atoms or one
            detail = f"site {site.label}: type symbol {letters!r} is one element or two; write {element} or a formula"
            raise RowError("element_unclear", detail)
        return (element,)
    letters = _letters(site.label)
    two, one = to_element(letters[:2].capitalize()) if len(letters) > 1 else None, to_element(letters[:1].upper())
    choice = tuple(element for element in dict.fromkeys((two, one)) if element is not None)
    if formula is not None:
        choice = tuple(element for element in choice if element in formula)
        is_plain = len(letters) == 2 and letters[1].islower() and two in choice
        if is_plain:
            choice = tuple(element for element in choice if element == two)
    elif letters[:1].isupper() and to_element(letters) is not None:
        choice = (str(to_element(letters)),)  # exactly a symbol, such as `Na1`
    elif not (len(letters) == 2 and len(choice) == 1 and two is not None):  # `MG1` is unambiguous
        detail = f"label {site.label!r:.20} is not a plain symbol; add _atom_site_type_symbol or _chemical_formula_sum"
        raise RowError("element_unclear", detail)
    if not choice:
        known = " ".join(formula or ())
        raise RowError(
            "unknown_element",
            f"label {site.label!r:.20} is not an element of the formula {known}; add _atom_site_type_symbol",
        )
    return choice


def _letters(label: str) -> str:
    return re.match(r"[A-Za-z]*", label)[0]  # type: ignore[index]


# ------------------------------------------------------------------------------------- the file's own statement
def _check_volume(lattice: NDArray[np.float64], statement: Statement) -> None:
    volume = abs(float(np.linalg.det(lattice)))
    if statement.volume is not None and abs(volume / statement.volume - 1) > VOLUME_TOLERANCE:
        detail = (
            f"lengths and angles span {volume:.2f} Å³, but _cell_volume is {statement.volume:.2f}; one of them is wrong"
        )
        raise RowError("cell_disagrees", detail)


def _same_ratios(counts: Mapping[str, int], formula: Mapping[str, float]) -> bool:
    if set(counts) != set(formula):
        return False
    ratios = [counts[element] / formula[element] for element in formula]
    is_whole = all(number == int(number) for number in formula.values())
    return max(ratios) - min(ratios) <= (1e-9 if is_whole else RATIO_TOLERANCE) * max(ratios)


def _check_contents(crystal: Crystal, statement: Statement) -> bool:
    """Reject a cell that formula, formula units or density contradict; True where they prove it."""
    counts = crystal.element_counts
    is_dense = _has_density(crystal, statement.density)
    if statement.formula is None:
        if is_dense is False:
            raise RowError("density_disagrees", _density_detail(crystal, statement.density))
        return False
    if not _same_ratios(counts, statement.formula):
        raise _formula_fault(counts, statement.formula)
    reduced = crystal.n_atoms / math.gcd(*counts.values())
    units = {crystal.n_atoms / sum(statement.formula.values()), crystal.n_atoms / reduced}
    has_units = statement.units is not None and any(
        abs(u / statement.units - 1) < RATIO_TOLERANCE for u in units if statement.units
    )
    if statement.units is not None and not has_units and not is_dense:
        found = " or ".join(f"{unit:g}" for unit in sorted(units))
        detail = f"the cell holds {found} formula units, but _cell_formula_units_Z is {statement.units:g}"
        raise RowError("formula_units_disagree", f"{detail}; check symmetry and sites")
    if statement.units is None and is_dense is False:
        raise RowError("density_disagrees", _density_detail(crystal, statement.density))
    return has_units or bool(is_dense)


def _formula_fault(counts: Mapping[str, int], formula: Mapping[str, float]) -> RowError:
    found = " ".join(f"{element}{number}" for element, number in sorted(counts.items()))
    stated = " ".join(f"{element}{number:g}" for element, number in sorted(formula.items()))
    detail = f"the sites give {found}, but _chemical_formula_sum is {stated}"
    heavy = ({e: n for e, n in counts.items() if e != "H"}, {e: n for e, n in formula.items() if e != "H"})
    if "H" in formula and heavy[0] and _same_ratios(*heavy):
        ratio = next(heavy[0][element] / heavy[1][element] for element in heavy[1])
        if counts.get("H", 0) < ratio * formula["H"]:
            return RowError("hydrogens_missing", f"{detail}: hydrogens have no positions; add them")
    return RowError("composition_disagrees", f"{detail}; check symbols, symmetry and sites")


def _mass_density(crystal: Crystal) -> float:
    """g/cm³."""
    mass = sum(float(Element(element).atomic_mass) * number for element, number in crystal.element_counts.items())
    return GRAMS_PER_DALTON_PER_CUBIC_ANGSTROM * mass / crystal.volume


def _has_density(crystal: Crystal, stated: float | None) -> bool | None:
    """Whether the density is the stated one; None if it is not stated or not decisive."""
    if stated is None:
        return None
    ratio = _mass_density(crystal) / stated
    if SAME_DENSITY[0] < ratio < SAME_DENSITY[1]:
        return True
    return None if OTHER_DENSITY[0] < ratio < OTHER_DENSITY[1] else False


def _density_detail(crystal: Crystal, stated: float | None) -> str:
    return f"the sites give {_mass_density(crystal):.2f} g/cm³, but _exptl_crystal_density_diffrn is {stated}"
