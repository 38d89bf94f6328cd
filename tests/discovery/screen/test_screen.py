"""The stage `screen` with an ensemble whose opinion is known."""

import json
import shutil
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Composition, Structure

from matscout import columns
from matscout.crystal import Crystal
from matscout.discovery.screen import screen as screening
from matscout.discovery.screen.candidate_scores import Judge
from matscout.discovery.screen.scored_file import mixtures_of, mixtures_table
from matscout.discovery.screen.user_crystals import predict_structures
from matscout.discovery.stability.energy_above_hull import References
from matscout.discovery.stability.relaxation_gain import SOFTENING, relaxation_gain
from matscout.ensemble.mixture import Mixture
from matscout.errors import InputError
from matscout.graphs.graph_store import GraphStore
from matscout.models.families.hurdle import HurdleLaplace
from matscout.models.families.laplace import Laplace
from matscout.models.inference import ON_CPU
from matscout.params import Goal, Objective, load_params

ROOT = Path(__file__).parents[3]
TARGETS = ("formation_energy_per_atom", "band_gap")


class KnownEnsemble:
    """Two members that read gap and energy off the mean atomic number: nothing is trained."""

    targets = TARGETS
    not_finite = ()  # ids that it can say nothing of
    plan = ON_CPU
    reference = SimpleNamespace(is_known=lambda formulas: np.zeros(len(formulas), dtype=bool))

    def __init__(self, graphs):
        self.graphs = graphs
        combination = SimpleNamespace(weights={"a": 0.5, "b": 0.5})
        tuned = SimpleNamespace(tuning=SimpleNamespace(combination=combination))
        self.calibration = SimpleNamespace(targets=dict.fromkeys(TARGETS, tuned))

    def for_hypothetical(self):
        return self

    def predict_mixtures(self, store: GraphStore):
        graph = store.batch(np.arange(len(store)), n_neighbors=1, cutoff=1.0)
        mean_z = np.zeros(len(store))
        for crystal in range(len(store)):
            mine = (graph.crystal_of_atom == crystal).numpy()
            weight = graph.multiplicity.numpy()[mine]
            mean_z[crystal] = (graph.atomic_numbers.numpy()[mine] * weight).sum() / weight.sum()
        gap, energy, ones = 60 / mean_z - 1.5, mean_z / 40 - 2.0, np.ones(len(store))
        mixtures = {
            "formation_energy_per_atom": Mixture.of([Laplace(energy + d, 0.1 * ones) for d in (-0.05, 0.05)]),
            "band_gap": Mixture.of(
                [HurdleLaplace(0.1 * ones, np.maximum(gap + d, 0), 0.2 * ones) for d in (-0.1, 0.1)]
            ),
        }
        table = {columns.MATERIAL_ID: store.ids.astype(object), columns.FAR_FROM_TRAINING: np.zeros(len(store), bool)}
        for target, mixture in mixtures.items():
            table[target] = mixture.median()
            table[target + columns.STD] = mixture.std()
            table[target + columns.LO90], table[target + columns.HI90] = mixture.quantile(0.05), mixture.quantile(0.95)
        kept = ~np.isin(store.ids, list(self.not_finite))
        mixtures = {target: mixture.take(kept) for target, mixture in mixtures.items()}
        return pd.DataFrame(table).loc[kept].reset_index(drop=True), mixtures


@pytest.fixture
def params():
    return load_params(ROOT / "params.yaml")


@pytest.fixture(autouse=True)
def known_ensemble(monkeypatch, params):
    loader = SimpleNamespace(load=lambda *_: KnownEnsemble(params.graphs))
    monkeypatch.setattr(screening, "EnsemblePredictor", loader)


def with_goal(params, goal, **changes):
    settings = params.screening.model_copy(update={"goal": "mine", "goals": {"mine": goal}, **changes})
    return params.model_copy(update={"screening": settings})


def goal(*objectives, deny=()):
    aims = tuple(Objective(**{"window": None, "direction": None, **aim}) for aim in objectives)
    return Goal(description="", objectives=aims, require_elements=(), allow_elements=None, deny_elements=deny)


