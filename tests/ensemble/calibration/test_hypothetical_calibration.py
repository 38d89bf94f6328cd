"""Calibration for crystals that nobody has made: in a simulated world where members err thrice as much on them."""

import numpy as np
import pandas as pd
import pytest
from simulated_members import hurdle_world, laplace_world
from small_outputs import ROOT

from matscout import columns
from matscout.crystal import Crystal
from matscout.ensemble import predictor
from matscout.ensemble.calibration import hypothetical_calibration
from matscout.ensemble.calibration.ensemble_calibration import EnsembleCalibration, strata
from matscout.ensemble.calibration.hypothetical_calibration import (
    FEWEST_ROWS,
    METAL_BY_COMPOSITION,
    HypotheticalRows,
    as_metals,
    fit_hypothetical,
    measure_hypothetical,
    surely_metals,
)
from matscout.ensemble.calibration.target_calibration import (
    STRATA,
    LabelledRows,
    TargetPrediction,
    fit_target,
)
from matscout.ensemble.members import MemberOutputs
from matscout.ensemble.metrics import coverage
from matscout.ensemble.mixture import Mixture, TargetOutputs
from matscout.ensemble.training_distance import TrainingReference
from matscout.graphs.graph_store import GraphStore
from matscout.models.families.hurdle import HurdleLaplace
from matscout.params import Graphs, load_params

PARAMS = load_params(ROOT / "params.yaml")
ENERGY, GAP = "formation_energy_per_atom", "band_gap"
TIMES = 3.0  # error on hypothetical rows over that on known ones
NOISE = 3.0  # standard deviation of the potential's error: large, so that intervals without it are seen to fail


def known_calibration(rng, n=1500):
    """Fitted where the members' spreads are right."""
    fitted = {}
    for name, world, lower_bound in ((ENERGY, laplace_world, None), (GAP, hurdle_world, 0.0)):
        outputs, truth = world(rng, n)
        rows = LabelledRows(truth, rng.choice(STRATA, n), STRATA, np.full(n, "mp"), np.arange(n).astype(str))
        fitted[name] = fit_target(outputs, rows, method="median", drop_factor=None, lower_bound=lower_bound)
    return fitted


def hypothetical_rows(rng, n, *, n_gaps):
    """Rows whose errors are `TIMES` as large; the label is the potential's energy."""
    outputs, truth = laplace_world(rng, n)
    estimate = np.mean([member.median() for member in outputs.members.values()], axis=0)
    gaps, gap = hurdle_world(rng, n)
    table = pd.DataFrame(
        {
            columns.SOURCE: "potential",
            columns.DUPLICATE_GROUP: np.arange(n).astype(str),
            columns.FORMATION_ENERGY_ALIGNED: estimate + TIMES * (truth - estimate),
            columns.FORMATION_ENERGY_NOISE: NOISE,
            columns.BAND_GAP: np.where(np.arange(n) < n_gaps, gap, np.nan),
            columns.BAND_GAP_NOISE: 0.0,
        }
    )
    return HypotheticalRows(table, {ENERGY: outputs, GAP: gaps})


def dft_energy(rows, rng):
    """What DFT would say: the label and the potential's error."""
    labels = rows.table[columns.FORMATION_ENERGY_ALIGNED].to_numpy()
    return labels + rng.laplace(scale=NOISE / np.sqrt(2), size=len(labels))


def covered(fitted, gap, rows, truth):
    prediction = fitted.predict(rows.outputs[ENERGY])
    stratum, _ = strata(GAP, {GAP: gap.predict(rows.outputs[GAP]).mixture}, len(truth))
    return coverage(truth, *fitted.interval(prediction, stratum, 0.9))


def test_intervals_of_the_hypothetical_calibration_cover_and_the_known_ones_do_not():
    rng = np.random.default_rng(5)
    known = known_calibration(rng)
    own = fit_hypothetical(hypothetical_rows(rng, 1500, n_gaps=0), known, PARAMS)
    fresh = hypothetical_rows(rng, 4000, n_gaps=0)
    truth = dft_energy(fresh, rng)
    assert 0.86 < covered(own[ENERGY], known[GAP], fresh, truth) < 0.94
    assert covered(known[ENERGY], known[GAP], fresh, truth) < 0.6


def test_few_rows_and_rows_without_noise_give_no_calibration_of_their_own():
    rng = np.random.default_rng(6)
    known = known_calibration(rng, 400)
    rows = hypothetical_rows(rng, 300, n_gaps=FEWEST_ROWS - 1)
    assert set(fit_hypothetical(rows, known, PARAMS)) == {ENERGY}
    enough = hypothetical_rows(rng, 300, n_gaps=FEWEST_ROWS)
    assert set(fit_hypothetical(enough, known, PARAMS)) == {ENERGY, GAP}
    enough.table[columns.FORMATION_ENERGY_NOISE] = np.nan
    assert set(fit_hypothetical(enough, known, PARAMS)) == {GAP}
    assert fit_hypothetical(HypotheticalRows(rows.table.iloc[:0], {}), known, PARAMS) == {}


def test_measured_errors_are_those_against_the_potential():
    rng = np.random.default_rng(7)
    known = known_calibration(rng, 400)
    rows = hypothetical_rows(rng, 600, n_gaps=0)
    calibration = EnsembleCalibration({}, {}, known, fit_hypothetical(rows, known, PARAMS), GAP, {}, ())
    measured = measure_hypothetical(calibration, rows, PARAMS.targets)
    labels = rows.table[columns.FORMATION_ENERGY_ALIGNED].to_numpy()
    error = calibration.hypothetical[ENERGY].predict(rows.outputs[ENERGY]).estimate - labels
    assert set(measured) == {ENERGY}
    assert measured[ENERGY]["n"] == 600
    assert measured[ENERGY]["mae_to_potential"] == pytest.approx(np.abs(error).mean())
    assert measured[ENERGY]["bias_to_potential"] == pytest.approx(error.mean())
    assert measured[ENERGY]["coverage_90_of_potential"] > 0.95, "intervals allow for noise that these labels lack"


