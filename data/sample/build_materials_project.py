"""Build `materials_project/`: genuine Materials Project rows out of two archives of the Python package registry.

    python data/sample/build_materials_project.py [ARCHIVE ...]

The archives are `matminer-0.4.0.tar.gz` (structures, energies above hull, moduli) and
`jarvis_leaderboard-2024.10.30-py2.py3-none-any.whl` (formation energies and gaps of the Materials
Project of June 2018, by mp-id). Those not given are fetched with `pip download`; neither is installed.
Formation energies are moved from the corrections of 2018 to those of 2020, which the Materials Project serves today.
The README beside this file states the rules of the join and of that conversion.
"""

import argparse
import ast
import csv
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure
from pymatgen.io.vasp import Poscar

from matscout.columns import ENERGY_CORRECTIONS, FORMATION_ENERGY, MP2018, MP2020
from matscout.progress import progress
from matscout.sources.energy_corrections import correction_per_atom
from matscout.sources.licences import MATERIALS_PROJECT
from matscout.sources.snapshots.snapshot_files import ROWS_PER_PAGE, Manifest, write_manifest, write_page

DESTINATION = Path(__file__).parent / "materials_project"
REQUIREMENTS = {"matminer": "matminer==0.4.0", "jarvis_leaderboard": "jarvis-leaderboard==2024.10.30"}
# A later file never replaces the structure that an earlier one gave: the first has primitive cells with
# eight digits, the last conventional cells of another, tighter relaxation.
STRUCTURE_FILES = ("flla_2015", "dielectric_constant", "piezoelectric_tensor", "elastic_tensor")
COORDINATE_DIGITS = 6  # fractional
LATTICE_DIGITS = 6  # Å
LABEL_DIGITS = 5  # eV, eV/atom
MODULUS_DIGITS = 2  # GPa
PUBLISHED_ENERGY = f"{FORMATION_ENERGY}_{MP2018}"  # the value of 2018, beside the converted one

Row = dict[str, Any]
Cell = tuple[np.ndarray, list[str], np.ndarray]