GAP = {"column": "band_gap", "window": (0.6, 1.4)}
STABLE = {"column": "energy_above_hull", "window": (None, 0.2)}
LOW = {"column": "formation_energy_per_atom", "direction": "minimize"}


@pytest.fixture
def screen(params, proposed, materials, tmp_path):
    (tmp_path / "members").mkdir()

    def run(wanted, candidates=proposed / "candidates.parquet", materials=materials, **changes):
        folder = tmp_path / "screening"
        screening.screen(
            candidates,
            params=with_goal(params, wanted, **{"top_k": 6, **changes}),
            members=tmp_path / "members",
            ensemble=tmp_path / "members",
            materials=materials,
            distilled=tmp_path / "distilled",
            destination=folder,
        )
        return folder

    return run


def test_what_is_written_is_sorted_whole_and_counted(screen, candidates):
    folder = screen(goal(GAP, STABLE, LOW, deny=("O",)))
    ranked = pd.read_parquet(folder / "ranked.parquet")
    summary = json.loads((folder / "summary.json").read_text())
    assert set(ranked["candidate_id"]) == set(candidates["candidate_id"])
    assert ranked["rank"].tolist() == list(range(1, len(ranked) + 1))
    assert ranked["goal_met"].is_monotonic_decreasing
    assert summary["n_candidates"] == len(ranked)
    assert summary["n_goal_met"] == ranked["goal_met"].sum() > 0
    assert summary["n_pareto_front"] == ranked["pareto_front"].sum() > 0
    assert summary["top"] == ranked["candidate_id"].head(6).tolist()
    met = ranked[ranked["goal_met"]]
    assert met["band_gap"].between(0.6, 1.4).all()
    assert (met["energy_above_hull"] <= 0.2).all()
    assert met["stability_judged"].all()
    assert not met["formula"].map(lambda formula: "O" in Composition(formula)).any()


def test_barred_elements_are_last_with_no_chance(screen):
    ranked = pd.read_parquet(screen(goal(GAP, deny=("O",))) / "ranked.parquet")
    barred = ranked["formula"].map(lambda formula: "O" in Composition(formula)).to_numpy()
    assert 0 < barred.sum() < len(ranked)
    assert barred[-barred.sum() :].all()
    assert (ranked.loc[barred, "goal_probability"] == 0).all()
    assert not ranked.loc[barred, "pareto_front"].any()
    assert (ranked["element_rules_met"].to_numpy() == ~barred).all()


