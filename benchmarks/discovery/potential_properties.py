"""Surface energies, voltages and bulk moduli of the stage `relax` against cited values.

    python -m benchmarks.discovery.potential_properties [--potential sevennet-0] [--moduli 20]

Elements and battery materials are built from published lattice parameters. Moduli are those of the rows of
../shared/data/mp_elasticity_3191 with the smallest hash of their id and at most eight atoms; without that folder they
are skipped. Rows are not copied, only their errors are summed up. Prints the errors and writes
benchmarks/results/potential_properties.json (about five minutes of one core).
"""

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from benchmarks.shared_rows import ROOT, SHARED, crystal_of, order, read_file
from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.relax.after_relaxation import NoValueError, at_rest
from matscout.discovery.relax.potential_properties import PROPERTIES
from matscout.files import write_json
from matscout.params import Relaxation, load_params
from matscout.potentials.calculators import crystal_of as crystal_of_atoms
from matscout.potentials.load_potential import load_potential
from matscout.potentials.potential import Potential

RESULTS = ROOT / "benchmarks" / "results" / "potential_properties.json"
MODULI = SHARED / "mp_elasticity_3191" / "mp_elasticity.jsonl.gz"
MOST_ATOMS = 8

# lowest low-index surface, J/m2, PBE: Tran et al., Sci. Data 3, 160080 (2016), doi:10.1038/sdata.2016.80, data set
# doi:10.5061/dryad.f2n6f; (1 1 1) of the fcc metals, (1 1 0) of the bcc ones. docs/relaxation.md says which of these
# values, and of those below, a second source confirms.
SURFACES = {
    "Al": 0.795,
    "Ni": 1.924,
    "Cu": 1.314,
    "Pd": 1.338,
    "Ag": 0.773,
    "Pt": 1.479,
    "Au": 0.742,
    "Mo": 2.797,
    "W": 3.228,
}


@dataclass(frozen=True)
class Electrode:
    """A battery material, measured.

    Attributes:
        crystal: with its lithium.
        voltage: average of full extraction against lithium, V, to about 0.1.
        volume_change: of full extraction, relative.
    """

    crystal: Crystal
    voltage: float
    volume_change: float


def _cell(group: str, lattice: Lattice, sites: dict[str, list[float]]) -> Crystal:
    species = [name.rstrip("0123456789") for name in sites]
    cell = Structure.from_spacegroup(group, lattice, species, list(sites.values()))
    return Crystal.from_structure(cell.get_primitive_structure())


def electrodes() -> dict[str, Electrode]:
    """Voltages as tabulated by Chevrier et al., Phys. Rev. B 82, 075122 (2010), doi:10.1103/PhysRevB.82.075122.

    Cells and volumes: LiCoO2 Orman and Wiseman, Acta Cryst. C 40, 12 (1984), CoO2 Amatucci et al., J. Electrochem. Soc.
    143, 1114 (1996); LiFePO4 and FePO4 Padhi et al., J. Electrochem. Soc. 144, 1188 (1997); LiMn2O4 Thackeray et al.,
    Mater. Res. Bull. 18, 461 (1983), MnO2 Hunter, J. Solid State Chem. 39, 142 (1981).
    """
    layered = {"Li": [0, 0, 0.5], "Co": [0, 0, 0], "O": [0, 0, 0.26]}
    olivine = {
        "Li": [0, 0, 0],
        "Fe": [0.282, 0.25, 0.975],
        "P": [0.095, 0.25, 0.418],
        "O1": [0.097, 0.25, 0.743],
        "O2": [0.457, 0.25, 0.206],
        "O3": [0.166, 0.046, 0.285],
    }
    spinel = {"Li": [0, 0, 0], "Mn": [0.625, 0.625, 0.625], "O": [0.388, 0.388, 0.388]}
    cobalt = _cell("R-3m", Lattice.hexagonal(2.816, 14.05), layered)
    iron = _cell("Pnma", Lattice.orthorhombic(10.33, 6.01, 4.69), olivine)
    manganese = _cell("Fd-3m", Lattice.cubic(8.24), spinel)
    emptied = np.sqrt(3) / 2 * 2.822**2 * 4.29  # of CoO2, hexagonal, one formula a cell
    return {
        "LiCoO2": Electrode(cobalt, 4.1, emptied / cobalt.volume - 1),
        "LiFePO4": Electrode(iron, 3.5, -0.068),
        "LiMn2O4": Electrode(manganese, 4.1, (8.03 / 8.24) ** 3 - 1),
    }


