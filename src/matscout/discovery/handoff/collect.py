"""Collect: results of a hand-off's calculations as feedback, on the energy scale of the training labels.

A formation energy is the total energy less that of the elements, plus the Materials Project's corrections of 2020:
`e_form = (E - sum n_i mu_i) / N + correction`. The elements' energies are calculations of the same functional: for PBE
those that pymatgen ships with the corrections (Wang et al., Sci. Rep. 11, 15496, 2021), or the user's own, found as
calculations of pure elements in the same folder.
"""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from pymatgen.core import Composition
from pymatgen.io.vasp import Incar

from matscout import columns
from matscout.crystal import Crystal, formula_key
from matscout.discovery.handoff.calculations import CANDIDATE, Calculation, calculation_files, read_calculations
from matscout.errors import InputError
from matscout.files import write_bytes
from matscout.sources.energy_corrections import TABLES, correction_per_atom
from matscout.sources.feedback_files import FEEDBACK_SOURCE, feedback_files
from matscout.sources.record import Rejection, RowError

PBE: Final = "PBE"
SHIPPED: Final = "pymatgen's elements (Wang et al., Sci. Rep. 11, 15496, 2021)"
CARD: Final = "card.json"
LIMITS: Final = (-8.0, 5.0)  # eV/atom: a larger formation energy has another reference or another unit
U_TOLERANCE: Final = 0.01  # eV


@dataclass(frozen=True)
class Handed:
    """An exported candidate.

    Attributes:
        candidate_id: candidate id of the ranking.
        folder: folder of the candidate.
        formula: `formula_key`.
        encut: ENCUT of its INCAR, eV.
        hubbards: U values of its INCAR by element, above zero, eV.
        potentials: pseudopotentials of its POTCAR.spec.
    """

    candidate_id: str
    folder: Path
    formula: str
    encut: float
    hubbards: Mapping[str, float]
    potentials: tuple[str, ...]


@dataclass(frozen=True)
class Collected:
    """The results of a hand-off.

    Attributes:
        rows: results, one per candidate, as `data/feedback/` takes them.
        rejections: calculations that cannot be used, with reasons.
        waiting: candidates without a usable result.
        file: file that holds the rows; None = there are none.
    """

    rows: list[dict[str, Any]]
    rejections: list[Rejection]
    waiting: list[str]
    file: Path | None


def collect(handoff: Path, feedback: Path) -> Collected:
    """Read the calculations of exported candidates, and write comparable results into `feedback` as JSONL.

    Args:
        handoff: folder that `matscout export` wrote and that calculations were run in or copied into.
        feedback: folder of results; candidates with a result in it are skipped.

    Returns:
        The results that were written, and the rejected calculations with the reasons.

    Raises:
        InputError: the folder is not an export, or holds no calculation.
    """
    handed = read_handoff(handoff)
    files = calculation_files(handoff)
    if not files:
        raise InputError(
            f"{handoff} holds no vasprun.xml, OUTCAR or JSON of atomate2 or pymatgen (.gz too): put each candidate's "
            "into its folder"
        )
    rejections: list[Rejection] = []
    calculations = []
    for file in files:
        try:
            calculations += read_calculations(file)
        except RowError as error:
            rejections.append(_reject("", file, handoff, error.reason, error.detail))
    own = own_elements(calculations)
    present = _present(feedback)
    best: dict[str, tuple[tuple[bool, float], Calculation, dict[str, Any]]] = {}
    for calculation in calculations:
        if len(calculation.structure.composition.elements) == 1 and not _folder_of(calculation.file, handed):
            continue  # a reference, not a result
        try:
            candidate = _candidate_of(calculation, handed)
            row = result_row(calculation, candidate, own, present.get(candidate.candidate_id))
        except RowError as error:
            rejections.append(_reject("", calculation.file, handoff, error.reason, error.detail))
            continue
        order = (not calculation.is_static, calculation.energy / len(calculation.structure))
        name = candidate.candidate_id
        if name in best:
            worse = max(best[name], (order, calculation, row), key=lambda item: item[0])
            detail = "another run of this candidate is used: static before relaxation, then the lowest energy"
            rejections.append(_reject(name, worse[1].file, handoff, "superseded", detail))
        if name not in best or order < best[name][0]:
            best[name] = (order, calculation, row)
    rows = [best[name][2] | {"file": _shown(best[name][1].file, handoff)} for name in sorted(best)]
    waiting = [item.candidate_id for item in handed if item.candidate_id not in {*best, *present}]
    return Collected(rows, rejections, waiting, _write(rows, Path(handoff), Path(feedback)) if rows else None)