def test_the_best_are_written_as_cif(screen):
    folder = screen(goal(GAP, STABLE))
    ranked = pd.read_parquet(folder / "ranked.parquet")
    files = sorted((folder / "cif").iterdir())
    assert [file.stem.split("_")[-1] for file in files] == ranked["candidate_id"].head(6).tolist()
    for file, formula in zip(files, ranked["formula"], strict=False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pymatgen tells of the coordinates that it rounds
            assert Structure.from_file(file).composition.reduced_formula == formula


def test_the_shortlist_says_how_sure_it_is_and_what_to_take_together(screen):
    ranked = pd.read_parquet(screen(goal(GAP, LOW)) / "ranked.parquet")
    sure = ranked["front_probability"].dropna()
    assert len(sure) == min(200, ranked["element_rules_met"].sum())
    assert sure.between(0, 1).all()
    assert sure.max() > 0
    assert (ranked["expected_improvement"].dropna() >= 0).all()
    assert sorted(ranked.loc[ranked["batch"] > 0, "batch"]) == [1, 2, 3, 4, 5, 6]


def test_energy_above_hull_has_the_interval_of_the_formation_energy_and_that_of_its_rivals(screen):
    ranked = pd.read_parquet(screen(goal(GAP, STABLE)) / "ranked.parquet")
    for end, sign in (("_lo90", -1), ("_hi90", 1)):
        own = ranked[f"formation_energy_per_atom{end}"] - ranked["formation_energy_per_atom"]
        reach = ranked[f"energy_above_hull{end}"] - ranked["energy_above_hull"]
        np.testing.assert_allclose(reach, sign * np.hypot(own, 1.6448536 * ranked["hull_energy_std"]), atol=1e-6)
    assert (ranked["hull_energy_std"] > 0).any()
    assert ranked["competing_phases"].str.contains(r"\d\.\d\d \w+").all()


def test_candidates_compete_with_each_other_and_the_known_hull_stands_beside(screen, materials):
    ranked = pd.read_parquet(screen(goal(GAP, STABLE)) / "ranked.parquet")
    references = References.read(materials)
    compositions = [Counter(species) for species in ranked["species"]]
    known = ranked["formation_energy_per_atom"] - references.hull_energies(compositions)
    np.testing.assert_allclose(ranked["energy_above_known_hull"], known, atol=1e-9)
    assert (ranked["energy_above_hull"] >= known - 1e-9).all()
    rivalled = ranked["competing_phases"].str.contains("predicted")
    assert rivalled.any()
    assert (ranked.loc[rivalled, "energy_above_hull"] > known[rivalled]).all()
    for species in ranked.loc[ranked.duplicated("formula"), "formula"].unique():  # one of a formula at most is stable
        assert (ranked.loc[ranked["formula"] == species, "energy_above_hull"] < 0).sum() <= 1


def test_what_cannot_be_judged_meets_no_goal_and_stands_on_no_front(screen):
    folder = screen(goal(GAP, STABLE, LOW, deny=("F",)))
    ranked, summary = pd.read_parquet(folder / "ranked.parquet"), json.loads((folder / "summary.json").read_text())
    judged, obeys = ranked["stability_judged"].to_numpy(), ranked["element_rules_met"].to_numpy()
    assert 0 < judged.sum() < len(ranked)
    assert not (judged & (ranked["energy_above_hull"] < -0.2)).any()
    assert ranked.loc[~judged, "stability_remark"].str.contains("phase known$|rivals are missing").all()
    assert (ranked.loc[judged, "stability_remark"] == "").all()
    unjudged = ranked.loc[~judged]
    assert not unjudged[["goal_met", "pareto_front"]].any(axis=None)
    assert (unjudged["goal_probability"] == 0).all()
    place = ranked["rank"]
    assert (
        place[judged & obeys].max() < place[~judged & obeys].min() <= place[~judged & obeys].max() < place[~obeys].min()
    )
    assert summary["n_stability_not_judged"] == (~judged).sum()
    assert summary["n_rivals"] > 0
    assert summary["n_stand_ins"] == 0
    indifferent = pd.read_parquet(screen(goal(GAP, LOW)) / "ranked.parquet")
    assert (indifferent.loc[~indifferent["stability_judged"], "goal_probability"] > 0).any()  # nobody asked


def test_stand_ins_compete_and_are_counted_apart(screen, tmp_path, params, proposed, materials):
    ranked = pd.read_parquet(screen(goal(GAP, STABLE)) / "ranked.parquet")
    lacking = ranked.loc[ranked["stability_remark"].str.endswith("phase known"), "stability_remark"]
    pairs = sorted(
        {pair for words in lacking for pair in words.removeprefix("no ").removesuffix(" phase known").split(", ")}
    )
    rows = [
        {
            "material_id": f"hyp-{i}",
            "species": pair.split("-"),
            "formation_energy_aligned": 0.2,
            "calculation": "potential",
        }
        for i, pair in enumerate(pairs)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "stand_ins.parquet")
    screening.screen(
        proposed / "candidates.parquet",
        params=with_goal(params, goal(GAP, STABLE), top_k=6),
        members=tmp_path / "members",
        ensemble=tmp_path / "members",
        materials=materials,
        distilled=tmp_path / "distilled",
        destination=tmp_path / "with",
        stand_ins=tmp_path / "stand_ins.parquet",
    )
    found = pd.read_parquet(tmp_path / "with" / "ranked.parquet")
    summary = json.loads((tmp_path / "with" / "summary.json").read_text())
    assert summary["n_stand_ins"] == len(pairs)
    assert summary["n_known_phases"] == References.read(materials).n_phases
    assert not found["stability_remark"].str.endswith("phase known").any()
    assert found["stability_remark"].str.startswith("potential-labelled stand-ins for").any()
    assert found["stability_judged"].sum() > ranked["stability_judged"].sum()
    columns_known = ["candidate_id", "energy_above_known_hull", "missing_references"]
    for before, after in zip(
        *(t[columns_known].sort_values("candidate_id").to_numpy() for t in (ranked, found)), strict=True
    ):
        assert before.tolist() == after.tolist()


def test_shards_give_the_bytes_of_one_piece_and_a_killed_run_goes_on(screen, proposed, monkeypatch, tmp_path):
    wanted = goal(GAP, STABLE, LOW)
    whole = {path.name: path.read_bytes() for path in screen(wanted).rglob("*") if path.is_file()}
    table = pq.read_table(proposed / "candidates.parquet")
    (tmp_path / "parts").mkdir()
    pq.write_table(table, tmp_path / "parts" / "candidates.parquet", row_group_size=90)
    predict, judged = Judge.predict, []

    def dies_in_the_third(self, ids, crystals):
        judged.append(len(ids))
        if len(judged) == 3:
            raise KeyboardInterrupt
        return predict(self, ids, crystals)

    monkeypatch.setattr(Judge, "predict", dies_in_the_third)
    shutil.rmtree(tmp_path / "screening")
    with pytest.raises(KeyboardInterrupt):
        screen(wanted, candidates=tmp_path / "parts" / "candidates.parquet")
    assert not (tmp_path / "screening").exists()
    parts = screen(wanted, candidates=tmp_path / "parts" / "candidates.parquet")
    assert len(judged) == 3 + -(-len(table) // 90) - 2 + 1  # the shards that were left, and the shortlist's draws
    assert {path.name: path.read_bytes() for path in parts.rglob("*") if path.is_file()} == whole


def poison(candidates, path):
    """The candidates with five broken ones among them, as a disk or a bad generator might leave them; their ids."""
    rows = pq.read_table(candidates).to_pylist()
    broken = {
        "cell_not_finite": {"lattice": [float("nan")] * 9},
        "atoms_overlap": {"frac_coords": [0.25] * len(rows[20]["frac_coords"])},
        "unknown_element": {"species": ["Xx"] * len(rows[30]["species"])},
        "shapes_disagree": {"frac_coords": rows[40]["frac_coords"][:-1]},
        "prediction_not_finite": {},
    }
    poisoned = {}
    for place, (reason, change) in enumerate(broken.items(), start=1):
        row = rows[10 * place] | change | {"candidate_id": f"ms-{reason}"}
        poisoned[row["candidate_id"]] = reason
        rows.insert(70 * place, row)
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(candidates)), path, row_group_size=150)
    return poisoned


