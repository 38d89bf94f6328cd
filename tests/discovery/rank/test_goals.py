"""Chances of meeting a goal against sampling, and goals that make no sense."""

import numpy as np
import pandas as pd
import pytest
from imports import ROOT
from pydantic import ValidationError
from scipy.stats import norm

from matscout.discovery.rank.goals import (
    check_goal,
    distance_outside,
    measured_windows,
    not_known_yet,
    obeys_element_rules,
    window_probabilities,
)
from matscout.discovery.stability.energy_above_hull import HullEnergy
from matscout.ensemble.mixture import Mixture
from matscout.errors import InputError
from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.laplace import Laplace
from matscout.params import ElementGroups, Goal, Objective, load_params

GAP, ENERGY, HULL = "band_gap", "formation_energy_per_atom", "energy_above_hull"
N = 6
N_DRAWS = 200_000


def objective(column, window=None, direction=None):
    return Objective(column=column, window=window, direction=direction)


def goal(*objectives, require=(), allow=None, deny=()):
    return Goal(
        description="", objectives=objectives, require_elements=require, allow_elements=allow, deny_elements=deny
    )


@pytest.fixture
def world():
    """Three members that disagree about six crystals, and their weights."""
    rng = np.random.default_rng(0)
    gaps = [HurdleLaplace(rng.uniform(0, 1, N), rng.uniform(0, 3, N), rng.uniform(0.1, 1, N)) for _ in range(3)]
    energies = [Laplace(rng.normal(-1, 1, N), rng.uniform(0.05, 0.5, N)) for _ in range(3)]
    weights = np.array([0.5, 0.3, 0.2])
    mixtures = {GAP: Mixture.of(gaps, weights), ENERGY: Mixture.of(energies, weights)}
    members = {target: {"a": 0.5, "b": 0.3, "c": 0.2} for target in mixtures}
    return mixtures, members, weights


def draws_of(mixtures, weights):
    """Joint draws: a member first, then its opinion of each target."""
    rng = np.random.default_rng(1)
    member = rng.choice(3, size=N_DRAWS, p=weights)
    samples = {}
    for target, mixture in mixtures.items():
        by_member = np.stack([component.sample(rng, N_DRAWS) for component in mixture.components])
        samples[target] = by_member[member, np.arange(N_DRAWS)]
    return samples


def test_single_and_joint_probabilities_agree_with_sampling(world):
    mixtures, members, weights = world
    aims = [objective(GAP, (0.8, 2.0)), objective(ENERGY, (None, -0.8)), objective(ENERGY, direction="minimize")]
    single, joint = window_probabilities(mixtures, members, aims, None)
    samples = draws_of(mixtures, weights)
    in_gap = (samples[GAP] >= 0.8) & (samples[GAP] <= 2.0)
    in_energy = samples[ENERGY] <= -0.8
    np.testing.assert_allclose(single[GAP], in_gap.mean(axis=0), atol=0.005)
    np.testing.assert_allclose(single[ENERGY], in_energy.mean(axis=0), atol=0.005)
    np.testing.assert_allclose(joint, (in_gap & in_energy).mean(axis=0), atol=0.005)
    assert np.abs(joint - single[GAP] * single[ENERGY]).max() > 0.01  # members make targets depend on each other


def test_a_window_from_zero_counts_metals_and_one_above_zero_does_not(world):
    mixtures, members, _ = world
    single, _ = window_probabilities(mixtures, members, [objective(GAP, (0.0, 0.0001))], None)
    assert (single[GAP] >= mixtures[GAP].probability_zero() - 1e-12).all()
    single, _ = window_probabilities(mixtures, members, [objective(GAP, (0.0001, None))], None)
    assert (single[GAP] <= 1 - mixtures[GAP].probability_zero() + 1e-12).all()


def test_energy_above_hull_is_formation_energy_in_another_origin(world):
    mixtures, members, weights = world
    hull = np.linspace(-2, 0, N)
    aims = [objective(HULL, (None, 0.1)), objective(ENERGY, (-3.0, None)), objective(GAP, (1.0, None))]
    single, joint = window_probabilities(mixtures, members, aims, HullEnergy(hull, np.zeros(N)))
    samples = draws_of(mixtures, weights)
    is_stable = samples[ENERGY] - hull <= 0.1
    np.testing.assert_allclose(single[HULL], is_stable.mean(axis=0), atol=0.005)
    expected = is_stable & (samples[ENERGY] >= -3) & (samples[GAP] >= 1)
    np.testing.assert_allclose(joint, expected.mean(axis=0), atol=0.005)