def read_handoff(folder: Path) -> list[Handed]:
    """The candidates of a hand-off, from their cards and inputs.

    Args:
        folder: folder that `matscout export` wrote.

    Returns:
        One a candidate, in the order of the folder's names.

    Raises:
        InputError: the folder is not a hand-off.
    """
    cards = sorted(Path(folder).glob(f"*/{CARD}"))
    if not cards:
        raise InputError(f"{folder} holds no */{CARD}: name the folder that `matscout export` wrote")
    found = []
    for path in cards:
        try:
            candidate = json.loads(path.read_bytes())["candidate"]
            incar = Incar.from_file(path.parent / "INCAR")
            symbols = (path.parent / "POSCAR").read_text().split("\n")[5].split()
            counts = (path.parent / "POSCAR").read_text().split("\n")[6].split()
            labels = tuple((path.parent / "POTCAR.spec").read_text().split())
            species = [s for s, n in zip(symbols, counts, strict=True) for _ in range(int(n))]
            identity = str(candidate[columns.CANDIDATE_ID])
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise InputError(f"{path.parent} is not an exported candidate ({error!r:.80}); export it again") from error
        u = incar.get("LDAUU") if incar.get("LDAU") else None
        hubbards = {s: float(v) for s, v in zip(symbols, u, strict=True) if float(v) > 0} if u else {}
        found.append(Handed(identity, path.parent, formula_key(species), float(incar["ENCUT"]), hubbards, labels))
    return found


def result_row(
    calculation: Calculation,
    candidate: Handed,
    own: Mapping[str, Mapping[str, float]],
    present: Path | None = None,
) -> dict[str, Any]:
    """One line of feedback.

    Args:
        calculation: calculation of the candidate.
        candidate: the exported candidate.
        own: the user's elements, eV/atom by symbol, by functional.
        present: file that holds a result of the candidate; None = no file does.

    Returns:
        The columns of one line of JSON.

    Raises:
        RowError: it is not converged, its energy cannot be compared, or the candidate has a result.
    """
    if present is not None:
        raise RowError(
            "already_there", f"{present.name} already holds a result of this candidate; remove it to replace it"
        )
    if calculation.not_converged:
        raise RowError("not_converged", f"{calculation.not_converged}; run it on")
    structure, functional = calculation.structure, calculation.functional
    if formula_key([site.specie.symbol for site in structure]) != candidate.formula:
        detail = f"{structure.composition.reduced_formula} is not the candidate's formula ({candidate.formula})"
        raise RowError("other_composition", detail)
    if functional == PBE:
        _check_settings(calculation, candidate)
    mu = own.get(functional, {})
    missing = [e.symbol for e in structure.composition.elements if e.symbol not in mu]
    references = f"own elements ({functional})"
    if missing and functional == PBE:
        mu = {**_with_potentials(candidate.potentials), **mu}
        references = SHIPPED if len(missing) == len(structure.composition.elements) else f"{SHIPPED} and own elements"
        missing = [e.symbol for e in structure.composition.elements if e.symbol not in mu]
    row = _described(calculation, candidate)
    if missing:
        if calculation.band_gap is None:
            detail = f"no energies of {', '.join(missing)} with this functional and these potentials: put runs of "
            raise RowError("no_references", f"{detail}these elements, same settings, below the hand-off's folder")
        return row
    composition = structure.composition
    bare = calculation.energy - sum(n * mu[e.symbol] for e, n in composition.items())
    correction = correction_per_atom(structure, columns.MP2020) if functional == PBE else 0.0
    energy = bare / composition.num_atoms + correction
    if not LIMITS[0] <= energy <= LIMITS[1]:
        detail = (
            f"formation energy {energy:.2f} eV/atom, outside {LIMITS[0]:g} to {LIMITS[1]:g}: another reference or unit"
        )
        raise RowError("implausible", detail)
    return row | {
        columns.FORMATION_ENERGY: energy,
        columns.ENERGY_CORRECTIONS: columns.MP2020 if functional == PBE else columns.UNCORRECTED,
        "correction_per_atom": correction,
        "elements": references,
        "units": row["units"] | {columns.FORMATION_ENERGY: columns.UNITS[columns.FORMATION_ENERGY]},
    }


def own_elements(calculations: Sequence[Calculation]) -> dict[str, dict[str, float]]:
    """Lowest converged energy of each pure element, eV/atom by symbol, by functional; without a Hubbard U."""
    found: dict[str, dict[str, float]] = {}
    for calculation in calculations:
        elements = calculation.structure.composition.elements
        if len(elements) > 1 or calculation.not_converged or calculation.hubbards:
            continue
        energies = found.setdefault(calculation.functional, {})
        energy = calculation.energy / len(calculation.structure)
        energies[elements[0].symbol] = min(energy, energies.get(elements[0].symbol, energy))
    return found


@cache
def shipped_elements() -> Mapping[str, float]:
    """PBE energies of the elements, eV/atom by symbol, as calculated: those of the corrections of 2020."""
    entries = _shipped_entries()
    return {symbol: entry["energy"] / sum(entry["composition"].values()) for symbol, entry in entries.items()}


@cache
def shipped_potentials() -> Mapping[str, str]:
    """Labels of the potentials that the energies of `shipped_elements` were calculated with, by symbol."""
    entries = _shipped_entries()
    return {symbol: entry["parameters"]["potcar_symbols"][0].split()[-1] for symbol, entry in entries.items()}


