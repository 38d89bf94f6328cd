"""No near-duplicate of a test row in training; rows added later move no old row between train and test."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from matscout import columns
from matscout.curation.splits import NEEDED, exclude_matches, make_split, match_keys, prototype_keys, write_split
from matscout.errors import InputError, ParameterError
from matscout.params import load_params

SPLIT = load_params().split
STRATEGIES = ("random", "composition", "prototype", "database", "time")


def params(strategy, **changes):
    held_out = {"database": "oqmd", "time": "2015"}.get(strategy)
    return SPLIT.model_copy(update={"strategy": strategy, "held_out": held_out, **changes})


def materials(n, seed=0):
    """Random rows of few formulas and cell sizes, so that many could match."""
    rng = np.random.default_rng(seed)
    formulas = [f"{a}{b}" for a in ("Na", "K", "Li", "Cs", "Ag", "Cu") for b in ("F", "Cl", "Br", "I")]
    table = pd.DataFrame(
        {
            columns.MATERIAL_ID: [f"m{seed}-{i}" for i in range(n)],
            columns.SOURCE: rng.choice(["materials_project", "oqmd", "aflow"], n, p=[0.6, 0.2, 0.2]),
            columns.SYNTHETIC: rng.random(n) < 0.1,
            columns.YEAR: np.where(rng.random(n) < 0.1, np.nan, rng.integers(2008, 2020, n)),
            columns.FORMULA: rng.choice(formulas, n),
            columns.SPACE_GROUP: rng.choice([225, 221, 216, 194, 62], n),
            columns.N_ATOMS_PRIMITIVE: rng.choice([2, 4, 8], n),
        }
    )
    table[columns.DUPLICATE_GROUP] = match_keys(table) + "|" + table[columns.SPACE_GROUP].astype(str)
    return table


def folds_of(table, split):
    return make_split(table, split).set_index(columns.MATERIAL_ID)[columns.FOLD]


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_two_rows_that_could_match_are_in_different_folds(strategy, seed):
    table = materials(300, seed)
    folds = folds_of(table, params(strategy)).to_numpy()
    used = folds != columns.UNUSED
    keys = match_keys(table).to_numpy()
    by_key = pd.Series(folds[used]).groupby(keys[used]).nunique()
    assert by_key.max() == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.integers(0, 10**6))
def test_rows_added_later_move_no_old_row_between_train_and_held_out(strategy, seed, order):
    old = materials(200, seed)
    both = pd.concat([old, materials(200, seed + 1)], ignore_index=True)
    both = both.sample(frac=1, random_state=order).reset_index(drop=True)
    # new rows may join a cluster, bridge clusters and become the smallest id of one
    both[columns.DUPLICATE_GROUP] = match_keys(both)
    try:
        before = folds_of(old, params(strategy))
        after = folds_of(both, params(strategy)).loc[before.index]
    except ParameterError:  # as drawn, no row is late enough to be tested on, or all that are match earlier ones
        reject()
    changed = before != after
    assert set(after[changed]) <= {columns.UNUSED}
    if strategy in {"random", "composition"}:
        assert not changed.any()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_synthetic_rows_never_validate_or_test(strategy):
    table = materials(400)
    synthetic = table[columns.SYNTHETIC].to_numpy()
    without = make_split(table, params(strategy, train_on_synthetic=False))[columns.FOLD].to_numpy()
    assert set(without[synthetic]) == {columns.UNUSED}
    with_them = make_split(table, params(strategy, train_on_synthetic=True))[columns.FOLD].to_numpy()
    assert set(with_them[synthetic]) == {columns.UNUSED, columns.TRAIN}
    np.testing.assert_array_equal(without[~synthetic], with_them[~synthetic])


def distinct_rows(n):
    table = materials(n)
    table[columns.FORMULA] = [f"Na{i + 1}Cl" for i in range(n)]
    table[columns.DUPLICATE_GROUP] = match_keys(table)
    table[columns.SYNTHETIC] = False
    return table


@pytest.mark.parametrize("strategy", ["random", "composition"])
def test_shares_are_as_asked(strategy):
    folds = make_split(distinct_rows(5000), params(strategy, validation=0.1, test=0.2))[columns.FOLD]
    shares = folds.value_counts(normalize=True)
    assert shares[columns.TEST] == pytest.approx(0.2, abs=0.02)
    assert shares[columns.VALIDATION] == pytest.approx(0.1, abs=0.02)
    assert columns.UNUSED not in shares


def test_another_seed_draws_other_rows_and_a_larger_test_share_keeps_the_old_ones():
    table = distinct_rows(1000)
    small = folds_of(table, params("random", test=0.1))
    large = folds_of(table, params("random", test=0.3))
    other = folds_of(table, params("random", test=0.1, seed=SPLIT.seed + 1))
    assert (large[small == columns.TEST] == columns.TEST).all()
    assert 0 < (other == small).mean() < 1


def test_composition_holds_whole_formulas_together():
    table = materials(500)
    folds = folds_of(table, params("composition", train_on_synthetic=True)).to_numpy()
    real = ~table[columns.SYNTHETIC].to_numpy()
    assert pd.Series(folds[real]).groupby(table[columns.FORMULA].to_numpy()[real]).nunique().max() == 1


def test_prototype_holds_out_whole_prototypes():
    table = materials(500)
    folds = folds_of(table, params("prototype")).to_numpy()
    keys = prototype_keys(table)
    tested = set(keys[folds == columns.TEST])
    assert tested
    assert not tested & set(keys[folds == columns.TRAIN])


def test_prototype_keys_tell_rock_salt_from_caesium_chloride_and_zinc_blende():
    table = materials(3)
    table[columns.FORMULA] = ["NaCl", "CsCl", "ZnS"]
    table[columns.SPACE_GROUP] = [225, 221, 216]
    table[columns.N_ATOMS_PRIMITIVE] = 2
    assert prototype_keys(table).tolist() == ["AB|225|2", "AB|221|2", "AB|216|2"]


def test_database_holds_out_one_database():
    table = materials(400)
    folds = folds_of(table, params("database")).to_numpy()
    source = table[columns.SOURCE].to_numpy()
    assert set(source[folds == columns.TEST]) == {"oqmd"}
    assert "oqmd" not in set(source[(folds == columns.TRAIN) | (folds == columns.VALIDATION)])


def test_time_tests_on_materials_that_were_not_known_before():
    table = materials(400)
    folds = folds_of(table, params("time")).to_numpy()
    years, keys = table[columns.YEAR].to_numpy(), match_keys(table)
    assert years[folds == columns.TEST].min() >= 2015
    assert years[folds == columns.TRAIN].max() < 2015
    assert (folds[np.isnan(years)] == columns.UNUSED).all()
    assert not keys[folds == columns.TEST].isin(keys[years < 2015]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "database", "held_out": "nomad"}, "needs one of"),
        ({"strategy": "time", "held_out": None}, "first year"),
        ({"strategy": "time", "held_out": "2050"}, "no real row to test on"),
    ],
)
def test_impossible_splits_are_rejected(changes, message):
    with pytest.raises(ParameterError, match=message):
        make_split(materials(100), SPLIT.model_copy(update=changes))


def test_a_table_that_is_not_curated_is_rejected():
    with pytest.raises(InputError, match="lacks"):
        make_split(materials(10).drop(columns=columns.N_ATOMS_PRIMITIVE), SPLIT)
    torn = materials(10)
    torn[columns.DUPLICATE_GROUP] = "one"
    with pytest.raises(InputError, match="several formulas"):
        make_split(torn, SPLIT)


def test_pretraining_pools_lose_all_that_could_match_a_test_row():
    pool, tested = materials(300, seed=1), materials(30, seed=2)
    left = exclude_matches(pool, tested)
    assert 0 < len(left) < len(pool)
    dropped = pool.drop(left.index)
    assert not set(match_keys(left)) & set(match_keys(tested))
    assert set(match_keys(dropped)) <= set(match_keys(tested))


def test_the_stage_writes_the_same_bytes_twice(tmp_path):
    materials(200)[list(NEEDED)].to_parquet(tmp_path / "materials.parquet")
    for name in ("a", "b"):
        write_split(tmp_path / "materials.parquet", params("random"), tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    written = pd.read_parquet(tmp_path / "a.parquet")
    assert written.columns.tolist() == [columns.MATERIAL_ID, columns.FOLD]
    assert set(written[columns.FOLD]) <= {columns.TRAIN, columns.VALIDATION, columns.TEST, columns.UNUSED}
