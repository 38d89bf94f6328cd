"""Coverage and errors by kind of crystal, against counting by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from matscout.report import run_tables


@pytest.fixture
def rows():
    rng = np.random.default_rng(3)
    n = 200
    species = [["Na", "Cl"] if i % 2 else ["Sr", "Ti", "O", "O", "O"] for i in range(n)]
    truth, estimate = rng.normal(size=n), rng.normal(size=n)
    return pd.DataFrame(
        {"material_id": [f"t{i:03d}" for i in range(n)], "source": "materials_project", "species": species,
         "band_gap_true": truth, "band_gap": np.abs(estimate), "band_gap_lo90": estimate - 1, "band_gap_hi90": estimate + 1,
         "band_gap_std": 1.0, "far_from_training": np.arange(n) >= 150}
    )  # fmt: skip


def test_coverage_is_the_counted_share(rows):
    table = run_tables.coverage_by_stratum(rows, "band_gap").set_index("stratum")
    inside = [
        lo <= t <= hi for t, lo, hi in zip(rows.band_gap_true, rows.band_gap_lo90, rows.band_gap_hi90, strict=True)
    ]
    halides = [hit for hit, species in zip(inside, rows.species, strict=True) if "Cl" in species]
    assert table.loc["all test crystals", "coverage"] == pytest.approx(np.mean(inside))
    assert table.loc["halides", "coverage"] == pytest.approx(np.mean(halides))
    assert table.loc["far from the training data", "n"] == 50


@pytest.mark.parametrize(("n", "is_shown"), [(19, False), (20, True)])
def test_small_strata_are_left_out(rows, n, is_shown):
    rows = rows.assign(species=[["Ga", "As"]] * n + rows["species"].tolist()[n:])
    assert ("pnictides" in set(run_tables.coverage_by_stratum(rows, "band_gap")["stratum"])) == is_shown


@pytest.mark.parametrize(("hits", "n"), [(0, 30), (27, 30), (30, 30), (451, 500)])
def test_wilson_interval(hits, n):
    expected = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert run_tables.wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(
    ("species", "chemistry"),
    [
        (["Sr", "Ti", "O"], "oxides"),
        (["Na", "Cl"], "halides"),
        (["Zn", "S"], "chalcogenides"),
        (["Ga", "As"], "pnictides"),
        (["Ni", "Al"], "intermetallics"),
        (["Si", "C"], "other"),
    ],
)
def test_chemistry(species, chemistry):
    assert run_tables.chemistry_of(species) == chemistry


def test_error_by_element_counts_each_crystal_once(rows):
    errors = (rows.band_gap_true - rows.band_gap).abs()
    oxides = [e for e, s in zip(errors, rows.species, strict=True) if "O" in s]
    assert run_tables.error_by_element(rows, "band_gap")["O"] == pytest.approx(np.mean(oxides))
    assert run_tables.crystals_by_element(rows.species) == {
        "Cl": 100,
        "Na": 100,
        "O": 100,
        "Sr": 100,
        "Ti": 100,
    }


def test_test_rows_are_real_labelled_and_of_the_test_fold(run):
    rows = run_tables.test_rows(run, "band_gap")
    folds = run.split.set_index("material_id")["fold"]
    real = run.materials.set_index("material_id")["synthetic"]
    assert set(folds[rows["material_id"]]) == {"test"}
    assert not real[rows["material_id"]].any()
    assert rows["band_gap_true"].notna().all()