def test_broken_candidates_are_quarantined_and_the_others_are_ranked_as_without_them(
    screen, proposed, monkeypatch, tmp_path
):
    wanted = goal(GAP, STABLE, LOW)
    clean = {path.name: path.read_bytes() for path in screen(wanted).rglob("*") if path.is_file()}
    poisoned = poison(proposed / "candidates.parquet", tmp_path / "candidates.parquet")
    monkeypatch.setattr(KnownEnsemble, "not_finite", ("ms-prediction_not_finite",))
    folder = screen(wanted, candidates=tmp_path / "candidates.parquet")
    quarantine = pd.read_parquet(folder / "quarantine.parquet")
    assert dict(zip(quarantine["candidate_id"], quarantine["reason"], strict=True)) == poisoned
    assert quarantine["detail"].str.len().min() > 20
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["n_quarantined"] == 5
    assert summary["quarantined_by_reason"] == dict.fromkeys(sorted(poisoned.values()), 1)
    assert summary["n_candidates"] == len(pq.read_table(proposed / "candidates.parquet"))
    others = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    told = {"quarantine.parquet", "summary.json"}
    assert {name: content for name, content in others.items() if name not in told} == {
        name: content for name, content in clean.items() if name not in told
    }


def test_candidates_that_are_all_broken_are_told(screen, proposed, tmp_path):
    rows = pq.read_table(proposed / "candidates.parquet").slice(0, 3).to_pylist()
    rows = [row | {"lattice": [float("nan")] * 9} for row in rows]
    pq.write_table(
        pa.Table.from_pylist(rows, schema=pq.read_schema(proposed / "candidates.parquet")), tmp_path / "broken.parquet"
    )
    with pytest.raises(InputError, match=r"none of the 3 candidates .* can be judged; the first, ms-.*NaN or infinity"):
        screen(goal(GAP), candidates=tmp_path / "broken.parquet")
    assert not (tmp_path / "screening").exists()


