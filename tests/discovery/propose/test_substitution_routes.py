"""Intermetallics: the rules of likeness against brute force over all metals."""

from itertools import product

import numpy as np
import pytest
import smact
from pymatgen.core import Element

from matscout.discovery.propose.crystal_templates import make_template
from matscout.discovery.propose.oxidation_states import ion_table
from matscout.discovery.propose.substitution_routes import metal_substitutions, metallic_parents

TABLE = ion_table()
METALS = sorted(TABLE.metals)
RADII = {symbol: float(Element(symbol).atomic_radius) for symbol in METALS if Element(symbol).atomic_radius}
# volumes that make the cube root a known radius, in any unit
VOLUMES = np.array(
    [RADII.get(e, np.nan) ** 3 if q == 0 else np.nan for e, q in zip(TABLE.elements, TABLE.charges, strict=True)]
)
EVERY = np.ones(len(TABLE.names), dtype=bool)


def electrons(symbol):
    """By hand: s electrons of the first groups, s and d of transition metals, s and p behind them, 3 in the f block."""
    if Element(symbol).is_lanthanoid or Element(symbol).is_actinoid:
        return 3
    group = Element(symbol).group
    return group if group <= 11 else group - 10


def alike(old, new):
    if old == new:
        return True
    if new not in RADII:
        return False
    chi_old, chi_new = (smact.Element(symbol).pauling_eneg for symbol in (old, new))
    return abs(RADII[new] / RADII[old] - 1) <= 0.15 and abs(chi_new - chi_old) <= 0.4


@pytest.mark.parametrize(("parent", "ratios"), [(("Cu", "Zn"), (1, 1)), (("Mg", "Ni"), (1, 2)), (("Al", "Ti"), (3, 1))])
def test_replacements_are_those_of_the_rules(parent, ratios):
    rows = [TABLE.metals[symbol] for symbol in parent]
    filled, counts = metal_substitutions(TABLE, rows, np.array(ratios), EVERY, VOLUMES)
    found = {tuple(TABLE.elements[row] for row in line) for line in filled}
    n_alike, expected = 0, set()
    for pair in product(METALS, repeat=2):
        if not all(alike(old, new) for old, new in zip(parent, pair, strict=True)):
            continue
        n_alike += 1
        change = sum(n * (electrons(new) - electrons(old)) for old, new, n in zip(parent, pair, ratios, strict=True))
        if pair != parent and len(set(pair)) == 2 and abs(change) / sum(ratios) <= 0.25:
            expected.add(pair)
    assert found == expected
    assert len(found) > 1
    assert counts["generated"] == n_alike
    assert n_alike == len(found) + sum(number for gate, number in counts.items() if gate != "generated")


def test_an_unknown_size_and_a_barred_metal_replace_nothing():
    unknown = VOLUMES.copy()
    unknown[TABLE.metals["Ni"]] = np.nan
    barred = EVERY.copy()
    barred[TABLE.metals["Fe"]] = False
    rows = [TABLE.metals[symbol] for symbol in ("Al", "Co")]

    def elements(allowed, volumes):
        filled, _ = metal_substitutions(TABLE, rows, np.array([1, 1]), allowed, volumes)
        return {TABLE.elements[row] for row in filled.flat}

    assert "Ni" in elements(EVERY, VOLUMES)
    assert "Ni" not in elements(EVERY, unknown)
    assert "Fe" not in elements(barred, VOLUMES)
    assert "Fe" in elements(EVERY, VOLUMES)


def test_parents_are_compounds_of_metals_alone(sample_records):
    from matscout.discovery.propose.gates import Attrition
    from matscout.params import load_params

    templates = [make_template(r.material_id, r.crystal) for r in sample_records if len(set(r.crystal.species)) > 1][
        :200
    ]
    attrition = Attrition()
    parents = metallic_parents(TABLE, templates, load_params().candidates, attrition)
    assert len(parents) > 20
    assert attrition.of_parents() == {"parents_of_metals_alone": len(parents)}
    for parent in parents:
        assert all(Element(symbol).is_metal for symbol in parent.template.elements)
        assert [TABLE.names[row] for row in parent.ions] == list(parent.template.elements)
