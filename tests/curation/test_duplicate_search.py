"""Which rows are one material: matching, space groups, complete links, and independence of how a cell is written."""

from itertools import combinations, permutations

import numpy as np
import pytest
from crystals import layered, perovskite, quartz, repeat, rewrite, rock_salt, zinc_blende
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher

from matscout.crystal import Crystal
from matscout.curation.duplicate_search import complete_link
from matscout.curation.structure_matching import (
    content_key,
    match_pairs,
    reduce_crystal,
    space_group_number,
    surely_primitive,
)
from matscout.params import load_params

MATCHING = load_params().curation.matching
CRYSTALS = {
    "rock salt": rock_salt(),
    "zinc blende": zinc_blende(),
    "cubic perovskite": perovskite(),
    "polar perovskite": perovskite(shift=0.25, tetragonality=1.05),
    "quartz": quartz(),
}
SPACE_GROUPS = {
    "rock salt": 225,
    "zinc blende": 216,
    "cubic perovskite": 221,
    "polar perovskite": 99,
    "quartz": 154,
}


def match(first, second):
    cells = [reduce_crystal(crystal, MATCHING.symprec) for crystal in (first, second)]
    found = match_pairs(cells, [(0, 1)], MATCHING)
    return found[0] if found else None


times = st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2))


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(sorted(CRYSTALS)), times=times, seed=st.integers(0, 10**6))
def test_supercell_rotation_origin_and_site_order_change_nothing(name, times, seed):
    crystal = CRYSTALS[name]
    other = rewrite(crystal, times=times, seed=seed)
    assert space_group_number(other, MATCHING.symprec) == SPACE_GROUPS[name]
    reduced = reduce_crystal(other, MATCHING.symprec)
    assert reduced.block == reduce_crystal(crystal, MATCHING.symprec).block
    found = match(crystal, other)
    assert found is not None
    assert found.same_material
    assert found.rms == pytest.approx(0, abs=1e-5)
    assert found.volume_difference == pytest.approx(0, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(sorted(CRYSTALS)), seed=st.integers(0, 10**6))
def test_strain_of_a_percent_and_noise_of_three_hundredths_stay_the_same_material(name, seed):
    rng = np.random.default_rng(seed)
    crystal = CRYSTALS[name]
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    lattice = crystal.lattice @ axes @ np.diag(1 + rng.uniform(-0.01, 0.01, 3)) @ axes.T
    steps = rng.normal(size=(crystal.n_atoms, 3))
    steps *= 0.02 / np.linalg.norm(steps, axis=1, keepdims=True)
    noisy = Crystal(lattice, crystal.species, crystal.frac_coords + steps @ np.linalg.inv(lattice))
    found = match(crystal, rewrite(noisy, times=(1, 2, 1), seed=seed))
    assert found is not None
    assert found.same_material


def disturbed(crystal, seed):
    """Written differently, strained by up to 4 %, sites displaced by up to 0.6 Å: at both sides of the tolerances."""
    rng = np.random.default_rng(seed)
    strain = np.eye(3) + rng.uniform(-0.04, 0.04, (3, 3))
    frac = crystal.frac_coords + rng.normal(size=(crystal.n_atoms, 3)) * rng.choice([0.0, 0.005, 0.05, 0.1])
    return rewrite(Crystal(crystal.lattice @ strain, crystal.species, frac), times=(1, 1, 1 + seed % 2), seed=seed)


def pymatgen_match(first, second):
    """rms, largest distance and mapped lattice, by pymatgen's matcher alone; None where either direction fails."""
    matcher = StructureMatcher(MATCHING.ltol, MATCHING.stol, MATCHING.angle_tol, primitive_cell=False)
    first, second = first.crystal.to_structure(), second.crystal.to_structure()
    if not matcher.fit(first, second, symmetric=True, skip_structure_reduction=True):
        return None
    found = matcher.get_rms_dist(first, second)
    return None if found is None else (*found, matcher.get_transformation(first, second)[0])


