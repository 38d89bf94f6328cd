"""Files of VASP and atomate2, read as calculations: final cell, total energy, gap, convergence and settings.

It reads `vasprun.xml`, `OUTCAR` (with the `CONTCAR` beside it), task documents of atomate2 or emmet and pymatgen's
`ComputedStructureEntry` as JSON; all also gzipped.
"""

import gzip
import json
import re
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pymatgen.core import Structure

from matscout.sources.record import RowError

NAMES: Final = re.compile(r"(vasprun.*\.xml|OUTCAR.*|.*\.json)(\.gz)?", re.IGNORECASE)
OURS: Final = {"card.json", "handoff.json"}  # of a hand-off, and no results
CANDIDATE: Final = re.compile(r"ms-[0-9a-f]{12}")
MOST_BYTES: Final = 1 << 30  # of an expanded file
FUNCTIONALS: Final = {"PE": "PBE", "--": "PBE", "PS": "PBEsol", "RP": "RPBE", "RE": "revPBE", "AM": "AM05"}
META: Final = {"R2SCAN": "r2SCAN", "RSCAN": "rSCAN", "SCAN": "SCAN", "MBJ": "mBJ"}


@dataclass(frozen=True)
class Calculation:
    """One finished run of a DFT code.

    Attributes:
        file: file that was read.
        structure: final cell.
        energy: total, of the cell, uncorrected, eV.
        band_gap: eV; None if the file does not hold it.
        functional: `PBE`, `r2SCAN`, `HSE06`, ...
        hubbards: U by element, eV; only those above zero.
        potentials: PAW labels such as `Sr_sv`, one an element.
        encut: plane-wave cutoff, eV; None = not stated.
        is_static: whether the ions did not move.
        not_converged: why it is not converged; empty = it is.
        candidate_id: candidate id that the file itself names; empty = none.
    """

    file: Path
    structure: Structure
    energy: float
    band_gap: float | None
    functional: str
    hubbards: Mapping[str, float]
    potentials: tuple[str, ...]
    encut: float | None
    is_static: bool
    not_converged: str
    candidate_id: str = ""


def calculation_files(folder: Path) -> list[Path]:
    """Files below `folder` that may hold a calculation, by path; an `OUTCAR` beside a `vasprun.xml` is skipped."""
    found = sorted(p for p in Path(folder).rglob("*") if p.is_file() and NAMES.fullmatch(p.name) and p.name not in OURS)
    with_xml = {path.parent for path in found if path.name.lower().startswith("vasprun")}
    return [path for path in found if not (path.name.startswith("OUTCAR") and path.parent in with_xml)]


def read_calculations(file: Path) -> Iterator[Calculation]:
    """Read the calculations of one file; none in a JSON file of another kind.

    Args:
        file: vasprun.xml, OUTCAR or JSON, gzipped or not.

    Yields:
        The calculations, in the order of the file.

    Raises:
        RowError: the file is damaged, cut off or lacks what is needed; the message says what.
    """
    name = file.name.lower()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns about POTCARs and occupations, which are not used here
            if name.startswith("vasprun"):
                yield _of_vasprun(file)
            elif name.startswith("outcar"):
                yield _of_outcar(file)
            else:
                yield from _of_json(file)
    except RowError:
        raise
    except (SyntaxError, EOFError, zlib.error, UnicodeDecodeError, OSError) as error:
        detail = f"{type(error).__name__}: {error!s:.120}; the run was killed, or the file is cut off"
        raise RowError("cut_off", detail) from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        detail = f"{type(error).__name__}: {error!s:.120}; it is not in the form that VASP or atomate2 writes"
        raise RowError("unreadable", detail) from error


