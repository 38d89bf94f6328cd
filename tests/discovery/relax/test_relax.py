"""The stage `relax`: gates, both judges, one verdict, and a run that is killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.relax import relax as stage
from matscout.discovery.relax.after_relaxation import NoValueError
from matscout.discovery.relax.potential_judge import Comparison, Opinion, make_potential_judge
from matscout.discovery.relax.potential_properties import PROPERTIES
from matscout.discovery.relax.relax import Inputs, choose, relax
from matscout.discovery.relax.relax_all import relax_all
from matscout.discovery.relax.relaxed_table import final_ranking
from matscout.discovery.relax.verdict import FARTHEST, combine
from matscout.ensemble.mixture import Mixture
from matscout.hypothetical.potential_scale import DISAGREEMENT_TO_ERROR
from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.laplace import Laplace
from matscout.params import Objective, Relaxation, load_params
from matscout.potentials.load_potential import load_potential
from matscout.resume.parts import Parts
from matscout.sources.energy_corrections import correction_per_atom

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PAIRS = str(HERE / "pair_potential.py")
POTENTIAL = load_potential(PAIRS, trust_file=True)
METALS, HALOGENS = ("Li", "Na", "K", "Rb", "Cs"), ("F", "Cl", "Br", "I")
MU = {"Li": 0.9, "Na": 0.6, "K": 0.4, "Rb": 0.3, "Cs": 0.2, "F": -1.0, "Cl": -0.6, "Br": -0.4, "I": -0.2}  # eV/atom
TARGET = columns.FORMATION_ENERGY


def caesium_chloride(a, b, length=3.1):
    return Crystal(np.eye(3) * length, (a, b), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))


def perovskite(a, b, x, length=5.1):
    places = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return Crystal(np.eye(3) * length, (a, b, x, x, x), places)


def aligned(crystal):
    """What DFT would say of a crystal, if the pair potential were exact but for an offset per element."""
    offset = sum(MU[symbol] for symbol in crystal.species) / crystal.n_atoms
    energy = POTENTIAL.energies([crystal])[0] / crystal.n_atoms
    return energy + offset + correction_per_atom(crystal.to_structure(), columns.MP2020)


@pytest.fixture(scope="session")
def known(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known")
    crystals = [caesium_chloride(a, x, 3.0 + 0.05 * i) for a in METALS for x in HALOGENS for i in range(4)]
    crystals += [perovskite(a, "Li", x) for a in METALS[1:] for x in HALOGENS]
    rows, folds = [], []
    for number, crystal in enumerate(crystals):
        row = {columns.MATERIAL_ID: f"mp-{number:03d}", columns.SYNTHETIC: False, **crystal.to_row()}
        rows.append(row | {columns.FORMATION_ENERGY_ALIGNED: aligned(crystal), columns.BAND_GAP: 1.0})
        folds.append(columns.VALIDATION if number % 3 == 0 else columns.TRAIN)
    table = pd.DataFrame(rows)
    table.to_parquet(folder / "materials.parquet")
    split = pd.DataFrame({columns.MATERIAL_ID: table[columns.MATERIAL_ID], columns.FOLD: folds})
    split.to_parquet(folder / "split.parquet")
    (folder / "ensemble").mkdir()
    noise = np.random.default_rng(0).normal(0, 0.05, len(table))
    told = table[[columns.MATERIAL_ID]].assign(**{TARGET: table[columns.FORMATION_ENERGY_ALIGNED] + noise})
    told.to_parquet(folder / "ensemble" / "predictions.parquet")
    (folder / "members").mkdir()
    return folder


class NearlyRight:
    """An ensemble that errs by a constant, and says so."""

    targets = (TARGET, columns.BAND_GAP)
    error = 0.03

    def __init__(self, graphs):
        self.graphs = graphs
        tuned = SimpleNamespace(tuning=SimpleNamespace(combination=SimpleNamespace(weights={"a": 0.5, "b": 0.5})))
        self.calibration = SimpleNamespace(targets=dict.fromkeys(self.targets, tuned))

    def for_hypothetical(self):
        return self


@pytest.fixture
def params(monkeypatch):
    params = load_params(ROOT / "params.yaml")
    settings = params.relaxation.model_copy(
        update={
            "potential": PAIRS,
            "judge": None,
            "trust_file": True,
            "force": 0.01,
            "volume": (0.3, 3.0),
            "bonds": 0.6,
            "steps": 300,
        }
    )
    ensemble = NearlyRight(params.graphs)
    monkeypatch.setattr(stage.EnsemblePredictor, "load", lambda members, folder, plan=None: ensemble)

    def predict(predictor, ids, crystals, **_):
        energy = np.array([aligned(crystal) for crystal in crystals]) + predictor.error
        ones = np.ones(len(ids))
        mixtures = {
            TARGET: Mixture.of([Laplace(energy + d, 0.05 * ones) for d in (-0.01, 0.01)]),
            columns.BAND_GAP: Mixture.of([HurdleLaplace(0.1 * ones, 1.4 * ones, 0.2 * ones) for _ in range(2)]),
        }
        table = {columns.MATERIAL_ID: np.array(ids, dtype=object)}
        for target, mixture in mixtures.items():
            table[target], table[target + columns.STD] = mixture.median(), mixture.std()
            table[target + columns.LO90], table[target + columns.HI90] = mixture.quantile(0.05), mixture.quantile(0.95)
        rows = np.arange(len(ids))
        return SimpleNamespace(rows=rows, table=pd.DataFrame(table), mixtures=mixtures, rejections=[])

    for module in ("relax.relax", "screen.candidate_scores"):
        monkeypatch.setattr(f"matscout.discovery.{module}.predict_usable", predict)
    return params.model_copy(update={"relaxation": settings})


CANDIDATES = {
    "c-known": caesium_chloride("Na", "Cl", 3.5),
    "c-new": perovskite("Cs", "Na", "Cl", 5.3),
    "c-same": perovskite("Cs", "Na", "Cl", 5.0),
    "c-uranium": perovskite("Cs", "U", "Cl", 5.3),
    "c-dense": caesium_chloride("K", "Br", 1.6),
    "c-other": perovskite("Rb", "K", "Br", 5.4),
}


def write_ranked(folder):
    rows = []
    for rank, (name, crystal) in enumerate(CANDIDATES.items(), start=1):
        rows.append(
            {
                columns.CANDIDATE_ID: name,
                columns.FORMULA: crystal.reduced_formula,
                columns.ROUTE: "substitution",
                columns.PARENT_ID: "mp-000",
                columns.SUBSTITUTION: "",
                columns.PROBABILITY: 0.5,
                columns.N_ATOMS: crystal.n_atoms,
                columns.SPACE_GROUP: 221,
                columns.VOLUME_PER_ATOM: crystal.volume / crystal.n_atoms,
                **crystal.to_row(),
                TARGET: -1.0,
                TARGET + columns.STD: 0.1,
                columns.BAND_GAP: 1.4,
                columns.ENERGY_ABOVE_KNOWN_HULL: 0.1,
                columns.ENERGY_ABOVE_HULL: 0.1,
                columns.ELEMENT_RULES_MET: True,
                columns.GOAL_PROBABILITY: 0.9 - 0.1 * rank,
                columns.EXPECTED_IMPROVEMENT: 0.01 * rank,
                columns.FRONT_PROBABILITY: 0.1,
                columns.RANK: rank,
            }
        )
    folder.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_parquet(folder / "ranked.parquet")
    return folder


def run(known, params, folder):
    places = (known / "members", known / "ensemble", known / "materials.parquet", known / "split.parquet")
    relax(Inputs(write_ranked(folder / "screening"), *places), params, folder / "relaxed")
    return pd.read_parquet(folder / "relaxed" / "relaxed.parquet").set_index(columns.CANDIDATE_ID)


def test_each_candidate_stays_or_leaves_for_a_reason(known, params, tmp_path):
    table = run(known, params, tmp_path)
    assert set(table.index) == set(CANDIDATES)
    assert table["reason"].to_dict() == {
        "c-known": "relaxed_into_known",
        "c-new": "",
        "c-same": "relaxed_into_candidate",
        "c-uranium": "unknown_element",
        "c-dense": "cell_exploded",
        "c-other": "",
    }
    assert table.loc["c-known", "relaxed_into"].startswith("mp-")
    assert table.loc["c-same", "relaxed_into"] == "c-new"
    stays = table.loc[["c-new", "c-other"]]
    assert sorted(stays[columns.RANK]) == [1, 2]
    assert table.drop(index=stays.index)[columns.RANK].isna().all()
    summary = json.loads((tmp_path / "relaxed" / "summary.json").read_text())
    assert (summary["n_chosen"], summary["n_left_out"], summary["potential"]["name"]) == (6, 4, "pairs")
    assert summary["relaxed_with"].startswith("ASE 3.")
    assert len(list((tmp_path / "relaxed" / "cif").iterdir())) == 2


def test_the_relaxed_cell_and_the_combined_energy_stand_in_the_table(known, params, tmp_path):
    row = run(known, params, tmp_path).loc["c-new"]
    relaxed = Crystal.from_row(row)
    assert row["energy_gained"] > 0
    assert row[columns.VOLUME_PER_ATOM] == pytest.approx(relaxed.volume / 5)
    np.testing.assert_allclose(row["lattice_before"], CANDIDATES["c-new"].lattice.ravel())
    truth = aligned(relaxed)
    assert row[TARGET + "_by_potential"] == pytest.approx(truth, abs=0.02)  # the offsets are learnt, the rest is exact
    assert row[TARGET + "_by_ensemble"] == pytest.approx(truth + 0.03, abs=1e-6)
    low, high = sorted((row[TARGET + "_by_potential"], row[TARGET + "_by_ensemble"]))
    assert low <= row[TARGET] <= high
    assert row[TARGET + columns.LO90] < row[TARGET] < row[TARGET + columns.HI90]
    assert not row["judges_disagree"]


def test_the_same_run_gives_the_same_bytes_and_none_without_a_potential(known, params, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        run(known, params, tmp_path / name)
    files = [sorted((tmp_path / name / "relaxed").rglob("*.*")) for name in ("first", "second")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
    off = params.model_copy(update={"relaxation": params.relaxation.model_copy(update={"potential": None})})
    assert run(known, off, tmp_path).empty


def with_goal(params, *objectives, properties=()):
    """Parameters whose goal asks for more, and not for stability, which these few known phases cannot tell."""
    name = params.screening.goal
    goal = params.screening.goals[name]
    kept = tuple(aim for aim in goal.objectives if aim.column != columns.ENERGY_ABOVE_HULL)
    goal = goal.model_copy(update={"objectives": (*kept, *objectives)})
    screening = params.screening.model_copy(update={"goals": {name: goal}})
    relaxation = params.relaxation.model_copy(update={"properties": properties})
    return params.model_copy(update={"screening": screening, "relaxation": relaxation})


def test_a_goal_on_a_property_computes_it_and_counts_it(known, params, tmp_path):
    for name in ("plain", "column", "asked"):
        (tmp_path / name).mkdir()
    plain = run(known, with_goal(params), tmp_path / "plain")
    column = run(known, with_goal(params, properties=("bulk_modulus_potential",)), tmp_path / "column")
    modulus, stays = "bulk_modulus_potential", ["c-new", "c-other"]
    assert modulus not in plain
    pd.testing.assert_frame_equal(column[plain.columns], plain)
    assert (column.loc[stays, modulus] > 0).all()
    assert column.drop(index=stays)[modulus].isna().all()
    aim = Objective(column=modulus, window=(float(column.loc["c-new", modulus]), None), direction=None)
    asked = run(known, with_goal(params, aim), tmp_path / "asked")
    assert asked.loc["c-new", f"{modulus}_in_window"] == pytest.approx(0.5)
    whole = plain.loc["c-new", columns.GOAL_PROBABILITY]
    assert whole > 0
    assert asked.loc["c-new", columns.GOAL_PROBABILITY] == pytest.approx(whole / 2)
    summary = json.loads((tmp_path / "asked" / "relaxed" / "summary.json").read_text())
    assert summary["properties"] == {modulus: {"n": 2, "failed_by_reason": {}}}


def test_what_has_no_value_of_an_asked_property_meets_no_goal_and_ranks_behind(known, params, tmp_path, monkeypatch):
    def only_of_rubidium(crystal, potential, settings):
        if "Rb" not in crystal.species:
            raise NoValueError("no_slab", "none")
        return {columns.SURFACE_ENERGY: 1.0}, ""

    monkeypatch.setenv("MATSCOUT_WORKERS", "1")  # in this process
    monkeypatch.setitem(PROPERTIES, columns.SURFACE_ENERGY, (only_of_rubidium, (columns.SURFACE_ENERGY,)))
    aim = Objective(column=columns.SURFACE_ENERGY, window=None, direction="minimize")
    table = run(known, with_goal(params, aim), tmp_path)
    assert table.loc["c-other", columns.RANK] == 1
    assert (table.loc["c-new", columns.RANK], table.loc["c-new", columns.PARETO_FRONT]) == (2, False)
    assert table.loc["c-new", "surface_energy_reason"] == "no_slab"
    assert table.loc["c-new", columns.GOAL_PROBABILITY] == 0


def test_the_first_by_rank_and_by_expected_improvement_are_chosen(tmp_path):
    ranked = write_ranked(tmp_path) / "ranked.parquet"
    names = list(CANDIDATES)
    assert choose(ranked, 2)[columns.CANDIDATE_ID].tolist() == [*names[:2], *names[-2:]]
    assert choose(ranked, 6)[columns.CANDIDATE_ID].tolist() == names


def test_the_final_ranking_leaves_out_what_left_and_keeps_the_rest(tmp_path):
    ranked = pd.read_parquet(write_ranked(tmp_path) / "ranked.parquet")
    relaxed = pd.DataFrame(
        {columns.CANDIDATE_ID: ["c-same", "c-known", "c-new"], columns.RANK: [1, 2, None], TARGET: [-3.0, -2.0, None]}
    )
    final = final_ranking(ranked, relaxed)
    assert final[columns.CANDIDATE_ID].tolist() == ["c-same", "c-known", "c-uranium", "c-dense", "c-other"]
    assert final[columns.RANK].tolist() == [1, 2, 3, 4, 5]
    assert final[TARGET].tolist() == [-3.0, -2.0, -1.0, -1.0, -1.0]


@pytest.mark.parametrize("correlation", [0.0, 0.4, 0.8])
def test_the_combination_has_the_least_variance_of_all_weights(correlation):
    ensemble_std, potential_std = np.array([0.1, 0.05, 0.2]), np.array([0.05, 0.1, 0.02])
    zero = np.zeros(3)
    found = combine(zero, ensemble_std, Opinion(zero, potential_std), correlation)
    weights = np.linspace(0, 1, 20_001)[:, None]
    shared = 2 * weights * (1 - weights) * correlation * ensemble_std * potential_std
    variance = (weights * potential_std) ** 2 + ((1 - weights) * ensemble_std) ** 2 + shared
    np.testing.assert_allclose(found.weight, weights[variance.argmin(axis=0), 0], atol=1e-4)
    least = np.maximum(np.sqrt(variance.min(axis=0)), DISAGREEMENT_TO_ERROR * potential_std)
    np.testing.assert_allclose(found.std, least, rtol=1e-6)


def test_judges_far_apart_widen_the_error_until_the_potential_has_no_say():
    ensemble, spread = np.zeros(4), np.full(4, 0.1)
    apart = np.array([0.0, 0.3, 1.01 * FARTHEST * np.sqrt(0.02), np.nan])
    found = combine(ensemble, spread, Opinion(apart, np.full(4, 0.1)), 0.0)
    assert found.energy[:2] == pytest.approx([0.0, 0.15])
    assert found.std[1] / found.std[0] == pytest.approx(0.3 / np.sqrt(0.02))
    assert np.isnan(found.energy[2:]).all()


def test_an_ensemble_that_learned_from_the_potential_adds_nothing_to_it():
    """Errors as they then are, potential's and ensemble's = potential's + its own: no weight beats the potential alone."""
    rng = np.random.default_rng(3)
    potential = 0.05 * rng.normal(size=20_000)
    ensemble = potential + 0.08 * rng.normal(size=20_000)
    stds = np.full(20_000, ensemble.std()), np.full(20_000, potential.std())
    found = combine(ensemble, stds[0], Opinion(potential, stds[1], taught=True), correlation=0.1)
    close = np.isfinite(found.energy)
    assert close.mean() > 0.99
    assert found.weight[close] == pytest.approx(1.0)
    others = [np.square(w * potential + (1 - w) * ensemble).mean() for w in np.linspace(0, 1, 21)]
    assert np.square(found.energy[close]).mean() <= min(others) * 1.02