def said(name: str, crystal: Crystal, potential: Potential, settings: Relaxation) -> dict[str, float]:
    """A property of a crystal after its relaxation; empty where there is none."""
    try:
        return PROPERTIES[name][0](at_rest("it", crystal, potential, settings).crystal, potential, settings)[0]
    except NoValueError as error:
        print(f"{crystal.reduced_formula}: {error.reason}, {error.detail}")
        return {}


def errors(pairs: list[tuple[float, float]]) -> dict[str, float | int]:
    """Of (computed, cited) values: mean, mean absolute and root mean square, also relative to the cited ones."""
    computed, cited = np.array(pairs).T
    off, relative = computed - cited, computed / cited - 1
    return {
        "n": len(pairs),
        "bias": float(off.mean()),
        "mae": float(np.abs(off).mean()),
        "rms": float(np.sqrt(np.square(off).mean())),
        "bias_relative": float(relative.mean()),
        "mae_relative": float(np.abs(relative).mean()),
        "rms_relative": float(np.sqrt(np.square(relative).mean())),
    }


def moduli(potential: Potential, settings: Relaxation, n: int) -> dict[str, Any] | None:
    """Errors of the bulk moduli of `n` rows of the Materials Project; none where they are absent."""
    if not MODULI.is_file():
        print(f"skipped: {MODULI} is absent")
        return None
    rows = sorted(read_file(MODULI), key=lambda row: order(str(row["material_id"])))
    small = [row for row in rows if len(row["species"]) <= MOST_ATOMS and set(row["species"]) <= potential.elements]
    name, pairs = columns.BULK_MODULUS_POTENTIAL, []
    for row in small[:n]:
        found = said(name, crystal_of(row), potential, settings)
        if found:
            pairs.append((found[name], float(row["k_vrh_GPa"])))
    return {"rows": n, "without_value": n - len(pairs), **errors(pairs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="sevennet-0")
    parser.add_argument("--moduli", type=int, default=20)
    arguments = parser.parse_args()
    settings = load_params(ROOT / "params.yaml").relaxation
    potential = load_potential(arguments.potential)
    started = time.process_time()
    surfaces = {}
    for symbol, cited in SURFACES.items():
        found = said(columns.SURFACE_ENERGY, crystal_of_atoms(bulk(symbol)), potential, settings)
        surfaces[symbol] = {"computed": found[columns.SURFACE_ENERGY], "cited": cited}
        print(symbol, surfaces[symbol])
    batteries = {}
    for formula, electrode in electrodes().items():
        found = said(columns.AVERAGE_VOLTAGE, electrode.crystal, potential, settings)
        cited = {columns.AVERAGE_VOLTAGE: electrode.voltage, columns.VOLUME_CHANGE: electrode.volume_change}
        batteries[formula] = {column: {"computed": found[column], "cited": cited[column]} for column in cited}
        print(formula, batteries[formula])
    results: dict[str, Any] = {
        "command": "python -m benchmarks.discovery.potential_properties",
        "potential": potential.facts.to_json(),
        columns.SURFACE_ENERGY: {**errors([(s["computed"], s["cited"]) for s in surfaces.values()]), "of": surfaces},
    }
    for column in (columns.AVERAGE_VOLTAGE, columns.VOLUME_CHANGE):
        of = {formula: values[column] for formula, values in batteries.items()}
        results[column] = {**errors([(v["computed"], v["cited"]) for v in of.values()]), "of": of}
    results[columns.BULK_MODULUS_POTENTIAL] = moduli(potential, settings, arguments.moduli)
    results["processor_seconds"] = round(time.process_time() - started)
    write_json(RESULTS, results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