def test_a_file_of_candidates_that_was_cut_off_is_rejected(screen, proposed, tmp_path):
    (tmp_path / "half.parquet").write_bytes((proposed / "candidates.parquet").read_bytes()[:-500])
    with pytest.raises(InputError, match="not a complete parquet file"):
        screen(goal(GAP), candidates=tmp_path / "half.parquet")


def test_a_shard_that_the_disk_changed_is_judged_again(screen, proposed, monkeypatch, tmp_path, caplog):
    wanted = goal(GAP, STABLE, LOW)
    whole = {path.name: path.read_bytes() for path in screen(wanted).rglob("*") if path.is_file()}
    pq.write_table(pq.read_table(proposed / "candidates.parquet"), tmp_path / "candidates.parquet", row_group_size=150)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    with monkeypatch.context() as patch:
        patch.setattr(Judge, "rank", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            screen(wanted, candidates=tmp_path / "candidates.parquet")
    first, second, *_ = sorted((tmp_path / "root").rglob("judged-*.arrow"))
    first.write_bytes(first.read_bytes()[:-1000])
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 1
    second.write_bytes(content)
    again = screen(wanted, candidates=tmp_path / "candidates.parquet")
    assert caplog.text.count("cut off or changed on disk") == 2
    assert {path.name: path.read_bytes() for path in again.rglob("*") if path.is_file()} == whole


def test_what_elements_cost_can_be_asked_for(screen):
    cheap = {"column": "elemental_cost", "window": (None, 50.0)}
    rare = {"column": "crustal_abundance", "direction": "maximize"}
    ranked = pd.read_parquet(screen(goal(GAP, cheap, rare)) / "ranked.parquet")
    assert (ranked.loc[ranked["goal_met"], "elemental_cost"] <= 50).all()
    assert ranked["goal_met"].any()
    unpriced = ranked["elemental_cost"].isna()
    assert not ranked.loc[unpriced, "element_rules_met"].any()
    assert set(ranked["elemental_cost_in_window"]) <= {0.0, 1.0}


def test_a_parent_that_was_made_can_be_asked_for(screen):
    """A third of the parents were made, a third were not, and of a third nobody knows: that counts as not."""
    asked = {"column": "parent_made", "window": (1.0, None)}
    ranked = pd.read_parquet(screen(goal(GAP, asked)) / "ranked.parquet")
    made = (ranked["parent_is_experimental"] == True).to_numpy()  # noqa: E712
    assert ranked["parent_made"].tolist() == made.astype(float).tolist()
    assert ranked["parent_made_in_window"].tolist() == made.astype(float).tolist()
    assert (ranked.loc[~made, "goal_probability"] == 0).all()
    assert not ranked.loc[~made, "goal_met"].any()
    assert ranked.loc[made, "goal_probability"].max() > 0


def test_properties_of_relaxed_crystals_are_unknown_here_and_change_nothing(screen):
    wanted = {"column": "average_voltage", "window": (3.0, None)}, {"column": "surface_energy", "direction": "minimize"}
    tables, summaries = [], []
    for more in ((), wanted):
        folder = screen(goal(GAP, STABLE, *more))
        tables.append(pd.read_parquet(folder / "ranked.parquet"))
        summaries.append(json.loads((folder / "summary.json").read_text()))
    pd.testing.assert_frame_equal(*tables)
    told = "; average_voltage and surface_energy are known only after the relaxation and do not count here"
    assert summaries[1]["outcome"] == summaries[0]["outcome"] + told


def test_crystals_without_parents_cannot_be_asked_for_made_ones(screen, candidates, tmp_path):
    candidates.drop(columns="parent_is_experimental").to_parquet(tmp_path / "given.parquet")
    asked = {"column": "parent_made", "window": (1.0, None)}
    with pytest.raises(InputError, match="crystals of your own have no parents"):
        screen(goal(GAP, asked), candidates=tmp_path / "given.parquet")


def test_kept_distributions_are_those_that_were_predicted():
    rng = np.random.default_rng(4)
    positive = rng.uniform(0.1, 1.0, (4, 7))
    mixtures = {
        "energy": Mixture.of([Laplace(rng.normal(size=7), positive[0]), Laplace(rng.normal(size=7), positive[1])]),
        "gap": Mixture.of([HurdleLaplace(positive[2], rng.normal(size=7), positive[3])]),
    }
    mixtures["energy"].weights[:] = 0.25, 0.75
    kept = mixtures_of(mixtures_table(mixtures))
    for target, mixture in mixtures.items():
        for value in (-0.5, 0.0, 0.7):
            np.testing.assert_array_equal(kept[target].cdf(np.full(7, value)), mixture.cdf(np.full(7, value)))
    assert mixtures_of(mixtures_table({"gap": mixtures["gap"].take(np.zeros(7, bool))}))["gap"].median().shape == (0,)


def test_a_goal_that_nobody_meets_is_told_with_the_nearest(screen):
    folder = screen(goal({"column": "band_gap", "window": (50.0, 60.0)}))
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["n_goal_met"] == 0
    assert "no candidate meets the goal" in summary["outcome"]
    ranked = pd.read_parquet(folder / "ranked.parquet")
    assert summary["nearest"][0]["misses"]["band_gap"] == pytest.approx(50 - ranked["band_gap"].max())


def test_a_goal_whose_stability_nobody_can_judge_is_told(screen, materials, tmp_path):
    table = pd.read_parquet(materials)
    table.loc[[len(set(species)) != 2 for species in table["species"]]].to_parquet(tmp_path / "no_pairs.parquet")
    folder = screen(goal(GAP, STABLE), materials=tmp_path / "no_pairs.parquet")
    ranked, summary = pd.read_parquet(folder / "ranked.parquet"), json.loads((folder / "summary.json").read_text())
    assert not ranked["stability_judged"].any()
    assert summary["n_stability_not_judged"] == len(ranked)
    assert (summary["n_goal_met"], summary["nearest"]) == (0, [])
    reason = f"the stability of none of {len(ranked):,} can be judged"
    assert summary["outcome"] == f"no candidate meets the goal, because {reason}"
    assert len(list((folder / "cif").iterdir())) == 6  # the list is ranked all the same


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (goal({"column": "hardness", "direction": "maximize"}), "'hardness' is not a column here"),
        (goal(GAP, {"column": "band_gap", "window": (3.0, None)}), "share no value"),
    ],
)
def test_nonsense_is_refused_before_any_work(screen, wanted, words, tmp_path):
    with pytest.raises(InputError, match=words):
        screen(wanted)
    assert not (tmp_path / "screening").exists()