def test_the_correlation_of_both_errors_is_measured():
    rng = np.random.default_rng(3)
    truth, shared = rng.normal(size=4000), rng.normal(size=4000)
    one, other = (truth + 0.1 * (shared + rng.normal(size=4000)) for _ in range(2))
    assert Comparison.of(truth, one, other).correlation == pytest.approx(0.5, abs=0.05)
    assert Comparison.of(truth[:5], one[:5], other[:5]).n == 5


def test_the_potential_judge_joins_its_scale_to_the_known_energies(known, params, tmp_path):
    judge = make_potential_judge(
        params,
        params.relaxation,
        materials=known / "materials.parquet",
        split=known / "split.parquet",
        ensemble=known / "ensemble",
        labels=None,
        parts=Parts(tmp_path),
    )
    crystals = [perovskite("Cs", "Na", "Cl"), perovskite("Cs", "Na", "O")]
    energies = np.array([POTENTIAL.energies([crystals[0]])[0] / 5, -1.0])
    said = judge.opinion(energies, crystals)
    assert said.energy[0] == pytest.approx(aligned(crystals[0]), abs=0.02)
    assert np.isnan(said.energy[1]), "no known crystal holds oxygen"
    assert judge.comparison.mae_potential < 0.02 < judge.comparison.mae_ensemble


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{here!r}]
from test_relax import start
start(Path({folder!r}), {potential!r})
"""


def start(folder, potential):
    """Relax four crystals; what is left in `folder` of an earlier call is not done again."""
    block = {"n": 1, "cell": True, "symmetry": True, "force": 0.001, "steps": 300, "volume": (0.3, 3.0), "bonds": 1.0}
    block |= {"properties": (), "mobile_ions": ("Li",), "slab_atoms": 1, "batches": "never"}
    settings = Relaxation(potential=potential, judge=None, trust_file=True, n_known=1, seed=1, **block)
    crystals = [caesium_chloride(a, b, 3.5) for a in METALS[:2] for b in HALOGENS[:2]]
    return relax_all([str(i) for i in range(4)], crystals, settings, Parts(folder), workers=1)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_in_the_same_bytes(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    start(whole, PAIRS)
    code = SCRIPT.format(here=str(HERE), folder=str(killed), potential=str(HERE / "deadly_potential.py"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)])}
    command, deaths, done = [sys.executable, "-c", code], 0, 0
    while True:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        kept = len(list(killed.glob("*.arrow")))
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr[-2000:]
        assert kept > done, "a killed run keeps what it finished"
        deaths, done = deaths + 1, kept
    assert deaths >= 2
    names = [sorted(file.name for file in folder.glob("*.arrow")) for folder in (whole, killed)]
    assert names[0] == names[1]  # names hold checksums
