"""Properties of relaxed crystals by potentials whose answers are known in closed form, or by a scan."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.optimize import BFGS
from ase.units import GPa
from pair_potential import KNOWN
from scipy.optimize import minimize_scalar
from test_descent import PAIRS, caesium_chloride, settings

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.relax import potential_properties
from matscout.discovery.relax.descent import NOT_CONVERGED, UNKNOWN_ELEMENT, descend
from matscout.discovery.relax.potential_properties import (
    CHARGES,
    ERRORS,
    FAILED,
    NEGATIVE,
    NO_HOST,
    NO_ION,
    NO_MINIMUM,
    NO_SLAB,
    PROPERTIES,
    average_voltage,
    bulk_modulus,
    properties_of_all,
    surface_energy,
)
from matscout.params.discovery import MobileIon
from matscout.potentials.calculators import CalculatorPotential, crystal_of
from matscout.potentials.potential import EnergiesAndForces, Facts
from matscout.resume.parts import Parts

HERE = Path(__file__).parent
RESULTS = HERE.parents[2] / "benchmarks" / "results" / "potential_properties.json"
FACTS = Facts("test", "1", "", "PBE", "none", "MIT", "nobody")
LENGTH, DEPTH, STEEPNESS = 2.6, 0.4, 5.0  # Å, eV: of the bonds between nearest neighbours, and nothing beyond them
NEAREST = CalculatorPotential(MorsePotential(r0=LENGTH, epsilon=DEPTH, rho0=STEEPNESS, rcut1=1.15, rcut2=1.3), FACTS)
PAIRWISE = CalculatorPotential(
    MorsePotential(r0=3.6, epsilon=0.1, rho0=6.0, rcut1=1.5, rcut2=2.0), FACTS, KNOWN | {"Ca"}
)
COPPER = CalculatorPotential(EMT(), FACTS, frozenset({"Al", "Cu", "Ag", "Au", "Ni", "Pd", "Pt"}))
JOULES = 16.02176634  # J/m² in one eV/Å²
NAMES = tuple(PROPERTIES)


def fcc(symbol="Cu", nearest=LENGTH):
    return crystal_of(bulk(symbol, "fcc", a=nearest * np.sqrt(2)))


def table_of(crystal, folder, potential_settings, names=NAMES):
    return properties_of_all([crystal], names, potential_settings, Parts(folder), workers=1).iloc[0]


@pytest.fixture
def with_potential(monkeypatch):
    def use(potential):
        monkeypatch.setattr(potential_properties, "loaded", lambda _: potential)

    return use


def test_the_surface_energy_counts_broken_bonds():
    found, detail = surface_energy(fcc(), NEAREST, settings())
    area = np.sqrt(3) / 2 * LENGTH**2  # of an atom of the close-packed surface, which loses 3 of its 12 bonds
    assert found[columns.SURFACE_ENERGY] == pytest.approx(JOULES * 3 * (DEPTH / 2) / area, rel=1e-4)
    assert detail.startswith("(1 1 1), lowest of 3 slab(s)")


def test_the_surface_energy_is_that_of_ase_for_the_same_slab():
    rested = descend("a", crystal_of(bulk("Cu")), COPPER, settings(force=0.001)).crystal
    length = np.cbrt(4 * rested.volume)
    slab = fcc111("Cu", size=(1, 1, 5), a=length, vacuum=8.0)
    slab.calc = EMT()
    BFGS(slab, logfile=None).run(fmax=0.001)
    area = np.linalg.norm(np.cross(*slab.cell.array[:2]))
    wanted = JOULES * (slab.get_potential_energy() - 5 * COPPER.energies([rested])[0]) / (2 * area)
    found, _ = surface_energy(rested, COPPER, settings(force=0.001))
    assert found[columns.SURFACE_ENERGY] == pytest.approx(wanted, rel=1e-3)


def test_only_the_slabs_that_cost_least_as_cut_are_relaxed(monkeypatch):
    relaxed, at_rest = [], potential_properties.at_rest

    def counted(name, *rest):
        relaxed.append(name)
        return at_rest(name, *rest)

    centred = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    crystal = Crystal(np.diag([3.5, 3.6, 3.7]), ("Cu",) * 4, centred)  # orthorhombic: seven low-index planes
    monkeypatch.setattr(potential_properties, "at_rest", counted)
    found, detail = surface_energy(crystal, COPPER, settings())
    assert len(relaxed) == 3
    assert detail.startswith("(1 1 1), lowest of 3 slab(s)")  # the closest-packed plane
    assert "; left 4 that cost more as cut" in detail
    monkeypatch.setattr(potential_properties, "MOST_RELAXED", 100)
    every, _ = surface_energy(crystal, COPPER, settings())
    assert found == every


def test_the_bulk_modulus_is_the_second_derivative():
    found, _ = bulk_modulus(fcc(), NEAREST, settings())
    curvature = 2 * DEPTH * (STEEPNESS / LENGTH) ** 2  # of a bond, eV/Å²
    assert found[columns.BULK_MODULUS_POTENTIAL] * GPa == pytest.approx(
        4 * curvature / (3 * np.sqrt(2) * LENGTH), rel=0.01
    )


def test_atoms_relax_at_each_volume():
    tight = settings(force=1e-4, cell=False)

    def polar(scale, height):
        return Crystal(scale * np.diag([3.7, 3.7, 7.5]), ("Na", "Cl"), np.array([[0, 0, 0], [0.5, 0.5, height]]))

    def relaxed(scale):
        return descend("a", polar(scale, 0.33), PAIRWISE, tight)

    best = minimize_scalar(lambda scale: relaxed(scale).energy_after, bounds=(0.9, 1.1), method="bounded").x
    rested = relaxed(best).crystal
    height = rested.frac_coords[1, 2] - rested.frac_coords[0, 2]
    of_volumes = [best * np.cbrt(v) for v in (0.99, 1.0, 1.01)]
    moving = np.array([2 * relaxed(scale).energy_after for scale in of_volumes])
    clamped = PAIRWISE.energies([polar(scale, height) for scale in of_volumes])
    wanted, stiff = (np.diff(energies, 2)[0] / (0.01**2 * rested.volume) for energies in (moving, clamped))
    found, _ = bulk_modulus(rested, PAIRWISE, tight)
    assert found[columns.BULK_MODULUS_POTENTIAL] * GPa == pytest.approx(wanted, rel=0.02)
    assert stiff > 1.1 * wanted


def lowest(make, near):
    """Length and energy of the minimum of a cubic crystal."""
    found = minimize_scalar(
        lambda length: PAIRWISE.energies([make(length)])[0], bounds=(0.8 * near, 1.2 * near), method="bounded"
    )
    return found.x, found.fun


@pytest.mark.parametrize(("ion", "charge", "metal", "near"), [("Na", 1, "bcc", 4.1), ("Ca", 2, "fcc", 5.0)])
def test_the_voltage_is_that_of_hand_computed_energies(ion, charge, metal, near):
    full = descend("a", caesium_chloride(4.0, (ion, "Cl")), PAIRWISE, settings(force=1e-4)).crystal
    host, of_host = lowest(lambda length: Crystal(np.eye(3) * length, ("Cl",), np.zeros((1, 3))), 3.5)
    _, of_metal = lowest(lambda length: crystal_of(bulk(ion, metal, a=length)), near)
    wanted = -(PAIRWISE.energies([full])[0] - of_host - of_metal) / charge
    found, detail = average_voltage(full, PAIRWISE, settings(force=1e-4))
    assert found[columns.AVERAGE_VOLTAGE] == pytest.approx(wanted, abs=1e-4)
    assert found[columns.VOLUME_CHANGE] == pytest.approx(host**3 / full.volume - 1, abs=0.002)
    assert detail == f"{ion} out, {charge} e each"


def test_the_first_ion_of_the_settings_is_taken_out():
    both = Crystal(
        np.eye(3) * 6.0,
        ("Na", "Li", "Cl", "Cl", "Cl"),
        np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]),
    )
    rested = descend("a", both, PAIRWISE, settings()).crystal
    for ions in (("Li", "Na"), ("Na", "Li")):
        assert average_voltage(rested, PAIRWISE, settings(mobile_ions=ions, volume=(0.1, 9)))[1].startswith(ions[0])
    assert set(CHARGES) == set(MobileIon.__args__)


def test_properties_do_not_depend_on_how_the_crystal_is_written(tmp_path, with_potential):
    with_potential(PAIRWISE)
    start = descend("a", caesium_chloride(4.0), PAIRWISE, settings(force=1e-4)).crystal
    length = start.lattice[0, 0]
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    places = np.array([[0, 0, 0], [0.5, 0.5, 0.25], [0, 0, 0.5], [0.5, 0.5, 0.75]])
    written = [
        start,
        Crystal(start.lattice @ turn, start.species[::-1], start.frac_coords[::-1] + 0.37),
        Crystal(np.diag([length, length, 2 * length]), ("Na", "Cl", "Na", "Cl"), places),
        Crystal(
            np.array([[1, 0, 0], [1, 1, 0], [0, 2, 1]]) @ start.lattice,
            start.species,
            start.frac_coords @ np.linalg.inv([[1, 0, 0], [1, 1, 0], [0, 2, 1]]),
        ),
    ]
    rows = []
    for number, crystal in enumerate(written):
        (tmp_path / str(number)).mkdir()
        rows.append(table_of(crystal, tmp_path / str(number), settings(force=1e-4, volume=(0.1, 9))))
    for row in rows:
        for column in columns.BY_RELAXATION:
            assert row[column] == pytest.approx(rows[0][column], rel=0.005), column


def test_each_failure_has_its_reason_and_stops_nothing(tmp_path, with_potential, monkeypatch):
    with_potential(PAIRWISE)
    perovskite = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    crystals = [
        descend("a", caesium_chloride(4.0, ("K", "Cl")), PAIRWISE, settings()).crystal,
        crystal_of(bulk("Na")),
        caesium_chloride(4.0, ("U", "Cl")),
        Crystal(np.eye(3) * 6.0, ("Cs", "Na", "Cl", "Cl", "Cl"), perovskite),
        caesium_chloride(5.0),
    ]
    found = properties_of_all(crystals, NAMES, settings(), Parts(tmp_path), workers=1)
    voltage, surface, modulus = (
        found[f"{name}_reason"].tolist() for name in ("average_voltage", "surface_energy", "bulk_modulus_potential")
    )
    assert voltage[:2] == [NO_ION, NO_HOST]
    assert surface[2:4] == [NO_SLAB, NO_SLAB]
    assert "whose faces differ" in found["surface_energy_detail"][3]
    assert (modulus[0], modulus[2], modulus[4]) == ("", UNKNOWN_ELEMENT, NO_MINIMUM)
    for name, (_, made) in PROPERTIES.items():
        for column in made:
            assert (found[column].isna() == (found[f"{name}_reason"] != "")).all()
            assert (found[f"{column}_std"].isna() == found[column].isna()).all()
    slow = properties_of_all(crystals[:1], ["bulk_modulus_potential"], settings(steps=1), Parts(tmp_path), workers=1)
    assert slow["bulk_modulus_potential_reason"][0] == "", "what the parts hold is not done again"

    def broken(*_):
        raise ValueError("odd")

    monkeypatch.setitem(PROPERTIES, "surface_energy", (broken, ("surface_energy",)))
    (tmp_path / "other").mkdir()
    row = table_of(crystals[0], tmp_path / "other", settings(), ["surface_energy"])
    assert (row["surface_energy_reason"], row["surface_energy_detail"]) == (FAILED, "ValueError: odd")


def test_large_slabs_and_crystals_that_would_rather_be_cut_have_no_surface_energy(tmp_path, with_potential):
    with_potential(PAIRWISE)
    row = table_of(caesium_chloride(4.0), tmp_path, settings(slab_atoms=2), ["surface_energy"])
    assert row["surface_energy_reason"] == NO_SLAB
    assert "of more atoms than relaxation.slab_atoms" in row["surface_energy_detail"]

    class Liar(CalculatorPotential):
        def energies_and_forces(self, crystals):
            forces = tuple(np.zeros((crystal.n_atoms, 3)) for crystal in crystals)
            return EnergiesAndForces(np.full(len(crystals), -99.0), forces, np.zeros((len(crystals), 3, 3)))

    with_potential(Liar(LennardJones(), FACTS))
    (tmp_path / "liar").mkdir()
    row = table_of(caesium_chloride(4.0), tmp_path / "liar", settings(), ["surface_energy"])
    assert row["surface_energy_reason"] == NEGATIVE


def test_a_host_that_does_not_come_to_rest_has_no_voltage(tmp_path, with_potential):
    with_potential(PAIRWISE)
    row = table_of(caesium_chloride(4.3), tmp_path, settings(steps=1), ["average_voltage"])
    assert (row["average_voltage_reason"], np.isnan(row["volume_change"])) == (NOT_CONVERGED, True)


def test_errors_are_those_of_the_benchmark():
    measured = json.loads(RESULTS.read_text())
    for column, (absolute, relative) in ERRORS.items():
        figures = measured[column]
        wanted = figures["rms"] if absolute else figures["rms_relative"]
        assert max(absolute, relative) == pytest.approx(wanted, rel=0.1), column


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{here!r}]
from test_potential_properties import start
start(Path({folder!r}), {potential!r})
"""


def start(folder, potential):
    """Voltage and bulk modulus of three crystals; what is left in `folder` of an earlier call is not done again."""
    crystals = [caesium_chloride(3.0, symbols) for symbols in (("Na", "Cl"), ("Li", "Br"), ("K", "I"))]
    chosen = settings(potential=potential, volume=(0.1, 9))
    return properties_of_all(crystals, NAMES[1:], chosen, Parts(folder), workers=1)


@pytest.mark.slow
def test_properties_of_a_killed_run_end_in_the_same_bytes(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    start(whole, PAIRS)
    code = SCRIPT.format(here=str(HERE), folder=str(killed), potential=str(HERE / "deadly_potential.py"))
    path = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    environment = os.environ | {"PYTHONPATH": path, "LIFE": "33"}
    deaths = 0
    while True:
        done = len(list(killed.glob("*.arrow")))
        ended = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
        assert len(list(killed.glob("*.arrow"))) > done, "a killed run keeps what it finished"
        deaths += 1
    assert deaths >= 2
    names = [sorted(file.name for file in folder.glob("*.arrow")) for folder in (whole, killed)]
    assert names[0] == names[1]  # names hold checksums