FACES = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
CRYSTALS = {
    "SrTiO3": (("Sr", "Ti", "O", "O", "O"), np.array([[0.5, 0.5, 0.5], [0, 0, 0], *(0.5 * np.eye(3))])),
    "NaCl3": (("Na", "Cl", "Cl", "Cl"), FACES),  # NaCl, if one forgets that three atoms share a site
    "NaCl": (("Na", "Cl"), np.array([[0, 0, 0], [0.5, 0.5, 0.5]])),
    "NiAl": (("Ni", "Al"), np.array([[0, 0, 0], [0.5, 0.5, 0.5]])),
}
METALS = [False, True, False, True]


@pytest.fixture(scope="module")
def store():
    crystals = [Crystal(4.0 * np.eye(3), *cell) for cell in CRYSTALS.values()]
    return GraphStore.from_crystals(list(CRYSTALS), crystals, Graphs(n_neighbors=6, asymmetric_unit=True, symprec=1e-3))


def test_compositions_count_every_atom_of_an_asymmetric_unit(store, monkeypatch):
    graph = store.batch(np.arange(4), n_neighbors=1, cutoff=1.0)
    assert np.bincount(graph.crystal_of_atom.numpy()).tolist() == [3, 2, 2, 2], "the store holds asymmetric units"
    monkeypatch.setattr(hypothetical_calibration, "CHUNK_ROWS", 3)
    rows = np.array([0, 1, 2, 3, 1])
    assert surely_metals(store, rows).tolist() == [METALS[row] for row in rows]


def gaps(probability):
    n = len(probability)
    return HurdleLaplace(np.array(probability), np.linspace(1.0, 2.0, n), np.full(n, 0.2))


def test_metals_by_composition_have_no_gap_and_the_others_keep_theirs():
    mixture = Mixture.of([gaps([0.1, 0.2, 0.99]), gaps([0.3, 0.4, 0.97])])
    before = TargetPrediction(np.array([1.0, 1.5, 0.3]), mixture)
    after = as_metals(before, np.array([True, False, True]))
    assert after.estimate.tolist() == [0.0, 1.5, 0.0]
    first, second = (component.probability_zero.tolist() for component in after.mixture.components)
    assert first == [METAL_BY_COMPOSITION, 0.2, 0.99], "never less of a metal than a member says"
    assert second == [METAL_BY_COMPOSITION, 0.4, 0.97]
    untouched = as_metals(before, np.zeros(3, dtype=bool))
    np.testing.assert_array_equal(untouched.mixture.probability_zero(), mixture.probability_zero())
    np.testing.assert_array_equal(untouched.mixture.quantile(0.9), mixture.quantile(0.9))


def test_a_predictor_for_hypothetical_crystals_has_their_calibration_and_their_metals(store, monkeypatch):
    rng = np.random.default_rng(8)
    known = known_calibration(rng, 400)
    own = fit_hypothetical(hypothetical_rows(rng, 300, n_gaps=0), known, PARAMS)
    embeddings = rng.normal(size=(20, 3)).astype(np.float32)
    reference = TrainingReference.fit(embeddings, embeddings)
    calibration = EnsembleCalibration({}, {}, known, own, GAP, {}, ("Na", "Cl"))
    plain = predictor.EnsemblePredictor((), (), calibration, reference)
    ours = plain.for_hypothetical()
    assert ours.calibration.targets == {ENERGY: own[ENERGY], GAP: known[GAP]}
    assert plain.calibration.targets == known
    assert plain.targets == ours.targets
    energies, _ = laplace_world(rng, 4)
    members = {name: gaps([0.1] * 4) for name in energies.members}
    outputs = MemberOutputs({ENERGY: energies.members, GAP: members}, embeddings[:4])
    monkeypatch.setattr(predictor, "run_members", lambda *_, **__: outputs)
    monkeypatch.setattr(predictor, "check_store", lambda *_: None)
    of_known, of_ours = plain.predict(store), ours.predict(store)
    assert (of_known[columns.METAL_PROBABILITY] < 0.5).all()
    assert (of_ours[columns.METAL_PROBABILITY] > 0.5).tolist() == METALS
    assert (of_ours[GAP] == 0).tolist() == METALS
    widths = [table[ENERGY + columns.HI90] - table[ENERGY + columns.LO90] for table in (of_known, of_ours)]
    assert (widths[1] > widths[0]).all()
    stated = own[ENERGY].predict(TargetOutputs(energies.members, reference.distance(embeddings[:4])))
    np.testing.assert_allclose(of_ours[ENERGY], stated.estimate)


def test_a_formula_is_known_only_where_it_was_named(tmp_path):
    embeddings = np.random.default_rng(9).normal(size=(20, 3)).astype(np.float32)
    reference = TrainingReference.fit(embeddings, embeddings)
    assert not reference.is_known(["Cl1 Na1"]).any()
    knowing = reference.with_known(["Cl1 Na1", "Cl1 Na1", "Al1 Ni1"])
    asked = ["Al1 Ni1", "Al2 Ni1", "Cl1 Na1", ""]
    assert knowing.is_known(asked).tolist() == [True, False, True, False]
    assert not reference.is_known(asked).any(), "the first one is as it was"
    knowing.save(tmp_path / "reference.npz")
    assert TrainingReference.load(tmp_path / "reference.npz").is_known(asked).tolist() == [True, False, True, False]