def test_rules_that_nothing_obeys_are_told(screen):
    impossible = goal(GAP).model_copy(update={"allow_elements": ("He",)})
    with pytest.raises(InputError, match="obeys the goal's element rules"):
        screen(impossible)


def test_the_same_candidates_give_the_same_bytes(screen):
    wanted = goal(GAP, STABLE, LOW)
    first = {path.name: path.read_bytes() for path in screen(wanted).rglob("*") if path.is_file()}
    second = {path.name: path.read_bytes() for path in screen(wanted).rglob("*") if path.is_file()}
    assert first == second


def test_ones_own_structures_are_ranked_the_same_way(crystals, materials):
    named = {f"mine-{i}": crystal.to_structure() for i, crystal in enumerate(crystals[:20])}
    ranked = screening.screen_materials(named, goal(GAP, STABLE, LOW), materials=materials)
    assert set(ranked["material_id"]) == set(named)
    assert ranked["rank"].tolist() == list(range(1, 21))
    lowest = ranked.loc[ranked["energy_above_hull"].idxmin()]
    copied = named | {f"{lowest['material_id']}-copy": named[lowest["material_id"]]}
    found = screening.screen_materials(copied, goal(GAP, STABLE, LOW), materials=materials).set_index("material_id")
    copy = found.loc[f"{lowest['material_id']}-copy"]  # they compete with each other: one stands for the formula
    assert lowest["energy_above_hull"] == found.loc[lowest["material_id"], "energy_above_hull"] < 0
    assert copy["energy_above_hull"] == 0
    assert copy["energy_above_known_hull"] == lowest["energy_above_known_hull"]
    assert copy["competing_phases"] == f"1.00 {copy['formula']} ({lowest['material_id']}, predicted)"
    without_hull = screening.screen_materials(list(named.values()), goal(GAP, LOW), materials=None)
    assert "energy_above_hull" not in without_hull
    assert set(without_hull["material_id"]) == {f"structure-{i}" for i in range(20)}


