"""One contract for every potential: forces and stresses are derivatives, invariances hold, the unknown is NaN."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import matscout.potentials.load_potential as by_name
from matscout.crystal import Crystal
from matscout.errors import InputError
from matscout.potentials.calculators import PotentialCalculator, atoms_of, crystal_of
from matscout.potentials.load_potential import POTENTIALS, load_potential
from matscout.potentials.potential import check_weights

PAIRS = str(Path(__file__).parents[1] / "discovery" / "relax" / "pair_potential.py")
PACKAGES = {"sevennet-0": "sevenn", "sevennet-l3i5": "sevenn", "chgnet": "chgnet", "chgnet-r2scan": "chgnet"}
STEP = 0.005
CELL = Crystal(
    np.array([[3.9, 0.2, 0.0], [0.0, 4.1, 0.1], [0.3, 0.0, 4.3]]),
    ("Na", "Cl", "K", "Br"),
    np.array([[0.02, 0, 0.01], [0.5, 0.52, 0.03], [0.5, 0.03, 0.55], [0.04, 0.5, 0.46]]),
)


def potential_of(name):
    if name == PAIRS:
        return load_potential(PAIRS, trust_file=True)
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed")
    return load_potential(name)


@pytest.fixture(params=[PAIRS, *POTENTIALS])
def potential(request):
    return potential_of(request.param)


def shifted(crystal, atom, axis, step):
    positions = crystal.frac_coords @ crystal.lattice
    positions[atom, axis] += step
    return Crystal(crystal.lattice, crystal.species, positions @ np.linalg.inv(crystal.lattice))


def strained(crystal, strain):
    return Crystal(crystal.lattice @ (np.eye(3) + strain), crystal.species, crystal.frac_coords)


@pytest.mark.slow
def test_forces_and_stresses_are_derivatives_of_the_energy(potential):
    said = potential.energies_and_forces([CELL])
    assert said.energies == pytest.approx(potential.energies([CELL]), abs=1e-5)
    for atom, axis in ((0, 0), (2, 1), (3, 2)):
        up, down = potential.energies([shifted(CELL, atom, axis, STEP), shifted(CELL, atom, axis, -STEP)])
        assert said.forces[0][atom, axis] == pytest.approx(-(up - down) / (2 * STEP), abs=0.01, rel=0.02)
    for i, j in ((0, 0), (1, 2)):
        strain = np.zeros((3, 3))
        strain[i, j] += STEP / 2
        strain[j, i] += STEP / 2
        up, down = potential.energies([strained(CELL, strain), strained(CELL, -strain)])
        expected = (up - down) / (2 * STEP) / CELL.volume
        assert said.stresses[0][i, j] == pytest.approx(expected, abs=2e-3, rel=0.03)
    np.testing.assert_allclose(said.forces[0].sum(axis=0), 0, atol=1e-3)


@pytest.mark.slow
def test_a_batch_says_what_each_crystal_alone_does_wherever_it_stands(potential):
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    order = [2, 0, 3, 1]
    moved = Crystal(CELL.lattice, CELL.species, CELL.frac_coords + np.array([0.3, -0.7, 1.4]))
    turned = Crystal(CELL.lattice @ turn, CELL.species, CELL.frac_coords)
    mixed = Crystal(CELL.lattice, tuple(CELL.species[i] for i in order), CELL.frac_coords[order])
    alone = potential.energies_and_forces([CELL])
    said = potential.energies_and_forces([moved, turned, mixed])
    np.testing.assert_allclose(said.energies, alone.energies[0], atol=2e-4)
    np.testing.assert_allclose(said.forces[1], alone.forces[0] @ turn, atol=2e-3)
    np.testing.assert_allclose(said.forces[2], alone.forces[0][order], atol=2e-3)


def test_an_element_that_it_does_not_know_is_nan():
    potential = potential_of(PAIRS)
    unknown = Crystal(np.eye(3) * 4, ("U", "Cl"), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    said = potential.energies_and_forces([CELL, unknown])
    assert np.isfinite(said.energies).tolist() == [True, False]
    assert np.isnan(said.forces[1]).all()
    assert np.isnan(potential.energies([unknown])).all()


def test_ase_sees_the_same_numbers():
    potential = potential_of(PAIRS)
    atoms = atoms_of(CELL)
    atoms.calc = PotentialCalculator(potential)
    said = potential.energies_and_forces([CELL])
    assert atoms.get_potential_energy() == pytest.approx(said.energies[0])
    np.testing.assert_allclose(atoms.get_forces(), said.forces[0])
    np.testing.assert_allclose(atoms.get_stress(voigt=False), said.stresses[0])
    back = crystal_of(atoms)
    assert back.species == CELL.species
    np.testing.assert_allclose(back.frac_coords, CELL.frac_coords, atol=1e-12)


def test_names_files_and_trust():
    with pytest.raises(InputError, match="'sevenet' is unknown; choose one of chgnet, chgnet-r2scan, sevennet-0"):
        load_potential("sevenet")
    with pytest.raises(
        InputError, match=r"code that matscout would run; if you trust it, set relaxation\.trust_file: true"
    ):
        load_potential(PAIRS)
    with pytest.raises(InputError, match="does not exist"):
        load_potential("nowhere.py", trust_file=True)


def test_an_entry_point_of_another_package_is_found(monkeypatch):
    class Point:
        name = "ours"

        def load(self):
            return lambda: "loaded"

    monkeypatch.setattr(by_name, "entry_points", lambda group: [Point()] if group == "matscout.potentials" else [])
    assert load_potential("ours") == "loaded"


def test_weights_other_than_the_known_ones_are_not_read(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"something else")
    with pytest.raises(InputError, match="reading it could run foreign code"):
        check_weights(tmp_path / "weights.pth", "0" * 64)
