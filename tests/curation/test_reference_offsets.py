"""Offsets that were planted come back, bad labels and rare elements do no harm, held-out residuals shrink."""

import numpy as np
import pandas as pd
import pytest

from matscout import columns
from matscout.crystal import ATOMIC_NUMBERS, N_ELEMENTS
from matscout.curation.align_energies import align, reference_scale
from matscout.curation.reference_offsets import Pairs, fit_offset, held_out_residuals, make_pairs
from matscout.params import load_params

SETTINGS = load_params().curation.offsets
METALS = ("Li", "Na", "Mg", "Al", "Ti", "Fe", "Zn", "Sr", "Y", "Ba")
ANIONS = ("O", "S", "Cl", "N")
PLANTED = {"constant": 0.03, "elements": {"O": 0.3, "Cl": -0.15, "Fe": 0.1}}


def pairs_of(n, *, planted=PLANTED, noise=0.02, seed=0, hubbard=0.0):
    rng = np.random.default_rng(seed)
    fractions = np.zeros((n, N_ELEMENTS))
    for row in range(n):
        metal, anion = rng.choice(METALS), rng.choice(ANIONS)
        share = rng.choice([1 / 4, 1 / 3, 1 / 2, 3 / 5, 2 / 3])
        fractions[row, ATOMIC_NUMBERS[metal] - 1] = 1 - share
        fractions[row, ATOMIC_NUMBERS[anion] - 1] = share
    flags = (rng.random(n) < 0.3).astype(float)
    truth = planted["constant"] + hubbard * flags
    for symbol, value in planted["elements"].items():
        truth = truth + value * fractions[:, ATOMIC_NUMBERS[symbol] - 1]
    reference = rng.normal(-2, 1, n)
    groups = np.array([f"g{i:04d}" for i in range(n)], dtype=object)
    return Pairs(groups, fractions, flags, reference + truth + rng.normal(0, noise, n), reference)


def planted_of(symbol):
    return PLANTED["constant"] + PLANTED["elements"].get(symbol, 0.0)


def columns_of(symbols):
    return np.array([ATOMIC_NUMBERS[symbol] - 1 for symbol in symbols])


def test_planted_offsets_lie_inside_the_joint_intervals_and_near_the_estimates():
    fit = fit_offset(pairs_of(300), SETTINGS)
    symbols = METALS + ANIONS
    offsets = fit.element_offsets(columns_of(symbols))
    truth = np.array([planted_of(symbol) for symbol in symbols])
    assert np.abs(offsets.value - truth).max() < 0.03
    assert ((offsets.jointly[0] <= truth) & (truth <= offsets.jointly[1])).all()
    assert fit.scale == pytest.approx(0.02, rel=0.25)


def test_intervals_cover_as_often_as_they_say():
    symbols = METALS + ANIONS
    truth = np.array([planted_of(symbol) for symbol in symbols])
    alone, jointly = [], []
    for seed in range(40):
        offsets = fit_offset(pairs_of(120, seed=seed), SETTINGS).element_offsets(columns_of(symbols))
        alone.append((offsets.alone[0] <= truth) & (truth <= offsets.alone[1]))
        jointly.append(((offsets.jointly[0] <= truth) & (truth <= offsets.jointly[1])).all())
    assert np.mean(alone) > 0.88
    assert np.mean(jointly) > 0.85


def test_a_tenth_of_bad_labels_hardly_moves_the_fit():
    clean = pairs_of(300)
    energies = clean.energies.copy()
    energies[::10] += 3.0
    spoilt = Pairs(clean.groups, clean.fractions, clean.hubbard, energies, clean.reference)
    seen = columns_of(METALS + ANIONS)
    moved = (
        fit_offset(spoilt, SETTINGS).element_offsets(seen).value
        - fit_offset(clean, SETTINGS).element_offsets(seen).value
    )
    assert np.abs(moved).max() < 0.03
    least_squares = np.linalg.lstsq(clean.fractions[:, seen], 3.0 * (np.arange(300) % 10 == 0), rcond=None)[0]
    assert np.abs(least_squares).max() > 0.2


def test_an_element_that_no_pair_contains_gets_the_constant_with_a_wide_interval():
    fit = fit_offset(pairs_of(300), SETTINGS)
    offsets = fit.element_offsets(columns_of(("Sr", "Au")))
    assert offsets.value[1] == pytest.approx(fit.coefficients[0])
    width = offsets.alone[1] - offsets.alone[0]
    assert width[1] > 1.5 * width[0]


def test_a_shift_of_rows_with_hubbard_u_is_found():
    fit = fit_offset(pairs_of(300, hubbard=0.2), SETTINGS)
    assert fit.coefficients[1] == pytest.approx(0.2, abs=0.02)


def test_held_out_residuals_fall_to_the_noise_and_below_the_constant():
    pairs = pairs_of(300)
    after, after_constant = held_out_residuals(pairs, SETTINGS)
    noise = 0.02 * np.sqrt(2 / np.pi)
    assert np.abs(after).mean() < 1.35 * noise
    assert np.abs(after).mean() < 0.5 * np.abs(after_constant).mean() < np.abs(pairs.differences).mean()


def test_the_fit_is_the_same_every_time():
    first, second = fit_offset(pairs_of(60), SETTINGS), fit_offset(pairs_of(60), SETTINGS)
    np.testing.assert_array_equal(first.draws, second.draws)


