"""Conformal quantiles: finite-sample coverage, strata, weights, and what happens when rows run out."""

import json

import numpy as np
import pytest
from scipy.stats import beta

from matscout.ensemble.calibration.conformal import (
    LEVELS,
    POOLED,
    ConformalQuantiles,
    conformal_quantile,
    fit_conformal,
    weighted_quantile,
)
from matscout.errors import InputError


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def test_quantile_is_the_ranked_score():
    scores = np.arange(1.0, 20)  # 19 scores, ranks 1 to 19
    assert conformal_quantile(scores, 0.9) == 18  # ceil(20 * 0.9)
    assert conformal_quantile(scores, 0.95) == 19
    assert conformal_quantile(scores[:9], 0.9) == 9
    assert conformal_quantile(scores[:8], 0.9) == np.inf
    assert conformal_quantile(np.empty(0), 0.5) == np.inf


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [19, 50, 137])
def test_mean_coverage_over_worlds_is_at_least_the_level(level, n, rng):
    # P(new score <= quantile) is Beta(k, n + 1 - k) over worlds; its mean lies in [level, level + 1 / (n + 1)]
    worlds = 4000
    scores = rng.exponential(size=(worlds, n + 1))
    covered = [row[-1] <= conformal_quantile(row[:-1], level) for row in scores]
    rank = int(np.ceil((n + 1) * level - 1e-9))
    expected = beta(rank, n + 1 - rank).mean() if rank <= n else 1
    assert np.mean(covered) == pytest.approx(expected, abs=4 * np.sqrt(0.25 / worlds))
    assert expected >= level - 1e-9


def test_equal_weights_are_the_unweighted_quantile(rng):
    scores = rng.random(57)
    for level in LEVELS:
        weighted = weighted_quantile(scores, np.ones(57), np.ones(3), level)
        np.testing.assert_allclose(weighted, conformal_quantile(scores, level))


def test_weighted_quantile_by_definition(rng):
    scores, weights, new = rng.random(40), rng.random(40), rng.random(5) * 3
    for index, quantile in enumerate(weighted_quantile(scores, weights, new, 0.8)):
        total = weights.sum() + new[index]
        reached = [s for s in sorted(scores) if weights[scores <= s].sum() / total >= 0.8]
        assert quantile == (reached[0] if reached else np.inf)


def test_weights_restore_coverage_under_a_known_shift(rng):
    # spread grows with x; calibration has x ~ U(0, 1), the new rows have density 2x
    n = 4000
    x = rng.random(n)
    scores = np.abs(rng.normal(size=n)) * (0.2 + x)
    x_new = np.sqrt(rng.random(n))
    scores_new = np.abs(rng.normal(size=n)) * (0.2 + x_new)
    plain = (scores_new <= conformal_quantile(scores, 0.9)).mean()
    weighted = (scores_new <= weighted_quantile(scores, 2 * x, 2 * x_new, 0.9)).mean()
    assert plain < 0.88
    assert weighted == pytest.approx(0.9, abs=0.015)


def strata_world(rng, n):
    strata = np.where(rng.random(n) < 0.4, "metal", "non_metal")
    return np.where(strata == "metal", 0.1, 1) * rng.exponential(size=n), strata


def test_each_stratum_is_covered_where_a_pooled_quantile_would_not(rng):
    scores, strata = strata_world(rng, 4000)
    fitted = fit_conformal(scores, strata, np.full(4000, "mp"), expected=("metal", "non_metal"))
    new, new_strata = strata_world(rng, 20_000)
    covered = new <= fitted.lookup(new_strata, 0.9)
    for name in ("metal", "non_metal"):
        assert covered[new_strata == name].mean() == pytest.approx(0.9, abs=0.02)
    pooled = new <= fitted.quantiles[POOLED][0.9]
    assert pooled[new_strata == "non_metal"].mean() < 0.86


def test_sources_have_quantiles_of_their_own_and_strangers_use_the_stratum(rng):
    scores, strata = strata_world(rng, 2000)
    sources = np.where(np.arange(2000) % 2 == 0, "mp", "oqmd")
    scores[sources == "oqmd"] *= 3
    fitted = fit_conformal(scores, strata, sources, expected=("metal", "non_metal"))
    assert fitted.group_of("metal", "oqmd") == "oqmd/metal"
    assert fitted.group_of("metal", "aflow") == "metal"
    assert fitted.group_of("metal") == "metal"
    ratio = fitted.lookup(strata[:2], 0.9, np.array(["oqmd"] * 2)) / fitted.lookup(
        strata[:2], 0.9, np.array(["mp"] * 2)
    )
    assert (ratio > 2).all()


@pytest.mark.parametrize("n_metal", [0, 29])
def test_small_or_empty_stratum_uses_the_pooled_quantile_and_says_so(n_metal, rng):
    scores = rng.exponential(size=100 + n_metal)
    strata = np.array(["non_metal"] * 100 + ["metal"] * n_metal)
    fitted = fit_conformal(scores, strata, np.full(len(strata), "mp"), expected=("metal", "non_metal"))
    assert fitted.lookup(np.array(["metal"]), 0.9)[0] == fitted.quantiles[POOLED][0.9]
    assert [note for note in fitted.notes if note.startswith(f"metal: {n_metal} rows") and "pooled" in note]
    assert fitted.n_rows["metal"] == n_metal


def test_too_few_rows_use_the_largest_score_and_say_what_it_covers(rng):
    scores = np.array([0.1, 0.7, 0.4])
    fitted = fit_conformal(scores, np.full(3, "non_metal"), np.full(3, "mp"), expected=("metal", "non_metal"))
    assert fitted.quantiles[POOLED][0.9] == 0.7
    assert any("0.750" in note for note in fitted.notes)


def test_no_row_at_all_is_rejected():
    with pytest.raises(InputError, match="no validation row"):
        fit_conformal(np.empty(0), np.empty(0, str), np.empty(0, str), expected=())


def test_json_keeps_everything(rng):
    scores, strata = strata_world(rng, 300)
    fitted = fit_conformal(scores, strata, np.where(strata == "metal", "mp", "oqmd"), expected=("metal", "non_metal"))
    assert ConformalQuantiles.from_json(json.loads(json.dumps(fitted.to_json(), sort_keys=True))) == fitted
