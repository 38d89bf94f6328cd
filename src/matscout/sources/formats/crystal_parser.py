"""The one reader of crystals: from the text of a file, or a document, to a crystal or the reason of its rejection.

Everything reads through here: `matscout predict` and `screen`, `data/own_candidates/`, every importer, the served model
and the Python API. So a text gives the same crystal, or the same rejection, everywhere. Documents are read as plain
JSON: a `@module` or `@class` in them is never imported.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import MAX_ATOMS_READ
from matscout.sources.fields import (
    flag,
    make_crystal,
    parse_json,
    required,
    to_element,
    to_fractional,
    to_number,
)
from matscout.sources.formats.cif import parse_cif
from matscout.sources.record import RowError

MAX_BYTES: Final = 16 << 20  # of one structure as text; published CIFs carry their reflections in some megabytes
VACUUM: Final = 10.0  # Å without an atom across a whole cell; PBE leaves up to 8.5 between the layers of known crystals
MAX_DEPTH: Final = 4  # of documents that hold a document

CELL_TOLERANCE: Final = 0.01  # relative, between vectors and the lengths, angles and volume beside them
SAME_PLACE: Final = 0.1  # Å, between fractional and Cartesian coordinates of one site
PARAMETERS: Final = ("a", "b", "c", "alpha", "beta", "gamma")
INTEGER: Final = re.compile(r"\d+")
FORMULA_PART: Final = re.compile(r"([A-Z][a-z]?)(\d*)")


def parse_text(content: str | bytes) -> Crystal:
    """The crystal of a file's text: CIF, POSCAR or JSON, recognised by its content.

    Args:
        content: the text, or its bytes.

    Returns:
        The cell, Å.

    Raises:
        RowError: it holds none, several, or one that is not an ordered bulk crystal written whole.
    """
    if len(content) > MAX_BYTES:
        raise RowError(
            "too_large", f"{len(content) / 1e6:.0f} MB of text; one crystal has at most {MAX_BYTES / 1e6:.0f} MB"
        )
    text = decode(content) if isinstance(content, bytes) else content.removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise RowError("empty_file", "the file holds nothing")
    return _KINDS[kind_of(text)](text)


def kind_of(text: str) -> str:
    """`json`, `cif` or `poscar`: what the text of one structure is."""
    start = text.lstrip()
    if start[:1] in {"{", "["} or start[:1] == '"':
        return "json"
    is_cif = re.search(r"^\s*(data_|loop_|_cell_|_atom_site)", text, re.MULTILINE | re.IGNORECASE)
    return "cif" if is_cif else "poscar"


def decode(raw: bytes) -> str:
    """Text of a file: UTF-8 or as a byte-order mark states, else Latin-1, in which every byte is a letter."""
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if raw.startswith(mark):
            return raw.decode(encoding, errors="replace")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def parse_document(document: Any, depth: int = 0) -> Crystal:
    """The crystal of a JSON value: one of pymatgen, JARVIS, OPTIMADE or ours, text of a file, or a row with one.

    Raises:
        RowError: as `parse_text`.
    """
    if isinstance(document, str | bytes):
        return parse_text(document)
    if not isinstance(document, Mapping) or depth > MAX_DEPTH:
        raise RowError("structure_malformed", f"{document!r:.60} is not a structure; give CIF text or a pymatgen dict")
    for parse, keys in _DOCUMENTS.items():
        if keys <= document.keys():
            return parse(document)
    for key in ("structure", "atoms", "attributes", "cif", "poscar", "data", "final_structure"):
        if document.get(key) is not None:
            return parse_document(document[key], depth + 1)
    missing = [key for key in columns.CRYSTAL if document.get(key) is None]
    detail = f"{', '.join(missing)} absent or null; a record needs a whole crystal, or a key `structure`"
    raise RowError("structure_missing", detail)


def parse_cif_text(text: Any) -> Crystal:
    """The crystal of CIF text alone; see `parse_text`."""
    if not isinstance(text, str | bytes):
        raise RowError("structure_missing", f"{text!r:.60} is not CIF text")
    return parse_text(text)


# --------------------------------------------------------------------------------------------------- POSCAR
def parse_poscar(text: str) -> Crystal:
    """Read a POSCAR or CONTCAR of VASP 5 and later, which names the elements.

    Args:
        text: text of the file.

    Returns:
        The cell, Å.

    Raises:
        RowError: the element names are absent, or the file is cut off.
    """
    lines = text.splitlines()
    try:
        scales = [float(word) for word in _words(lines, 1)[:3] if _is_number(word)]
        rows = [[float(word) for word in _words(lines, row)[:3]] for row in (2, 3, 4)]
    except (ValueError, IndexError) as error:
        raise RowError(
            "unreadable_structure", f"no POSCAR, CIF or JSON: lines 2 to 5 must hold a scale and a cell ({error!s:.80})"
        ) from error
    if any(len(row) != 3 for row in rows) or len(scales) not in {1, 3}:
        raise RowError("unreadable_structure", "no POSCAR, CIF or JSON: lines 2 to 5 must hold a scale and a cell")
    lattice, scale = _scaled(np.array(rows), scales)
    words = _words(lines, 5)
    has_names = bool(words) and not INTEGER.fullmatch(words[0])
    counts = _counts(_words(lines, 6) if has_names else words)
    n_atoms = sum(counts)
    if n_atoms > MAX_ATOMS_READ:
        raise RowError("too_many_atoms", f"{n_atoms} atoms; at most {MAX_ATOMS_READ} are read")
    row = 7 if has_names else 6
    is_selective = _words(lines, row)[:1] != [] and _words(lines, row)[0][0] in "Ss"
    row += is_selective
    mode = (_words(lines, row) or ["?"])[0][0].lower()
    if mode not in "cdkf":
        raise RowError("unreadable_structure", f"line {row + 1} must be Direct or Cartesian")
    body = [_words(lines, number) for number in range(row + 1, row + 1 + n_atoms)]
    if any(len(words_of) < 3 for words_of in body):
        n_whole = sum(len(words_of) >= 3 for words_of in body)
        raise RowError("truncated_file", f"{n_whole} of {n_atoms} positions are there; copy the file again")
    species = _poscar_species(words if has_names else None, counts, body, after=6 if is_selective else 3)
    _check_end(lines[row + 1 + n_atoms :])
    try:
        positions = np.array([[float(word) for word in words_of[:3]] for words_of in body])
    except ValueError as error:
        raise RowError("coordinates_malformed", f"a position is not a number ({error!s:.80})") from error
    if mode in "ck":
        return make_crystal(lattice, species, to_fractional(positions * scale, lattice))
    return make_crystal(lattice, species, positions)


def _words(lines: list[str], number: int) -> list[str]:
    return re.split(r"[!#]", lines[number], maxsplit=1)[0].split() if number < len(lines) else []


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _scaled(rows: NDArray[np.float64], scales: list[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lattice, and by what Cartesian positions are multiplied; a negative scale is the volume."""
    if not np.isfinite(rows).all() or not np.isfinite(scales).all() or not all(scales):
        raise RowError("lattice_not_finite", "scale and cell must be finite numbers, the scale not zero")
    if len(scales) == 1 and scales[0] < 0:
        volume = abs(float(np.linalg.det(rows)))
        if not volume:
            raise RowError("zero_volume", "the lattice vectors must span a volume")
        scales = [(-scales[0] / volume) ** (1 / 3)]
    scale = np.array(scales * (3 // len(scales)))
    return rows * scale, scale


def _check_end(rest: list[str]) -> None:
    """Reject atoms beyond those that are counted, and a second structure; velocities may follow.

    Raises:
        RowError: the line after the last position holds another one, or another structure begins.
    """
    after = _words(rest, 0)[:3]
    if len(after) == 3 and all(_is_number(word) for word in after):
        raise RowError(
            "count_mismatch", "there are more positions than the numbers of atoms state; correct one of them"
        )
    begins = "\n".join(rest).strip().splitlines()
    is_frame = any("configuration=" in line.lower() for line in begins)
    if is_frame or (not begins[:1] == [] and not begins[0].lower().startswith("lattice") and _is_head(begins)):
        raise RowError("several_crystals", "a second structure follows the first; write one per file")


def _is_head(lines: list[str]) -> bool:
    """Whether lines begin as a POSCAR does: a title, a scale, three vectors, and numbers of atoms soon after."""
    scale, *rows = [[_is_number(word) for word in _words(lines, row)[:3]] for row in range(1, 5)]
    counts = [word for row in (5, 6) for word in _words(lines, row)[:1] if INTEGER.fullmatch(word)]
    return scale in ([True], [True] * 3) and rows == [[True] * 3] * 3 and bool(counts)


def _counts(words: list[str]) -> list[int]:
    counts = []
    for word in words:
        if not INTEGER.fullmatch(word):
            if _is_number(word):
                raise RowError("count_mismatch", f"{word:.20} atoms of an element; write whole numbers")
            break
        if len(word) > 9:
            raise RowError("too_many_atoms", f"{word[:20]} atoms of one element; at most {MAX_ATOMS_READ} are read")
        counts.append(int(word))
    if not sum(counts):
        raise RowError("no_atoms", "the POSCAR states no numbers of atoms")
    return counts


def _poscar_species(names: list[str] | None, counts: list[int], body: list[list[str]], after: int) -> list[str]:
    """Symbols by atom: from the line of names (`Fe`, `Fe_pv`), else from the word that follows every position.

    Args:
        names: line 6, None if it holds the numbers of atoms.
        counts: atoms by name.
        body: words of each position.
        after: number of words in the line of a position: 3, or 6 with the flags of selective dynamics.
    """
    written = [to_element(words[after]) if len(words) > after else None for words in body]
    if any(set(words[3:6]) <= {"T", "F"} and len(words) >= 6 for words in body):
        written = [None] * len(body) if after == 3 else written  # flags without the line that announces them
    if names is None:
        if any(symbol is None for symbol in written):
            detail = "it names no elements (VASP 4); write them in line 6, above the numbers of atoms"
            raise RowError("elements_missing", detail)
        species = [str(symbol) for symbol in written]
        ends = list(itertools.accumulate(counts))
        if any(len(set(species[end - count : end])) > 1 for end, count in zip(ends, counts, strict=True)):
            detail = f"the numbers of atoms {counts} divide the positions differently from the elements beside them"
            raise RowError("elements_disagree", detail)
        return species
    if len(names) != len(counts):
        detail = f"{len(names)} element names and {len(counts)} numbers of atoms; they must be equal in number"
        raise RowError("count_mismatch", detail)
    symbols = [re.split(r"[_/]|\.(?!\d)", name)[0] for name in names]  # H.5 is not hydrogen
    species = [symbol for symbol, count in zip(symbols, counts, strict=True) for _ in range(count)]
    for number, (symbol, beside) in enumerate(zip(species, written, strict=True)):
        if beside is not None and to_element(symbol) not in {beside, None}:
            detail = f"position {number + 1} is {symbol} by line 6 and {beside} at its end; they must agree"
            raise RowError("elements_disagree", detail)
    return species


# ------------------------------------------------------------------------------------------------ documents
def parse_pymatgen(document: Any) -> Crystal:
    """A pymatgen `Structure.as_dict()`; oxidation states are dropped.

    Args:
        document: document of `Structure.as_dict()`.

    Returns:
        The cell, Å.

    Raises:
        RowError: a part is missing or malformed, or a site is partially occupied.
    """
    lattice, sites = (document.get("lattice"), document.get("sites")) if isinstance(document, Mapping) else (None, None)
    if not isinstance(lattice, Mapping) or not isinstance(sites, list):
        raise RowError("structure_malformed", f"structure is not a pymatgen dict: {document!r:.60}")
    _check_periodic(lattice.get("pbc"))
    if len(sites) > MAX_ATOMS_READ:
        raise RowError("too_many_atoms", f"{len(sites)} atoms; at most {MAX_ATOMS_READ} are read")
    matrix = lattice.get("matrix")
    if matrix is None and lattice.get("a") is None:
        raise RowError("lattice_missing", "lattice.matrix is absent or null; a crystal needs its cell")
    if matrix is None:
        matrix = _matrix([required(lattice, key) for key in PARAMETERS])
    symbols = [_only_element(site) for site in sites]
    _check_cell(matrix, [lattice.get(key) for key in PARAMETERS], lattice.get("volume"))
    if all(site.get("abc") is not None for site in sites):
        crystal = make_crystal(matrix, symbols, [site["abc"] for site in sites])
        for number, site in enumerate(sites):
            if site.get("xyz") is not None:
                away = crystal.frac_coords[number] @ crystal.lattice - np.array(site["xyz"], dtype=float)
                if away.shape != (3,) or not float(np.abs(away).max()) <= SAME_PLACE:
                    detail = f"site {number}: `abc` and `xyz` are not the same place; keep one of them"
                    raise RowError("structure_malformed", detail)
        return crystal
    if missing := [number for number, site in enumerate(sites) if site.get("xyz") is None]:
        raise RowError("structure_malformed", f"site {missing[0]} has neither `abc` nor `xyz`; it needs a position")
    return make_crystal(matrix, symbols, to_fractional([site["xyz"] for site in sites], matrix))


def _only_element(site: Any) -> str:
    if not isinstance(site, Mapping) or not isinstance(site.get("species"), list) or not site["species"]:
        raise RowError("structure_malformed", f"structure is not a pymatgen dict: a site is {site!r:.60}")
    occupants = site["species"]
    if not all(isinstance(occupant, Mapping) for occupant in occupants):
        raise RowError("structure_malformed", f"structure is not a pymatgen dict: species = {occupants!r:.60}")
    occupancy = occupants[0].get("occu", 1)
    if len(occupants) != 1 or occupancy != 1:
        raise RowError("disordered", "a site is partially occupied; give an ordered cell")
    element = occupants[0].get("element")
    if not isinstance(element, str):
        raise RowError("structure_malformed", f"structure is not a pymatgen dict: element = {element!r:.40}")
    return element


def _from_jarvis(document: Mapping[str, Any]) -> Crystal:
    """The `atoms` of JARVIS."""
    lattice, elements = document["lattice_mat"], document["elements"]
    lengths, angles = document.get("abc"), document.get("angles")
    if isinstance(lengths, list) and isinstance(angles, list) and len(lengths) == len(angles) == 3:
        _check_cell(lattice, [*lengths, *angles])
    if flag(document, "cartesian"):
        return make_crystal(lattice, elements, to_fractional(document["coords"], lattice))
    return make_crystal(lattice, elements, document["coords"])


def _from_optimade(attributes: Mapping[str, Any]) -> Crystal:
    """The attributes of an OPTIMADE structure: vectors and Cartesian positions in Å."""
    _check_periodic(attributes.get("dimension_types"))
    if attributes.get("nperiodic_dimensions") not in {None, 3}:
        detail = f"nperiodic_dimensions = {attributes['nperiodic_dimensions']!r}; matscout knows bulk crystals"
        raise RowError("not_periodic", detail)
    features = attributes.get("structure_features")
    if isinstance(features, list) and "implicit_atoms" in features:
        raise RowError("hydrogens_missing", "structure_features: implicit_atoms have no positions; give every atom one")
    if attributes.get("assemblies"):
        raise RowError("disordered", "assemblies state sites that exclude each other; give an ordered cell")
    lattice = attributes["lattice_vectors"]
    names = attributes.get("species_at_sites")
    if not isinstance(names, list):
        raise RowError("structure_missing", "species_at_sites is absent or no list")
    symbols = _optimade_species(attributes.get("species") or [])
    frac_coords = to_fractional(attributes["cartesian_site_positions"], lattice)
    crystal = make_crystal(
        lattice, [symbols.get(name, name) if isinstance(name, str) else name for name in names], frac_coords
    )
    _check_formula(crystal, attributes)
    return crystal


def _check_formula(crystal: Crystal, attributes: Mapping[str, Any]) -> None:
    """Compare the sites with the stated formula and number of sites."""
    n_sites, formula = attributes.get("nsites"), attributes.get("chemical_formula_reduced")
    if n_sites is not None and n_sites != crystal.n_atoms:
        raise RowError("count_mismatch", f"{crystal.n_atoms} sites are given, nsites = {n_sites!r:.20}")
    parts = FORMULA_PART.findall(formula) if isinstance(formula, str) else []
    if parts and "".join(map("".join, parts)) == formula:
        counts = Counter[str]()
        for symbol, number in parts:
            counts[to_element(symbol) or symbol] += int(number or 1)
        given = crystal.element_counts
        if set(counts) != set(given) or len({Fraction(given[symbol], counts[symbol] or 1) for symbol in counts}) > 1:
            detail = f"the sites give {crystal.reduced_formula}, chemical_formula_reduced says {formula:.60}"
            raise RowError("composition_disagrees", detail)


def _optimade_species(species: Any) -> dict[str, str]:
    """Element by species name; several elements, vacancies and shares of one are disorder."""
    symbols: dict[str, str] = {}
    for entry in species:
        name, elements = entry["name"], entry["chemical_symbols"]
        concentration = entry.get("concentration")
        if len(elements) != 1 or (concentration is not None and any(abs(share - 1) > 1e-3 for share in concentration)):
            detail = f"species {name!r:.40} is {elements!r:.60} with concentration {concentration!r:.60}"
            raise RowError("disordered", f"{detail}; give an ordered cell")
        if entry.get("attached"):
            detail = f"species {name!r:.40} carries {entry['attached']!r:.40} without positions; give every atom one"
            raise RowError("hydrogens_missing", detail)
        symbols[str(name)] = str(elements[0])
    return symbols


def _from_record(row: Mapping[str, Any]) -> Crystal:
    """The three columns of a record; both may be flat lists."""
    missing = [key for key in columns.CRYSTAL if row.get(key) is None]
    if missing:
        raise RowError("structure_missing", f"{', '.join(missing)} absent or null; a record needs a whole crystal")
    positions = row[columns.FRAC_COORDS]
    if hasattr(positions, "__len__") and len(positions) and not hasattr(positions[0], "__len__"):
        if len(positions) % 3:
            detail = f"{len(positions)} numbers in {columns.FRAC_COORDS}; they must be three an atom"
            raise RowError("count_mismatch", detail)
        positions = [positions[start : start + 3] for start in range(0, len(positions), 3)]
    return make_crystal(row[columns.LATTICE], row[columns.SPECIES], positions)


def _check_cell(matrix: Any, parameters: list[Any], volume: Any = None) -> None:
    """Compare the vectors with the stated lengths, angles and volume; None = not stated."""
    rows = np.array(matrix, dtype=float)
    if rows.shape != (3, 3) or not np.isfinite(rows).all():
        return  # reported by `make_crystal`
    lattice = Lattice(rows)
    for name, found, stated in zip(
        (*PARAMETERS, "volume"), (*lattice.parameters, lattice.volume), (*parameters, volume), strict=True
    ):
        number = to_number(stated, f"lattice.{name}")
        if number is not None and not abs(found - number) <= CELL_TOLERANCE * abs(found):
            detail = f"the lattice vectors give {name} = {found:.6g}, beside them stands {number:.6g}; keep one of them"
            raise RowError("cell_disagrees", detail)


def _check_periodic(periodic: Any) -> None:
    """Check that all three directions are periodic, or nothing is stated."""
    if periodic is None:
        return
    if not isinstance(periodic, list | tuple | np.ndarray) or len(periodic) != 3 or not all(p == 1 for p in periodic):
        detail = f"it repeats in the directions {list(periodic) if hasattr(periodic, '__iter__') else periodic!r}"
        raise RowError("not_periodic", f"{detail}; matscout knows bulk crystals")


def _matrix(parameters: list[Any]) -> NDArray[np.float64]:
    try:
        return np.array(Lattice.from_parameters(*(float(value) for value in parameters)).matrix)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise RowError(
            "lattice_malformed", f"lengths and angles {parameters!r:.80} span no cell ({error!s:.60})"
        ) from error


def from_ase(atoms: Any) -> Crystal:
    """An ASE Atoms object; it must be periodic in three directions."""
    _check_periodic(atoms.pbc.tolist())
    if not atoms.cell.volume:
        raise RowError("zero_volume", "no Lattice is given, or it spans no volume")
    return make_crystal(np.array(atoms.cell), atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False))


def empty_widths(crystal: Crystal) -> NDArray[np.float64]:
    """(3,) Å: the widest slab without the centre of an atom between planes parallel to bc, ca and ab."""
    heights = 1 / np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0)  # Å between planes
    levels = np.sort(crystal.frac_coords % 1.0, axis=0)
    return np.diff(levels, axis=0, append=levels[:1] + 1).max(axis=0) * heights


def check_bulk(crystal: Crystal) -> None:
    """Reject a slab, a wire or a molecule in a box: its cell repeats, its matter does not.

    Raises:
        RowError: more than `VACUUM` without an atom, all across the cell.
    """
    for axis, gap in enumerate(empty_widths(crystal)):
        if gap > VACUUM:
            detail = f"{gap:.1f} Å without an atom along {'abc'[axis]}: a slab, a molecule in a box or a cut-off cell"
            raise RowError("not_bulk", f"{detail}; matscout knows bulk crystals")


_KINDS: Final[Mapping[str, Callable[[str], Crystal]]] = MappingProxyType(
    {"cif": parse_cif, "poscar": parse_poscar, "json": lambda text: parse_document(parse_json(text), 1)}
)
_DOCUMENTS: Final[Mapping[Callable[[Mapping[str, Any]], Crystal], frozenset[str]]] = MappingProxyType(
    {
        parse_pymatgen: frozenset({"lattice", "sites"}),
        _from_jarvis: frozenset({"lattice_mat", "coords", "elements"}),
        _from_optimade: frozenset({"lattice_vectors", "cartesian_site_positions"}),
        _from_record: frozenset(columns.CRYSTAL),
    }
)
