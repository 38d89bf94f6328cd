"""A label far from all rows of its chemistry is rejected; an unusual one among its like is not."""

import numpy as np
import pandas as pd
import pytest

from matscout import columns
from matscout.compositions import fractions_of_formulas
from matscout.curation.outliers import MIN_ROWS, composition_features, label_outliers

METALS = (
    "Li",
    "Na",
    "K",
    "Rb",
    "Cs",
    "Mg",
    "Ca",
    "Sr",
    "Ba",
    "Al",
    "Ti",
    "V",
    "Cr",
    "Mn",
    "Fe",
    "Co",
    "Ni",
    "Cu",
    "Zn",
)
ANIONS = ("O", "S", "Se", "F", "Cl", "Br", "N")


def table(noise=0.05, n_polymorphs=1):
    rng = np.random.default_rng(0)
    rows = []
    for m, metal in enumerate(METALS):
        for a, anion in enumerate(ANIONS):
            for ratio in ("", "2", "3", "4"):
                formula = f"{metal}{anion}{ratio}"
                energy = -0.1 * m - 0.3 * a + 0.05 * len(ratio)
                rows += [(formula, energy + rng.normal(0, noise)) for _ in range(n_polymorphs)]
    return pd.DataFrame(rows, columns=pd.Index([columns.FORMULA, columns.FORMATION_ENERGY]))


def test_a_spoilt_label_is_found_and_no_sound_one():
    rows = table()
    assert len(rows) >= MIN_ROWS
    spoilt = [17, 200, 431]
    rows.loc[spoilt, columns.FORMATION_ENERGY] += [4.0, -4.0, 5.0]
    found = label_outliers(rows, 15.0)
    assert found.index.tolist() == spoilt
    assert found["value"].to_numpy() == pytest.approx(rows.loc[spoilt, columns.FORMATION_ENERGY])
    assert (found["deviation"] > 15).all()


def test_a_family_of_unstable_rows_is_no_outlier():
    rows = table()
    family = rows[columns.FORMULA].str.startswith(("Cr", "Mn", "Fe"))
    rows.loc[family, columns.FORMATION_ENERGY] += 3.0
    assert not set(label_outliers(rows, 15.0).index) & set(rows.index[family])


def test_missing_labels_and_small_tables_are_not_judged():
    rows = table()
    rows.loc[::7, columns.FORMATION_ENERGY] = np.nan
    rows.loc[7, columns.FORMATION_ENERGY] = np.nan
    assert label_outliers(rows, 15.0).empty
    few = table().head(MIN_ROWS - 1)
    few.loc[3, columns.FORMATION_ENERGY] = 4.9
    assert label_outliers(few, 15.0).empty


def test_features_do_not_depend_on_how_the_formula_is_written_and_know_noble_gases():
    features = composition_features(fractions_of_formulas(["SrTiO3", "TiSrO3", "HeNa2", "Sr2Ti2O6"]))
    np.testing.assert_allclose(features[0], features[1])
    np.testing.assert_allclose(features[0], features[3])
    assert np.isfinite(features).all()