def _shipped_entries() -> dict[str, dict[str, Any]]:
    table = json.loads(gzip.decompress((TABLES / "calc_compounds.json.gz").read_bytes()))
    found = {}
    for formula, entry in table.items():
        composition = Composition(formula)
        if len(composition) == 1:
            found[composition.elements[0].symbol] = entry
    return found


def _with_potentials(labels: Sequence[str]) -> dict[str, float]:
    """The shipped elements that were calculated with these potentials: `Yb_3` and `Yb_2` are two scales."""
    own = {label.split("_")[0]: label for label in labels}
    potentials = shipped_potentials()
    return {s: energy for s, energy in shipped_elements().items() if own.get(s, potentials[s]) == potentials[s]}


def _check_settings(calculation: Calculation, candidate: Handed) -> None:
    """Reject PBE energies from settings other than those of the exported inputs.

    Raises:
        RowError: another U, other potentials or a lower cutoff.
    """
    u, wanted = calculation.hubbards, candidate.hubbards
    if any(abs(u.get(s, 0.0) - wanted.get(s, 0.0)) > U_TOLERANCE for s in {*u, *wanted}):
        detail = (
            f"Hubbard U {_named(u)}, the hand-off's INCAR has {_named(wanted)}: energies with different U values "
            "cannot be compared"
        )
        raise RowError("other_hubbard", detail)
    if calculation.potentials and sorted(calculation.potentials) != sorted(candidate.potentials):
        detail = f"potentials {' '.join(calculation.potentials)}, POTCAR.spec names {' '.join(candidate.potentials)}"
        raise RowError("other_potentials", detail)
    if calculation.encut is not None and calculation.encut < candidate.encut - 1:
        raise RowError("lower_cutoff", f"ENCUT {calculation.encut:g} eV, the hand-off's INCAR has {candidate.encut:g}")


def _named(hubbards: Mapping[str, float]) -> str:
    return ", ".join(f"{symbol} {u:g} eV" for symbol, u in sorted(hubbards.items())) or "none"


def _described(calculation: Calculation, candidate: Handed) -> dict[str, Any]:
    crystal = Crystal.from_structure(calculation.structure).to_row()
    row = {
        columns.MATERIAL_ID: candidate.candidate_id,
        columns.LATTICE: crystal[columns.LATTICE].tolist(),
        columns.SPECIES: crystal[columns.SPECIES],
        columns.FRAC_COORDS: crystal[columns.FRAC_COORDS].tolist(),
        columns.FUNCTIONAL: calculation.functional,
        columns.IS_HUBBARD: bool(calculation.hubbards),
        "hubbards": dict(calculation.hubbards),
        "potentials": list(calculation.potentials),
        "encut": calculation.encut,
        "total_energy": calculation.energy,
        "units": {},
    }
    if calculation.potentials:
        row[columns.PSEUDOPOTENTIALS] = "PAW_PBE"
    if calculation.band_gap is not None:
        row |= {columns.BAND_GAP: calculation.band_gap, "units": {columns.BAND_GAP: columns.UNITS[columns.BAND_GAP]}}
    return row


def _candidate_of(calculation: Calculation, handed: Sequence[Handed]) -> Handed:
    """The candidate of a calculation: by its folder, the id that it names, or a formula that only one candidate has.

    Raises:
        RowError: none of these decides.
    """
    if (inside := _folder_of(calculation.file, handed)) is not None:
        return inside
    named = CANDIDATE.search(str(calculation.file))
    for identity in filter(None, (calculation.candidate_id, named[0] if named else "")):
        for item in handed:
            if item.candidate_id == identity:
                return item
    formula = formula_key([site.specie.symbol for site in calculation.structure])
    same = [item for item in handed if item.formula == formula]
    if len(same) == 1:
        return same[0]
    rule = "several candidates have" if same else "no candidate has"
    raise RowError("unknown_id", f"{rule} this formula ({formula}); put the file into its candidate's folder")


def _folder_of(file: Path, handed: Sequence[Handed]) -> Handed | None:
    return next((item for item in handed if item.folder in file.parents), None)


def _present(feedback: Path) -> dict[str, Path]:
    """The file of each candidate that already has a result."""
    found: dict[str, Path] = {}
    for file in feedback_files(feedback):
        for identity in CANDIDATE.findall(file.read_text(errors="replace")):
            found.setdefault(identity, file)
    return found


def _write(rows: Sequence[Mapping[str, Any]], handoff: Path, feedback: Path) -> Path:
    """Write a new file, because a checked file is never changed."""
    path = next(p for p in _names(handoff.resolve().name, feedback) if not p.exists())
    write_bytes(path, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode())
    return path


def _names(stem: str, folder: Path) -> Iterator[Path]:
    yield folder / f"{stem}.jsonl"
    number = 2
    while True:
        yield folder / f"{stem}-{number}.jsonl"
        number += 1


def _shown(file: Path, handoff: Path) -> str:
    return file.relative_to(Path(handoff)).as_posix()


def _reject(identity: str, file: Path, handoff: Path, reason: str, detail: str) -> Rejection:
    where = _shown(file, handoff)
    return Rejection(source=FEEDBACK_SOURCE, material_id=identity, file=where, row=0, reason=reason, detail=detail)
