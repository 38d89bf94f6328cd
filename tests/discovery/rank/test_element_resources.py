"""Prices, indices and abundances of crystals, against sums done by hand from the cited tables."""

import numpy as np
import pytest
from pymatgen.analysis.cost import CostAnalyzer, CostDBElements
from pymatgen.analysis.hhi import HHIModel

from matscout.discovery.rank.element_resources import resource_columns


def test_a_rock_salt_by_hand():
    """Na 22.98977 and Cl 35.453 g/mol; $250 and $1.5 a kg; HHI 1100 and 500, 1500 and 1500; 23600 and 145 mg/kg."""
    found = resource_columns([["Na", "Cl"]])
    sodium = 22.98977 / (22.98977 + 35.453)
    assert found["elemental_cost"][0] == pytest.approx(sodium * 250 + (1 - sodium) * 1.5, rel=1e-4)
    assert found["hhi_production"][0] == pytest.approx(sodium * 1100 + (1 - sodium) * 1500, rel=1e-4)
    assert found["hhi_reserve"][0] == pytest.approx(sodium * 500 + (1 - sodium) * 1500, rel=1e-4)
    assert found["crustal_abundance"][0] == 145  # of chlorine, the rarer one


@pytest.mark.filterwarnings("ignore:No Pauling electronegativity:UserWarning")  # pymatgen orders noble gases by it
@pytest.mark.parametrize(
    ("formula", "species"), [("CdTe", ["Cd", "Te"]), ("Cu2ZnSnS4", ["Cu"] * 2 + ["Zn", "Sn"] + ["S"] * 4)]
)
def test_prices_and_indices_are_those_of_pymatgen(formula, species):
    found = resource_columns([species])
    assert found["elemental_cost"][0] == pytest.approx(CostAnalyzer(CostDBElements()).get_cost_per_kg(formula))
    production, reserve = HHIModel().get_hhi(formula)
    assert (found["hhi_production"][0], found["hhi_reserve"][0]) == pytest.approx((production, reserve))


def test_an_element_without_a_figure_makes_none_up():
    found = resource_columns([["U", "O", "O"], ["Ti", "O", "O"], ["Ru", "O", "O"]])
    assert np.isnan(found["elemental_cost"]).tolist() == [True, False, False]  # uranium has no price
    assert np.isnan(found["hhi_production"]).tolist() == [True, False, False]
    assert np.isnan(found["crustal_abundance"]).tolist() == [False, False, True]  # the handbook gives none for Ru


def test_the_size_of_the_cell_does_not_matter():
    one, two = resource_columns([["Ga", "As"]]), resource_columns([["Ga", "As", "Ga", "As"]])
    assert all(one[name][0] == pytest.approx(two[name][0]) for name in one)