def table_of(rows, corrections="mp2020"):
    names = [
        columns.DUPLICATE_GROUP,
        columns.SOURCE,
        columns.FUNCTIONAL,
        columns.FORMULA,
        columns.FORMATION_ENERGY,
        columns.IS_HUBBARD,
    ]
    return pd.DataFrame(rows, columns=pd.Index(names)).assign(**{columns.ENERGY_CORRECTIONS: corrections})


def test_each_material_is_one_pair_however_many_entries_it_has():
    rows = [("a", "oqmd", "PBE", "NaCl", energy, None) for energy in (-1.0, -1.2, -0.9)]
    rows += [("a", "mp", "PBE", "NaCl", -1.5, None), ("b", "oqmd", "PBE", "KCl", -1.0, None)]
    table = table_of(rows)
    pairs = make_pairs(table[table["source"] == "oqmd"], table[table["source"] == "mp"])
    assert pairs.groups.tolist() == ["a"]
    assert pairs.differences == pytest.approx([0.5])


def shared_rows(n, source, functional, shift):
    energies = np.random.default_rng(1).normal(-2, 0.5, n)
    rows = [(f"g{i}", "materials_project", "PBE", "NaCl", energies[i], None) for i in range(n)]
    return table_of(rows + [(f"g{i}", source, functional, "NaCl", energies[i] + shift, None) for i in range(n)])


def test_aligned_energies_meet_the_reference_and_published_ones_stay():
    table = shared_rows(40, "oqmd", "PBE", 0.13)
    before = table.copy()
    aligned, summary = align(table, SETTINGS, {})
    pd.testing.assert_frame_equal(table, before)
    values = aligned[columns.FORMATION_ENERGY_ALIGNED].to_numpy()
    np.testing.assert_allclose(values[40:], values[:40], atol=1e-4)
    np.testing.assert_array_equal(aligned[columns.FORMATION_ENERGY_ALIGNED_STD].to_numpy()[:40], 0.0)
    assert summary["sources"]["oqmd/PBE/mp2020"]["held_out"]["mae_after"] < 1e-3
    assert summary["sources"]["oqmd/PBE/mp2020"]["held_out"]["mae_before"] == pytest.approx(0.13)


def test_too_few_pairs_keep_energies_of_the_same_functional_only():
    few = SETTINGS.min_pairs - 1
    same, summary = align(shared_rows(few, "lab", "PBE", 0.1), SETTINGS, {})
    assert not summary["sources"]["lab/PBE/mp2020"]["fitted"]
    assert same[columns.FORMATION_ENERGY_ALIGNED].notna().all()
    assert same[columns.FORMATION_ENERGY_ALIGNED_STD].iloc[few:].isna().all()
    other, _ = align(shared_rows(few, "lab", "r2SCAN", 0.1), SETTINGS, {})
    assert other[columns.FORMATION_ENERGY_ALIGNED].iloc[few:].isna().all()


def test_a_missing_energy_stays_missing():
    table = shared_rows(40, "oqmd", "PBE", 0.1)
    table.loc[[3, 50], columns.FORMATION_ENERGY] = np.nan
    aligned, _ = align(table, SETTINGS, {})
    assert aligned.loc[[3, 50]].isna().to_numpy().all()


def test_rows_with_other_corrections_are_a_class_of_their_own():
    """One database, half with the old corrections: each half is moved by its own offset, neither by their mean."""
    new, old = (shared_rows(40, "lab", "PBE", shift) for shift in (0.02, 0.3))
    old.loc[40:, columns.ENERGY_CORRECTIONS] = "mp2018"
    table = pd.concat([new, old.iloc[40:]], ignore_index=True)
    aligned, summary = align(table, SETTINGS, {})
    values = aligned[columns.FORMATION_ENERGY_ALIGNED].to_numpy()
    np.testing.assert_allclose(values[40:], np.tile(values[:40], 2), atol=1e-3)
    assert set(summary["sources"]) == {"lab/PBE/mp2020", "lab/PBE/mp2018"}
    assert summary["energy_corrections"] == "mp2020"


def test_older_corrections_in_the_reference_database_are_moved_too():
    table = shared_rows(40, "materials_project", "PBE", 0.3)
    table.loc[40:, columns.ENERGY_CORRECTIONS] = "mp2018"
    table.loc[40, columns.FORMATION_ENERGY] = np.nan  # fewer labels: the first forty are the reference
    values = align(table, SETTINGS, {})[0][columns.FORMATION_ENERGY_ALIGNED].to_numpy()
    np.testing.assert_allclose(values[41:], values[1:40], atol=1e-3)


@pytest.mark.parametrize(
    ("corrections", "is_kept"), [("none", False), ("mp2018", False), ("mp2020", True), (None, True)]
)
def test_too_few_pairs_keep_energies_of_the_same_corrections_or_of_none_stated(corrections, is_kept):
    few = SETTINGS.min_pairs - 1
    table = shared_rows(few, "lab", "PBE", 0.1)
    table.loc[few:, columns.ENERGY_CORRECTIONS] = corrections
    aligned, summary = align(table, SETTINGS, {})
    assert aligned[columns.FORMATION_ENERGY_ALIGNED].iloc[few:].notna().all() == is_kept
    assert list(summary["sources"]) == [f"lab/PBE/{corrections}" if corrections else "lab/PBE"]


def test_the_reference_s_scale_is_the_commonest():
    table = table_of(
        [("a", "materials_project", functional, "NaCl", -1.0, None) for functional in ("PBE", "r2SCAN", "r2SCAN")],
        corrections=["mp2020", None, None],
    )
    assert reference_scale(table, "materials_project") == ("r2SCAN", "")
    assert reference_scale(table, "oqmd") == (None, None)