def main() -> None:
    """Parse the arguments, build the sample, say what was built."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", nargs="*", type=Path)
    given = {key: path for path in parser.parse_args().archives for key in REQUIREMENTS if path.name.startswith(key)}
    with tempfile.TemporaryDirectory() as folder:
        archives = {key: given.get(key) or _download(key, Path(folder)) for key in REQUIREMENTS}
        documents = join(archives["matminer"], archives["jarvis_leaderboard"])
    for document in progress(documents, description="corrections of 2020", unit="row"):
        convert(document)
    write(documents, DESTINATION)
    have = {key: sum(key in document for document in documents) for key in documents[0] | {"bulk_modulus": 0}}
    print(f"{len(documents)} rows in {DESTINATION}: {have}")


def _download(key: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-build-isolation", "--dest", str(folder)]
    binary = ["--no-binary", ":all:"] if key == "matminer" else []
    subprocess.run([*command, *binary, REQUIREMENTS[key]], check=True)  # noqa: S603
    return next(folder.glob(f"{key}*"))


def join(matminer: Path, jarvis: Path) -> list[Row]:
    """One summary document per mp-id, ordered by the number in the id."""
    energies, gaps = _by_id(jarvis, "megnet_e_form"), _by_id(jarvis, "megnet_gappbe")
    documents: dict[str, Row] = {}
    for name in STRUCTURE_FILES:
        for row in progress(list(_rows(matminer, name)), description=name, unit="row"):
            material_id = row["material_id"]
            if material_id not in documents:
                documents[material_id] = {"material_id": material_id, "structure": _structure(*_cell(row))}
            documents[material_id] |= _labels(name, row, known=documents[material_id])
    for material_id, document in documents.items():
        # The snapshot of 2018 covers nearly all rows on one footing; the older files fill the few gaps.
        if material_id in energies:
            document["formation_energy_per_atom"] = round(energies[material_id], LABEL_DIGITS)
        if material_id in gaps:
            document["band_gap"] = round(gaps[material_id], LABEL_DIGITS)
    return [documents[key] for key in sorted(documents, key=lambda key: int(key.split("-")[1]))]


def convert(document: Row) -> None:
    """Move the formation energy to the scheme `mp2020`; the published one stays beside it."""
    if (published := document.get(FORMATION_ENERGY)) is None:
        return
    structure = Structure.from_dict(document["structure"])
    change = correction_per_atom(structure, MP2020) - correction_per_atom(structure, MP2018)
    converted = {FORMATION_ENERGY: round(published + change, LABEL_DIGITS), PUBLISHED_ENERGY: published}
    document |= converted | {ENERGY_CORRECTIONS: MP2020}


def _by_id(archive: Path, name: str) -> dict[str, float]:
    member = f"jarvis_leaderboard/benchmarks/AI/SinglePropertyPrediction/{name}.json.zip"
    with zipfile.ZipFile(archive) as outer, zipfile.ZipFile(io.BytesIO(outer.read(member))) as inner:
        folds = json.loads(inner.read(f"{name}.json"))
    return {material_id: float(value) for fold in folds.values() for material_id, value in fold.items()}


def _rows(archive: Path, name: str) -> Iterator[Row]:
    with tarfile.open(archive) as tar:
        stream = tar.extractfile(f"matminer-0.4.0/matminer/datasets/{name}.csv")
        lines = io.TextIOWrapper(stream, "utf-8")  # type: ignore[arg-type]
        next(lines)  # the reference, as a comment
        csv.field_size_limit(sys.maxsize)
        header, *rows = csv.reader(lines)
        for values in rows:  # some files lead with an index column that their header does not name
            yield dict(zip(header, values[-len(header) :], strict=True))


def _cell(row: Row) -> Cell:
    """Lattice (3, 3) in Å, symbols, fractional coordinates; a python literal in one file, a POSCAR in the others."""
    if "poscar" in row:
        structure = Poscar.from_str(row["poscar"]).structure
        return structure.lattice.matrix, [site.specie.symbol for site in structure], structure.frac_coords
    literal = ast.literal_eval(row["structure"])
    symbols = [site["species"][0]["element"] for site in literal["sites"]]
    return np.array(literal["lattice"]["matrix"]), symbols, np.array([site["abc"] for site in literal["sites"]])


def _structure(lattice: np.ndarray, symbols: list[str], coordinates: np.ndarray) -> Row:
    """The parts of a pymatgen dict that define the cell; `Structure.from_dict` reads it."""
    wrapped = np.round(coordinates % 1.0, COORDINATE_DIGITS) % 1.0 + 0.0
    return {
        "lattice": {"matrix": (np.round(lattice, LATTICE_DIGITS) + 0.0).tolist()},
        "sites": [
            {"species": [{"element": symbol, "occu": 1}], "abc": abc}
            for symbol, abc in zip(symbols, wrapped.tolist(), strict=True)
        ],
    }


def _labels(name: str, row: Row, known: Row) -> Row:
    """The labels that file `name` publishes and `known` lacks."""
    found: Row = {}
    if name == "flla_2015":
        found["formation_energy_per_atom"] = round(float(row["formation_energy_per_atom"]), LABEL_DIGITS)
        found["energy_above_hull"] = round(float(row["e_above_hull"]), LABEL_DIGITS)
    elif name == "dielectric_constant":
        found["band_gap"] = float(row["band_gap"])
    elif name == "elastic_tensor":
        for column, key in (("K", "bulk_modulus"), ("G", "shear_modulus")):
            averages = {"voigt": "Voigt", "reuss": "Reuss", "vrh": "VRH"}
            found[key] = {k: round(float(row[f"{column}_{v}"]), MODULUS_DIGITS) for k, v in averages.items()}
    return {key: value for key, value in found.items() if key not in known}


def write(documents: list[Row], destination: Path) -> None:
    """Write pages in the shape of the service's answers, and the manifest."""
    starts = range(0, len(documents), ROWS_PER_PAGE)
    pages = [
        write_page(
            destination,
            number,
            {"data": documents[start : start + ROWS_PER_PAGE], "meta": {"total_doc": len(documents)}},
        )
        for number, start in enumerate(starts)
    ]
    manifest = Manifest(
        source="materials_project",
        origin="sample",
        endpoint=None,
        query=None,
        format="materials_project_summary",
        database_version="2015 (structures, hulls, moduli) and 2018.06 (formation energies, gaps)",
        energy_corrections=f"{MP2020}, converted from {MP2018}",
        n_rows=len(documents),
        pages=dict(pages),
        licence=MATERIALS_PROJECT.licence,
        citation=MATERIALS_PROJECT.citation,
        client="data/sample/build_materials_project.py",
    )
    write_manifest(destination, manifest)


if __name__ == "__main__":
    main()