def test_an_uncertain_hull_is_averaged_over(world):
    mixtures, members, weights = world
    hull, std = np.linspace(-2, 0, N), np.linspace(0, 0.3, N)
    aims = [objective(HULL, (None, 0.1)), objective(ENERGY, (-3.0, None)), objective(GAP, (1.0, None))]
    single, joint = window_probabilities(mixtures, members, aims, HullEnergy(hull, std))
    samples = draws_of(mixtures, weights)
    hulls = hull + std * np.random.default_rng(2).standard_normal((N_DRAWS, N))
    is_stable = samples[ENERGY] - hulls <= 0.1
    np.testing.assert_allclose(single[HULL], is_stable.mean(axis=0), atol=0.01)
    expected = is_stable & (samples[ENERGY] >= -3) & (samples[GAP] >= 1)
    np.testing.assert_allclose(joint, expected.mean(axis=0), atol=0.01)


def test_what_is_known_for_certain_is_met_or_not(world):
    mixtures, members, _ = world
    aims = [objective(GAP, (0.8, 2.0)), objective("elemental_cost", (None, 100.0))]
    prices = np.array([1.0, 100.0, 101.0, 5.0, 1e5, 7.0])
    single, joint = window_probabilities(mixtures, members, aims, None, {"elemental_cost": prices})
    assert single["elemental_cost"].tolist() == [1, 1, 0, 1, 0, 1]
    np.testing.assert_allclose(joint, single[GAP] * single["elemental_cost"])


def test_without_windows_nothing_can_be_missed(world):
    mixtures, members, _ = world
    single, joint = window_probabilities(mixtures, members, [objective(ENERGY, direction="minimize")], None)
    assert single == {}
    np.testing.assert_array_equal(joint, 1)


def test_a_member_dropped_from_one_target_still_speaks_on_the_other(world):
    mixtures, members, _ = world
    mixtures = {**mixtures, GAP: Mixture.of(mixtures[GAP].components[:2], np.array([0.6, 0.4]))}
    members = {**members, GAP: {"a": 0.6, "b": 0.4}}
    single, joint = window_probabilities(mixtures, members, [objective(GAP, (1, 2)), objective(ENERGY, (-9, 9))], None)
    assert ((joint > 0) & (joint <= 1)).all()
    assert np.abs(joint - single[GAP]).max() < 0.1  # the other window is met for certain


def test_distance_is_zero_inside_and_grows_outside():
    np.testing.assert_allclose(distance_outside(np.array([0.5, 1, 1.4, 1.8, 2.5]), (1.0, 1.8)), [0.5, 0, 0, 0, 0.7])
    np.testing.assert_allclose(distance_outside(np.array([0.5, 9]), (None, 1.0)), [0, 8])


def test_element_rules():
    species = [["Na", "Cl"], ["Pb", "Te"], ["Bi", "Te"], ["O"]]
    rules = goal(objective(GAP, (1, 2)), require=("Te", "O"), allow=("Pb", "Bi", "Te"), deny=("Pb",))
    assert obeys_element_rules(species, rules).tolist() == [False, False, True, False]


def holds(symbols, *, all_of=(), any_of=(), none_of=()):
    """The element groups by their definition."""
    return (
        all(symbol in symbols for symbol in all_of)
        and all(any(symbol in symbols for symbol in group) for group in any_of)
        and not any(symbol in symbols for symbol in none_of)
    )


@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"all_of": ("Li", "O")},
        {"any_of": (("Mn", "Fe"),)},
        {"any_of": (("Mn", "Fe"), ("O", "F"))},
        {"all_of": ("Li",), "any_of": (("Mn", "Fe"),), "none_of": ("F", "O")},
    ],
)
def test_element_groups_are_all_of_any_of_each_and_none_of(groups):
    elements = ("Li", "Mn", "Fe", "O", "F")
    species = [
        [one for place, one in enumerate(elements) if chosen >> place & 1] for chosen in range(1, 2 ** len(elements))
    ]
    rules = goal(objective(GAP, (1, 2))).model_copy(update={"elements": ElementGroups(**groups)})
    assert obeys_element_rules(species, rules).tolist() == [holds(symbols, **groups) for symbols in species]