def functional_of(settings: Mapping[str, Any]) -> str:
    """Name of the functional that INCAR's tags (or VASP's parameters) ask for, with PBE potentials."""
    meta = str(settings.get("METAGGA") or "--").upper()
    name = META.get(meta, meta) if meta not in {"--", "NONE"} else ""
    if settings.get("LHFCALC"):
        screened = 0.19 < float(settings.get("HFSCREEN") or 0.0) < 0.22
        name = "HSE06" if screened and float(settings.get("AEXX", 0.25)) == 0.25 else "hybrid"
    if not name:
        tag = str(settings.get("GGA") or "--").upper()
        name = FUNCTIONALS.get(tag, tag)
    if settings.get("LUSE_VDW"):
        name += "+rVV10"
    elif int(settings.get("IVDW") or 0):
        name += f"+D{settings['IVDW']}"
    return name


def _of_vasprun(file: Path) -> Calculation:
    from pymatgen.io.vasp import Vasprun

    run = Vasprun(str(file), parse_dos=False, parse_potcar_file=False)
    settings = {**run.parameters, **run.incar}
    titles = [str(item["titel"]) for item in run.potcar_spec]
    if any(title.split()[0] != "PAW_PBE" for title in titles):
        raise RowError("other_potentials", f"potentials {titles}; matscout needs PAW_PBE pseudopotentials")
    faults = []
    if not run.converged_electronic:
        faults.append(f"the last electronic loop ended after NELM = {settings.get('NELM')} steps")
    if not run.converged_ionic:
        faults.append(f"the ions still moved after NSW = {settings.get('NSW')} steps")
    gap = float(np.asarray(run.eigenvalue_band_properties[0])) if run.eigenvalues else None
    return Calculation(
        file,
        run.final_structure,
        float(run.final_energy),
        gap,
        functional_of(settings),
        _above_zero(run.hubbards),
        _labels(titles),
        float(settings["ENCUT"]) if settings.get("ENCUT") else _float(settings.get("ENMAX")),
        int(settings.get("NSW") or 0) == 0,
        "; ".join(faults),
    )


def _of_outcar(file: Path) -> Calculation:
    text = _text(file)
    structure = _final_cell(file)
    energies = re.findall(r"energy  without entropy=\s*\S+\s+energy\(sigma->0\) =\s*(\S+)", text)
    titles = list(dict.fromkeys(re.findall(r"TITEL\s*=\s*(.+?)\s*$", text, re.MULTILINE)))
    if not energies or not titles:
        raise RowError("cut_off", "no energy(sigma->0) or no TITEL line: the run ended before its first ionic step")
    settings = {
        name: _tag(text, name) for name in ("GGA", "METAGGA", "LHFCALC", "HFSCREEN", "AEXX", "IVDW", "LUSE_VDW")
    }
    settings |= {name: settings[name] == "T" for name in ("LHFCALC", "LUSE_VDW")}
    nsw = int(_tag(text, "NSW") or 0)
    faults = []
    if "General timing and accounting" not in text:
        faults.append("VASP did not end by itself")
    if "aborting loop because EDIFF is reached" not in text[text.rfind("Iteration") :]:
        faults.append("the last electronic loop did not reach EDIFF")
    if nsw > 0 and "reached required accuracy" not in text:
        faults.append(f"the ions still moved after NSW = {nsw} steps")
    labels = _labels(titles)
    types = [label.split("_")[0] for label in labels]
    is_hubbard = re.search(r"LDAUU? *= *T|LDA\+U is selected", text)
    values = re.search(r"U \(eV\) for each species\s+LDAUU =((?:\s+-?[\d.]+)+)", text)
    u = [float(value) for value in values[1].split()] if is_hubbard and values else []
    return Calculation(
        file,
        structure,
        float(energies[-1]),
        None,
        functional_of(settings),
        _above_zero(dict(zip(types, u, strict=False))),
        labels,
        _float(_tag(text, "ENCUT")),
        nsw == 0,
        "; ".join(faults),
    )


def _of_json(file: Path) -> Iterator[Calculation]:
    content = json.loads(_text(file))
    for item in content if isinstance(content, list) else [content]:
        if not isinstance(item, Mapping):
            continue
        named = str(item.get("metadata", ""))
        document = item["output"] if isinstance(item.get("output"), Mapping) and "state" in item["output"] else item
        if document.get("@class") in {"ComputedStructureEntry", "GibbsComputedStructureEntry"}:
            yield _of_entry(file, document)
        elif "calcs_reversed" in document or ("state" in document and "output" in document):
            yield _of_task(file, document, f"{named} {document.get('tags')} {document.get('additional_json')}")


