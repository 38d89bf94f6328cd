"""Oxidation states, substitution probabilities and the fillings made with them."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition
from pymatgen.core.structure_prediction.substitution_probability import SubstitutionPredictor

from matscout.discovery.propose.oxidation_states import ion_name, ion_table
from matscout.discovery.propose.substitution_routes import decorations, joint_probability, substitutions

TABLE = ion_table()
EVERY_ION = np.ones(len(TABLE.names), dtype=bool)


def rows_of(*names):
    return tuple(TABLE.names.index(name) for name in names)


@pytest.mark.parametrize(
    ("counts", "ions"),
    [
        ({"Sr": 1, "Ti": 1, "O": 3}, ("Sr2+", "Ti4+", "O2-")),
        ({"Li": 1, "Fe": 1, "P": 1, "O": 4}, ("Li+", "Fe2+", "P5+", "O2-")),
        ({"Bi": 2, "Te": 3}, ("Bi3+", "Te2-")),
        ({"Ga": 1, "As": 1}, ("Ga3+", "As3-")),
    ],
)
def test_formulas_balance_as_textbooks_say(counts, ions):
    assert TABLE.balance(counts) == rows_of(*ions)


@pytest.mark.parametrize("counts", [{"Cu": 1, "Zn": 1}, {"Na": 1}, {"Fe": 3, "O": 4}, {"He": 1, "O": 1}])
def test_alloys_elements_and_mixed_valence_do_not_balance(counts):
    assert TABLE.balance(counts) is None


def test_probabilities_are_those_of_pymatgen():
    predictor = SubstitutionPredictor().p
    for old, new in [("Ti4+", "Zr4+"), ("O2-", "S2-"), ("Na+", "K+")]:
        species = {str(ion): ion for ion in predictor.species}
        expected = predictor.cond_prob(species[new], species[old])
        assert TABLE.replacement[rows_of(old)[0], rows_of(new)[0]] == pytest.approx(expected)
    assert TABLE.replacement.sum(axis=1).max() <= 1 + 1e-9


def test_substitutions_are_those_of_pymatgen_that_stay_neutral():
    threshold = 0.004
    ions, ratios = rows_of("Sr2+", "Ti4+", "O2-"), np.array([1, 1, 3])
    filled, joint, counts = substitutions(TABLE, ions, ratios, EVERY_ION, threshold)
    found = {tuple(TABLE.names[i] for i in row): p for row, p in zip(filled, joint, strict=True)}
    expected = {}
    for guess in SubstitutionPredictor(threshold=threshold).list_prediction(["Sr2+", "Ti4+", "O2-"]):
        names = {str(old): str(new) for new, old in guess["substitutions"].items()}
        new = tuple(names[ion] for ion in ("Sr2+", "Ti4+", "O2-"))
        rows = [TABLE.names.index(name) for name in new if name in TABLE.names]
        if len(rows) == 3 and (TABLE.charges[rows] * ratios).sum() == 0 and new != ("Sr2+", "Ti4+", "O2-"):
            expected[new] = guess["probability"]
    assert found.keys() == expected.keys()
    assert len(found) > 3
    assert counts["generated"] >= len(found)
    for key, probability in expected.items():
        assert found[key] == pytest.approx(probability)


def test_joint_probability_is_the_product_and_unknown_ions_that_stay_count_as_one():
    ions, ratios = rows_of("Ga3+", "P3-"), np.array([1, 1])
    filled, joint, _ = substitutions(TABLE, ions, ratios, EVERY_ION, 0.001)
    assert len(filled) > 5
    assert set(filled[:, 1]) == {rows_of("P3-")[0]}  # the table of 2011 has no phosphide
    np.testing.assert_allclose(joint, TABLE.replacement[ions[0], filled[:, 0]])
    np.testing.assert_allclose(joint_probability(TABLE, ions, filled), joint)


def test_elements_that_are_not_allowed_appear_nowhere_even_where_they_were():
    allowed = np.array([element != "Ti" for element in TABLE.elements])
    filled, _, _ = substitutions(TABLE, rows_of("Sr2+", "Ti4+", "O2-"), np.array([1, 1, 3]), allowed, 1e-4)
    assert len(filled) > 0
    assert "Ti" not in {TABLE.elements[i] for i in filled.ravel()}


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([("Na+", "Cl-"), ("Ca2+", "Ti4+", "O2-"), ("Mg2+", "Al3+", "O2-")]))
def test_decorations_are_neutral_ordered_and_keep_the_sign_of_each_slot(seed, names):
    ratios = {2: np.array([1, 1]), 3: np.array([1, 1, 3] if "Ca2+" in names else [1, 2, 4])}[len(names)]
    old = rows_of(*names)
    filled, _ = decorations(TABLE, old, ratios, EVERY_ION, 300, np.random.default_rng(seed))
    assert ((TABLE.charges[filled] * ratios).sum(axis=1) == 0).all()
    assert (np.sign(TABLE.charges[filled]) == np.sign(TABLE.charges[list(old)])).all()
    for row in filled:
        cations = [TABLE.electronegativities[i] for i in row if TABLE.charges[i] > 0]
        anions = [TABLE.electronegativities[i] for i in row if TABLE.charges[i] < 0]
        assert max(cations) < min(anions)
        assert len({TABLE.elements[i] for i in row}) == len(row)


def test_names_are_spelt_as_pymatgen_spells_them():
    assert [ion_name("Ti", 4), ion_name("Na", 1), ion_name("O", -2), ion_name("F", -1)] == ["Ti4+", "Na+", "O2-", "F-"]


@pytest.mark.parametrize(
    ("formula", "balances"),
    [
        ("Mn8Se9O", True), ("Pb3O4", True), ("Fe7S8", True), ("Na4Mn9O18", True), ("Fe3O4", True), ("Eu3S4", True), ("AgO", True),
        ("NaCl", True), ("Na2O2", True), ("KO2", True), ("SrF", False), ("NaCl3", False), ("CuZn", False),
        ("RfO2", None), ("HeO", None),
    ],
)  # fmt: skip
def test_mixed_valence_balances_where_some_choice_of_two_states_does(formula, balances):
    counts = {element.symbol: int(number) for element, number in Composition(formula).items()}
    assert TABLE.can_balance(counts) is balances


def test_balance_agrees_with_trying_every_atom():
    """Brute force over the state of each single cation of small formulas."""
    for formula in ("Fe3O4", "Mn2O3", "FeO2", "Mn3O4", "Pb2O3", "Sn2S3", "VO2", "Cu3N", "TiN", "FeF2"):
        (cation, n), (anion, m) = ((e.symbol, int(x)) for e, x in Composition(formula).items())
        plus = [int(TABLE.charges[row]) for row in TABLE.ions_of[cation] if TABLE.charges[row] > 0]
        minus = [int(TABLE.charges[row]) for row in TABLE.ions_of[anion] if TABLE.charges[row] < 0]
        found = any(
            sum(states) + m * charge == 0 and len(set(states)) <= 2
            for states in combinations_with_replacement(plus, n)
            for charge in minus
        )
        if found:
            assert TABLE.can_balance({cation: n, anion: m}), formula


def test_a_formula_of_many_elements_is_decided_at_once():
    """A formula over whose states a product would run into the hundreds of millions."""
    counts = dict.fromkeys(("Mn", "Fe", "Co", "Ni", "Cu", "Cr", "V", "Ti", "Mo", "W"), 7) | {"O": 90, "S": 11}
    assert TABLE.can_balance(counts) in {True, False}