FAMILIES = {
    "perovskites": [perovskite(), perovskite(shift=0.25, tetragonality=1.05), perovskite(tetragonality=1.1)],
    "rock salt and zinc blende": [rock_salt(), zinc_blende(species=("Na", "Cl")), repeat(rock_salt(), (1, 1, 2))],
    "quartz of both hands": [quartz(), quartz(left_handed=True)],
    "polytypes": [layered("AB"), layered("ABC"), layered("ABAC"), layered("ABCB"), layered("ABCACB")],
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_matches_are_those_of_pymatgen_to_the_last_bit(family):
    written = [*FAMILIES[family], *(disturbed(crystal, seed) for seed in (1, 2, 3) for crystal in FAMILIES[family])]
    blocks = {}
    for crystal in written:
        cell = reduce_crystal(crystal, MATCHING.symprec)
        blocks.setdefault(cell.block, []).append(cell)
    seen = set()
    for cells in blocks.values():
        pairs = list(combinations(range(len(cells)), 2))
        found = {(each.first, each.second): each for each in match_pairs(cells, pairs, MATCHING)}
        for first, second in pairs:
            expected = pymatgen_match(cells[first], cells[second])
            seen.add(expected is None)
            assert ((first, second) in found) == (expected is not None)
            if expected is not None:
                each = found[first, second]
                assert (each.rms, each.max_distance) == expected[:2]
                a, b = (cells[place].crystal.lattice for place in (first, second))
                if not np.isnan(each.strain):
                    mapped = expected[2] @ b
                    squares = np.linalg.eigvals(np.linalg.solve(a @ a.T, mapped @ mapped.T)).real
                    stretches = np.sqrt(squares / np.prod(squares) ** (1 / 3))
                    assert each.strain == np.abs(stretches - 1).max()
    assert False in seen  # some match


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_surely_primitive_cell_is_one_that_pymatgen_leaves_as_it_is(family):
    sure = []
    for seed in range(4):
        for crystal in FAMILIES[family]:
            for cell in (crystal, repeat(crystal, (1, 2, 1)), disturbed(repeat(crystal, (2, 1, 1)), seed)):
                sure.append(surely_primitive(cell))
                if sure[-1]:
                    assert cell.to_structure().get_primitive_structure() == cell.to_structure()
    assert any(sure) or family == "rock salt and zinc blende"
    assert not all(sure)


def test_other_arrangements_do_not_match():
    assert match(rock_salt(species=("Zn", "S")), zinc_blende()) is None


def test_cubic_and_polar_perovskite_match_but_are_two_materials():
    found = match(perovskite(), perovskite(shift=0.25, tetragonality=1.05))
    assert found is not None
    assert not found.same_material


def test_a_strained_lattice_is_another_material_even_with_all_sites_in_place():
    found = match(perovskite(), perovskite(tetragonality=1.06))
    assert not found.same_material
    assert found.strain == pytest.approx(1.06 ** (2 / 3) - 1, abs=1e-6)
    assert found.max_distance == pytest.approx(0, abs=1e-6)


def test_mirror_images_are_one_material():
    left, right = quartz(), quartz(left_handed=True)
    assert {space_group_number(left, 0.1), space_group_number(right, 0.1)} == {152, 154}
    found = match(left, right)
    assert found.same_material
    assert np.isnan(found.strain)  # their space groups count as equal, no tolerance is asked for


def test_volume_difference_is_kept():
    found = match(rock_salt(5.6), rock_salt(5.7))
    assert found.volume_difference == pytest.approx(2 * (5.7**3 - 5.6**3) / (5.7**3 + 5.6**3))


def test_content_keys_tell_cells_apart():
    assert content_key(rock_salt()) == content_key(rock_salt())
    assert content_key(rock_salt()) != content_key(rock_salt(5.65))
    assert content_key(rock_salt()) != content_key(rock_salt(species=("Na", "Br")))


def brute_force_is_complete(home, linked):
    return all(home[a] != home[b] or frozenset((a, b)) in linked for a, b in combinations(sorted(home), 2))


@given(st.data())
def test_complete_link_never_joins_an_unmatched_pair_and_leaves_nothing_to_join(data):
    keys = [f"k{i}" for i in range(data.draw(st.integers(1, 7)))]
    pairs = list(combinations(keys, 2))
    chosen = [pair for pair in pairs if data.draw(st.booleans())]
    edges = [(data.draw(st.floats(0, 1)), *pair) for pair in chosen]
    home = complete_link(keys, edges)
    linked = {frozenset(pair) for pair in chosen}
    assert brute_force_is_complete(home, linked)
    assert all(home[key] <= key and home[home[key]] == home[key] for key in keys)
    for first, second in combinations(sorted(set(home.values())), 2):
        across = [(a, b) for a in keys for b in keys if home[a] == first and home[b] == second]
        assert not all(frozenset(pair) in linked for pair in across)


def test_complete_link_does_not_depend_on_the_order_of_edges():
    edges = [(0.1, "a", "b"), (0.1, "b", "c"), (0.2, "c", "d"), (0.05, "a", "d")]
    homes = [
        complete_link("dcba", [(w, *sorted((x, y), reverse=flip)) for w, x, y in order])
        for order in permutations(edges)
        for flip in (False, True)
    ]
    assert all(home == homes[0] for home in homes)
    assert homes[0] == {"a": "a", "d": "a", "b": "b", "c": "b"}