def _of_task(file: Path, task: Mapping[str, Any], named: str) -> Calculation:
    """A calculation from a task document of atomate2 (emmet's `TaskDoc`)."""
    inputs, output = task["input"], task["output"]
    parameters = {**(inputs.get("parameters") or {}), **(inputs.get("incar") or {})}
    structure = Structure.from_dict(output.get("structure") or task["structure"])
    faults = [] if str(task.get("state")).endswith("successful") else [f"state is {task.get('state')!r}"]
    calcs = task.get("calcs_reversed") or []
    if calcs and not calcs[0].get("has_vasp_completed", True):
        faults.append("VASP did not complete")
    titles = [str(item["titel"]) for item in inputs.get("potcar_spec") or []]
    gap = output.get("bandgap")
    if gap is None and calcs:
        gap = (calcs[0].get("output") or {}).get("bandgap")
    hubbards = inputs.get("hubbards") or {}
    found = CANDIDATE.search(named)
    return Calculation(
        file,
        structure,
        float(output["energy"]),
        _float(gap),
        functional_of(parameters),
        _above_zero(hubbards) if inputs.get("is_hubbard", bool(hubbards)) else {},
        _labels(titles or [f"PAW_PBE {label}" for label in inputs.get("potcar") or []]),
        _float(parameters.get("ENCUT") or parameters.get("ENMAX")),
        int(parameters.get("NSW") or 0) == 0,
        "; ".join(faults),
        found[0] if found else "",
    )


def _of_entry(file: Path, entry: Mapping[str, Any]) -> Calculation:
    """A calculation from a `ComputedStructureEntry`, with its uncorrected energy; it does not state convergence."""
    parameters = entry.get("parameters") or {}
    run_type = str(parameters.get("run_type") or "").upper()
    known = {"GGA": "PBE", "GGA+U": "PBE", "PBE": "PBE", "PBE+U": "PBE", **{name: META[name] for name in META}}
    if not run_type:
        raise RowError("functional_missing", "parameters.run_type is absent; an entry must state its functional")
    titles = [str(item["titel"]) for item in parameters.get("potcar_spec") or []] or [
        f"PAW_{symbol}" for symbol in parameters.get("potcar_symbols") or []
    ]
    found = CANDIDATE.search(f"{entry.get('entry_id')} {entry.get('data')}")
    return Calculation(
        file,
        Structure.from_dict(entry["structure"]),
        float(entry["energy"]),
        _float((entry.get("data") or {}).get("bandgap", (entry.get("data") or {}).get("band_gap"))),
        known.get(run_type, run_type),
        _above_zero(parameters.get("hubbards") or {}),
        _labels(titles),
        None,
        is_static=True,
        not_converged="",
        candidate_id=found[0] if found else "",
    )


def _labels(titles: list[str]) -> tuple[str, ...]:
    """`PAW_PBE Sr_sv 07Sep2000` -> `Sr_sv`."""
    return tuple(title.split()[1] if len(title.split()) > 1 else title for title in titles)


def _final_cell(file: Path) -> Structure:
    for name in ("CONTCAR", "CONTCAR.gz", "POSCAR", "POSCAR.gz"):
        path = file.parent / name
        if path.is_file() and path.stat().st_size:
            return Structure.from_str(_text(path), fmt="poscar")
    raise RowError("no_cell", f"no CONTCAR beside {file.name}; an OUTCAR without one has no final cell")


def _text(path: Path) -> str:
    with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise RowError("too_large", f"{path.name} expands to more than {MOST_BYTES >> 20} MiB")
    return content.decode()


def _tag(text: str, name: str) -> str | None:
    found = re.findall(rf"^\s*{name}\s*=\s*(\S+)", text, re.MULTILINE)
    return found[-1].strip(";") if found else None


def _above_zero(hubbards: Mapping[str, Any]) -> dict[str, float]:
    return {str(symbol): float(u) for symbol, u in hubbards.items() if float(u) > 0}


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