def test_ones_own_crystals_that_cannot_be_judged_are_named(crystals, materials):
    overlapping = Crystal(crystals[1].lattice, crystals[1].species, np.zeros_like(crystals[1].frac_coords))
    with pytest.warns(UserWarning, match=r"1 crystal.* rejected: structure-1: two atoms are 0\.000"):
        ranked = screening.screen_materials([crystals[0], overlapping], goal(GAP, LOW), materials=materials)
    assert ranked["material_id"].tolist() == ["structure-0"]
    with pytest.raises(InputError, match=r"none of 1 crystal.*structure-0: two atoms"):
        screening.screen_materials([overlapping], goal(GAP, LOW), materials=materials)


def test_files_without_a_prediction_are_named_and_the_others_go_on(crystals, params, monkeypatch, tmp_path):
    for number, crystal in enumerate(crystals[:3]):
        crystal.to_structure().to(filename=str(tmp_path / f"mine-{number}.vasp"), fmt="poscar")
    (tmp_path / "torn.vasp").write_text("no structure")
    monkeypatch.setattr(KnownEnsemble, "not_finite", ("mine-1",))
    ensemble = KnownEnsemble(params.graphs)
    table, rejections = predict_structures([tmp_path], ensemble, params.curation.validity)
    assert table["material_id"].tolist() == ["mine-0", "mine-2"]
    assert table["formula"].tolist() == [crystals[row].reduced_formula for row in (0, 2)]
    assert {(item.material_id, item.reason) for item in rejections} == {
        ("torn", "unreadable_structure"),
        ("mine-1", "prediction_not_finite"),
    }
    with pytest.raises(InputError, match=r"none of 1 structure.* can be predicted; .*values that are not finite"):
        predict_structures([tmp_path / "mine-1.vasp"], ensemble, params.curation.validity)


def test_predict_and_screen_give_one_energy_which_is_that_of_the_relaxed_crystal(crystals, params, materials, tmp_path):
    for number, crystal in enumerate(crystals[:5]):
        crystal.to_structure().to(str(tmp_path / f"mine-{number}.vasp"), fmt="poscar")
    ensemble = KnownEnsemble(params.graphs)
    asked = params.curation.validity
    unrelaxed, _ = predict_structures([tmp_path], ensemble, asked)
    relaxed, _ = predict_structures([tmp_path], ensemble, asked, materials)
    ids = relaxed["material_id"].tolist()
    judged = Judge(ensemble, References.read(materials), goal(GAP)).judge(ids, crystals[:5]).table
    for end in ("", "_lo90", "_hi90"):
        name = "formation_energy_per_atom" + end
        np.testing.assert_allclose(relaxed[name], judged[name], atol=1e-5)  # a POSCAR holds rounded coordinates
    hull = References.read(materials).hull_energies([crystal.element_counts for crystal in crystals[:5]])
    start = unrelaxed["formation_energy_per_atom"].to_numpy()
    by = SOFTENING - relaxation_gain(crystals[:5], start - hull)
    np.testing.assert_allclose(relaxed["formation_energy_per_atom"], start + by, atol=1e-5)
    assert np.ptp(by) > 0.01


def test_ones_own_mistakes_are_told(crystals, materials, monkeypatch):
    with pytest.raises(InputError, match="no structures to screen"):
        screening.screen_materials([], goal(GAP), materials=materials)
    disordered = crystals[0].to_structure()
    disordered.replace(0, {disordered[0].specie.symbol: 0.5, "Na": 0.5})
    with pytest.raises(InputError, match=r"structure-0: .*partially occupied"):
        screening.screen_materials([disordered], goal(GAP), materials=materials)
    with pytest.raises(InputError, match="energy_above_hull"):
        screening.screen_materials([crystals[0]], goal(STABLE), materials=None)
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match="choose one of"):
        screening.screen_materials([crystals[0]], "superconductor", materials=None)