def test_old_and_new_rules_on_elements_hold_together():
    rules = Goal(
        description="",
        objectives=(objective(GAP, (1, 2)),),
        elements={"all_of": ["Li"], "any_of": ["Mn", "Fe"], "none_of": ["Pb"]},
        require_elements=("O", "S"),
        deny_elements=("As",),
    )
    assert rules.elements.any_of == (("Mn", "Fe"),)  # one group needs no second pair of brackets
    species = [
        ["Li", "Mn", "O"],
        ["Li", "Mn"],
        ["Mn", "O"],
        ["Li", "O"],
        ["Li", "Fe", "S", "As"],
        ["Li", "Fe", "O", "Pb"],
    ]
    assert obeys_element_rules(species, rules).tolist() == [True, False, False, False, False, False]
    assert rules.element_rules() == [
        ("contains", "Li"),
        ("contains at least one of", "Mn, Fe"),
        ("contains at least one of", "O, S"),
        ("does not contain", "Pb, As"),
    ]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"elements": {"all_of": ["Li", "Xx"]}}, "'Xx' is not an element"),
        ({"elements": {"any_of": [["Mn", "iron"]]}}, "did you mean Fe"),
        ({"elements": {"none_of": ["pb"]}}, "did you mean Pb"),
        ({"elements": {"any_of": [[]]}}, "at least 1"),
        ({"elements": {"all_of": ["Pb"], "none_of": ["Pb"]}}, "must hold Pb, which"),
        ({"elements": {"any_of": [["Mn", "Fe"]]}, "deny_elements": ["Fe", "Mn"]}, "must hold Mn or Fe, which"),
        ({"elements": {"all_of": ["Li"]}, "allow_elements": ["O", "Mn"]}, "must hold Li, which"),
        ({"require_elements": ["Pb"], "deny_elements": ["Pb"]}, "must hold Pb, which"),
        ({"allow_elements": ["Pb"], "deny_elements": ["Pb"]}, "also denied"),
    ],
)
def test_rules_on_elements_that_nothing_meets_are_refused_when_they_are_read(rules, words):
    with pytest.raises(ValidationError, match=words):
        Goal(description="", objectives=(objective(GAP, (1, 2)),), **rules)


@pytest.mark.parametrize(
    ("nonsense", "words"),
    [
        (goal(objective("hardness", (1, 2))), "'hardness' is not a column here; choose from"),
        (goal(objective(GAP, (1, 2)), objective(GAP, (3, None))), "share no value"),
        (goal(objective(GAP, direction="minimize"), objective(GAP, direction="maximize")), "at once"),
    ],
)
def test_goals_that_make_no_sense_are_refused(nonsense, words):
    with pytest.raises(InputError, match=words):
        check_goal(nonsense, [GAP, ENERGY])


def test_a_window_on_the_hull_needs_references(world):
    mixtures, members, _ = world
    with pytest.raises(InputError, match="needs reference phases"):
        window_probabilities(mixtures, members, [objective(HULL, (None, 0.1))], None)


def test_windows_on_values_with_errors_are_gaussian_and_unknown_ones_are_never_met():
    table = pd.DataFrame({"surface_energy": [1.0, 0.5, np.nan], "surface_energy_std": [0.2, 0.1, np.nan]})
    aims = [objective("surface_energy", (None, 1.2)), objective("surface_energy", (0.6, None))]
    found = measured_windows(table, [*aims, objective("surface_energy", direction="minimize")])
    wanted = [norm(1.0, 0.2).cdf(1.2) - norm(1.0, 0.2).cdf(0.6), norm(0.5, 0.1).sf(0.6) - norm(0.5, 0.1).sf(1.2), 0.0]
    np.testing.assert_allclose(found["surface_energy"], wanted, atol=1e-12)
    assert measured_windows(table, [objective("surface_energy", direction="minimize")]) == {}


def test_what_only_relaxed_crystals_have_is_named():
    voltage, change = objective("average_voltage", (3.0, None)), objective("volume_change", (-0.1, 0.1))
    assert not not_known_yet(goal(objective(HULL, (None, 0.1))))
    one = not_known_yet(goal(objective(HULL, (None, 0.1)), voltage, objective("average_voltage", direction="maximize")))
    assert one == "average_voltage is known only after the relaxation and does not count here"
    both = not_known_yet(goal(voltage, objective(HULL, (None, 0.1)), change))
    assert both == "average_voltage and volume_change are known only after the relaxation and do not count here"


def test_a_goal_needs_something_that_can_be_screened():
    with pytest.raises(ValueError, match="add one that `screen` can predict"):
        goal(objective("average_voltage", (3.0, None)))
    wanted = goal(objective("average_voltage", (3.0, None)), objective(HULL, (None, 0.1)))
    assert [aim.column for aim in wanted.screened] == [HULL]
    assert [aim.column for aim in wanted.relaxed] == ["average_voltage"]


def test_presets_with_a_gap_say_that_it_is_the_pbe_gap():
    presets = load_params(ROOT / "params.yaml").screening.goals
    with_gap = {name: preset for name, preset in presets.items() if any(a.column == GAP for a in preset.objectives)}
    assert {"solar_absorber", "thermoelectric", "transparent_conductor"} <= set(with_gap)
    for name, preset in with_gap.items():
        assert "PBE gap" in preset.description, name
