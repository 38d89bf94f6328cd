"""benchmarks/hypothetical: stability, coverage and gaps by hand, and the whole command on made-up rows."""

import csv
import gzip
import io
import json
import sys

import numpy as np
import pandas as pd
import pytest
from benchmarks.hypothetical import __main__ as command
from benchmarks.hypothetical import rows as row_files
from benchmarks.hypothetical import scores, tables
from benchmarks.shared_rows import order
from sklearn.metrics import f1_score, precision_score, r2_score, recall_score
from small_outputs import make_outputs

from matscout.ensemble.evaluate import evaluate

ENERGY = "formation_energy_per_atom"


def test_stability_by_hand():
    above_hull = np.array([-0.10, 0.00, -0.02, 0.05, 0.20, 0.30, 0.40, -0.03])
    errors = np.array([0.05, 0.10, -0.10, -0.06, 0.00, -0.40, 0.10, np.nan])
    truth = np.linspace(-3, 0, 8)
    # called stable: 1st and 3rd rightly, 4th and 6th wrongly; the 2nd and the one without an estimate are missed
    found = scores.stability_scores(above_hull, truth, truth + errors)
    assert found["prevalence"] == 4 / 8
    assert found["called_stable"] == 4
    assert found["precision"] == 2 / 4
    assert found["recall"] == 2 / 4
    assert found["f1"] == pytest.approx(0.5)
    assert found["daf"] == pytest.approx((2 / 4) / (4 / 8))
    assert found["without_estimate"] == 1
    assert found["mae"] == pytest.approx(0.81 / 7)
    assert found["bias"] == pytest.approx(-0.31 / 7)
    assert found["f1_low"] < 0.5 < found["f1_high"]


def test_stability_agrees_with_scikit_learn_and_moves_with_no_shift_of_the_scale():
    rng = np.random.default_rng(1)
    above_hull, truth, errors = rng.normal(0.1, 0.2, 500), rng.normal(-1, 1, 500), rng.normal(0.02, 0.1, 500)
    found = scores.stability_scores(above_hull, truth, truth + errors)
    is_stable, called = above_hull <= 0, above_hull + errors <= 0
    assert found["f1"] == pytest.approx(f1_score(is_stable, called))
    assert found["precision"] == pytest.approx(precision_score(is_stable, called))
    assert found["recall"] == pytest.approx(recall_score(is_stable, called))
    assert found["r2"] == pytest.approx(r2_score(above_hull, above_hull + errors))
    assert scores.stability_scores(above_hull, truth + 5, truth + 5 + errors)["f1"] == pytest.approx(found["f1"])


def test_a_perfect_estimate_has_the_largest_acceleration():
    above_hull, truth = np.array([-0.1, 0.0, 0.1, 0.2, 0.3]), np.arange(5.0)
    found = scores.stability_scores(above_hull, truth, truth)
    assert (found["f1"], found["r2"], found["mae"]) == (1, 1, 0)
    assert found["daf"] == pytest.approx(5 / 2)


def test_reweighting_is_repeating_unstable_rows():
    rng = np.random.default_rng(2)
    above_hull, errors = rng.normal(0.1, 0.2, 400), rng.normal(0, 0.1, 400)
    share = scores.UNIQUE_PROTOTYPES_STABLE
    n_stable = (above_hull <= 0).sum()
    times = (
        (1 - share) / share * n_stable / (400 - n_stable) * 1000
    )  # copies of an unstable row beside 1000 of a stable
    copies = np.where(above_hull <= 0, 1000, round(times))
    repeated = [np.repeat(each, copies) for each in (above_hull, errors)]
    found = scores.stability_scores(above_hull, np.zeros(400), errors)
    wanted = scores.stability_scores(repeated[0], np.zeros(copies.sum()), repeated[1])
    assert found["f1_reweighted"] == pytest.approx(wanted["f1"], rel=1e-3)
    assert found["daf_reweighted"] == pytest.approx(wanted["daf"], rel=1e-3)


def test_nothing_called_stable_is_no_division_by_zero():
    found = scores.stability_scores(np.array([-0.1, 0.1]), np.zeros(2), np.array([1.0, 1.0]))
    assert found["f1"] == found["recall"] == 0
    assert np.isnan(found["precision"])
    assert np.isnan(found["daf"])


def predictions(estimate, half_width, distance, far):
    estimate = np.asarray(estimate)
    return pd.DataFrame(
        {
            ENERGY: estimate,
            f"{ENERGY}_lo90": estimate - half_width,
            f"{ENERGY}_hi90": estimate + half_width,
            f"{ENERGY}_std": np.asarray(half_width) / 2,
            "training_distance": distance,
            "far_from_training": far,
        }
    )


def test_coverage_and_flags_by_hand():
    table = predictions([0.0, 0.1, 0.3, 0.5, np.nan], [0.1, 0.05, 0.3, 0.4, 9], [1, 2, 3, 4, 9], [0, 0, 0, 1, 1])
    found = scores.trust_scores(np.zeros(5), table, ENERGY)  # the last has no estimate and counts nowhere
    assert found["coverage_90"] == 2 / 4
    assert found["width_90"] == pytest.approx(2 * 0.85 / 4)
    assert found["share_of_large_errors"] == 2 / 4
    assert found["flagged"] == 1 / 4
    aucs = found["auc_of_large_errors"]
    assert aucs == {"far_from_training": 0.75, "training_distance": 1.0, "std": 1.0}


def test_gaps_beside_calling_everything_a_metal():
    truth, estimate = np.array([0, 0, 0, 2, np.nan]), np.array([0, 0.4, 0, 1, 7])
    found = scores.gap_scores(truth, estimate, np.array([0.9, 0.3, 0.7, 0.4, 0.0]))
    assert found["rows"] == 4
    assert found["mae"] == pytest.approx(1.4 / 4)
    assert found["mae_if_all_metal"] == 0.5
    assert found["metal_auc"] == pytest.approx(2 / 3)
    assert found["metals_called_metal"] == pytest.approx(2 / 3)
    assert found["others_called_metal"] == 0


def test_an_offset_per_element_is_no_error():
    rng = np.random.default_rng(0)
    fractions = rng.dirichlet(np.ones(6), size=300)
    estimate = rng.normal(size=300)
    found = scores.other_reference_scores(estimate + fractions @ rng.normal(size=6), estimate, fractions)
    assert found["mae_offset_per_element"] < 1e-3
    assert found["mae_one_offset"] > 0.1
    assert found["mae_offsets_alone"] > 0.5


def crystal_row(name, species, edge=3.5, frac=None):
    frac = frac or [[0, 0, 0], [0.5, 0.5, 0.5]]
    return {"material_id": name, "matrix": (edge * np.eye(3)).tolist(), "species": species, "frac": frac}


def wbm_row(index, grade, above_hull, species=("Na", "Cl"), frac=None):
    row = crystal_row(f"wbm-1-{index}", list(species), 3 + index / 100, frac)
    initial = {f"initial_{key}": row.pop(key) for key in ("matrix", "species", "frac")}
    relaxed = {f"final_{key}": value for key, value in crystal_row("", ["Na", "Cl"], 9).items() if key != "material_id"}
    labels = {
        "e_form_per_atom_mp2020_corrected": -2 - index / 10,
        "e_above_hull_mp2020_corrected_ppd_mp": above_hull,
        "e_above_hull_source": grade,
    }
    return row | initial | relaxed | labels | ({"bandgap_pbe": 1.5} if index % 2 else {})


WBM_ROWS = [
    wbm_row(1, "published", -0.1),
    wbm_row(2, "published", 0.2),
    wbm_row(3, "same_composition", -0.2, ("Na", "Se")),
    wbm_row(4, "same_composition", 0.1, frac=[[0, 0, 0], [0, 0, 0.001]]),  # two atoms on one place: no graph
    wbm_row(5, "reconstructed", -0.3, ("Mg", "O")),
    wbm_row(6, "reconstructed", 0.0, ("Fe", "Cu")),
    wbm_row(7, "reconstructed", 0.3),
]


def write_rows(folder, file, rows):
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / file, "wt") as stream:
        stream.writelines(f"{json.dumps(row)}\n" for row in rows)


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """Made-up rows where the genuine ones would be."""
    folder = tmp_path / "shared"
    write_rows(folder, "wbm_pairs_dev/wbm_pairs_dev.jsonl.gz", WBM_ROWS)
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(["material_id", "alignn", "new_model"])
    for row in reversed(WBM_ROWS):  # another order than the rows have; the second model errs by 1 eV/atom
        energy = row["e_form_per_atom_mp2020_corrected"]
        lines.writerow([row["material_id"], energy, "" if row["material_id"] == "wbm-1-2" else energy + 1])
    with gzip.open(folder / row_files.PUBLISHED, "wt") as stream:
        stream.write(text.getvalue())
    oqmd = [crystal_row(f"oqmd-{i}", ["K", "Cl"], 3 + i / 10) | {ENERGY: -1.5, "band_gap": 0.0} for i in range(9)]
    failed = crystal_row("oqmd-9", ["K", "Cl"]) | {ENERGY: 25.4366, "band_gap": 0.0}
    for file in ("oqmd_perovskites_11265", "oqmd_full_heuslers", "oqmd_matsciml_200"):
        place = {"oqmd_full_heuslers": "oqmd_heuslers", "oqmd_matsciml_200": "oqmd_sample_200"}
        write_rows(folder, f"{place.get(file, 'oqmd_perovskites')}/{file}.jsonl.gz", [failed, *oqmd])
    other = [
        crystal_row(f"perov_{i}", [cation, "O"], 3 + i / 10) | {"e_form_eV_per_atom_castelli": i / 10}
        for i, cation in enumerate(("Li", "Na", "K", "Mg", "Ca", "Li", "Na", "K", "Mg", "Ca"))
    ]
    write_rows(folder, "castelli_perovskites/cmr_castelli_18928.jsonl.gz", other)
    monkeypatch.setattr(row_files, "SHARED", folder)
    return folder


def test_rows_are_read_graded_and_cut(shared):
    sets = row_files.load_sets({"oqmd_perovskites": 4})
    wbm = sets["wbm"]
    assert [wbm.of_grade(grade).sum() for grade in row_files.GRADES] == [4, 2, 2, 3, 7]
    assert np.isfinite(wbm.band_gap).sum() == 4
    assert wbm.crystals[0].lattice[0, 0] == pytest.approx(3.01)
    assert scores.kinds_of(wbm)[[0, 2, 4, 5]].tolist() == ["chlorides", "selenides", "oxides", scores.NO_ANION]
    perovskites = sets["oqmd_perovskites"]
    assert perovskites.available == 9  # without the failed calculation
    smallest = sorted((f"oqmd-{i}" for i in range(9)), key=order)[:4]
    assert perovskites.ids == [f"oqmd_perovskites:{name}" for name in sorted(smallest)]
    assert len(sets["oqmd_heuslers"]) == 9


def test_published_predictions_find_their_rows(shared):
    wbm = row_files.load_sets({})["wbm"]
    published = row_files.published_predictions(wbm)
    exact = scores.stability_by_grade(wbm, published["alignn"])["exact"]
    assert (exact["mae"], exact["f1"], exact["daf"]) == (0, 1, 2)
    worse = scores.stability_by_grade(wbm, published["new_model"])
    assert worse["exact"]["without_estimate"] == 1
    assert worse["all rows"]["bias"] == pytest.approx(1)
    assert worse["all rows"]["called_stable"] == 0


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble")
    made = make_outputs(folder)
    evaluate(made.members, destination=folder / "ensemble", **made.arguments())
    return f"{made.members}:{folder / 'ensemble'}", str(made.materials)


def test_the_command_puts_ensembles_side_by_side(shared, ensemble, tmp_path, monkeypatch, capsys):
    output = tmp_path / "figures.json"
    ensemble, materials = ensemble

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["hypothetical", "--materials", materials, *arguments])
        command.main()
        return capsys.readouterr().out

    printed = run("--ensemble", f"sample={ensemble}", "--rows", "5", "--output", str(output))
    found = json.loads(output.read_text())
    assert found["rows"]["oqmd_perovskites"] == {"judged": 5, "available": 9}
    figures = found["ensembles"]["sample"]["sets"]
    assert set(figures) == {*row_files.TITLES, "known"}
    assert figures["wbm"]["energy"]["rows"] == 7
    assert figures["wbm"]["energy"]["without_estimate"] == 1  # the cell without a graph
    assert figures["wbm"]["gap"]["rows"] == 4
    assert figures["known"]["energy"]["rows"] == 120
    assert 0.75 <= figures["known"]["trust"]["coverage_90"] <= 1
    assert "| **sample** | unrelaxed |" in printed
    # a second ensemble joins the first, as long as the rows are the same
    run("--ensemble", f"other={ensemble}", "--rows", "5", "--output", str(output))
    assert set(json.loads(output.read_text())["ensembles"]) == {"sample", "other"}
    run("--ensemble", f"other={ensemble}", "--rows", "4", "--output", str(output))
    assert set(json.loads(output.read_text())["ensembles"]) == {"other"}

    page = tmp_path / "page.md"
    page.write_text((command.ROOT / "docs" / "hypothetical.md").read_text())
    tables.write_page(found, page)
    assert "Not run yet" not in page.read_text()
    assert page.read_text().count("| OQMD, Heuslers | sample |") == 2  # energies, gaps
    once = page.read_text()
    tables.write_page(found, page)
    assert page.read_text() == once


def test_a_quick_look_writes_nothing(shared, ensemble, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results.json")
    ensemble, materials = ensemble
    asked = ["--materials", materials, "--ensemble", f"a={ensemble}", "--wbm-rows", "6"]
    monkeypatch.setattr(sys, "argv", ["hypothetical", *asked])
    command.main()
    assert "WBM" in capsys.readouterr().out
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("text", ["data/members:data/ensemble", "a=b", "=b:c", "a=:c"])
def test_an_ensemble_that_is_not_named_is_rejected(text, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hypothetical", "--ensemble", text])
    with pytest.raises(SystemExit):
        command.main()
    assert "NAME=MEMBERS:ENSEMBLE" in capsys.readouterr().err


@pytest.mark.skipif(
    not (row_files.SHARED / row_files.PUBLISHED).is_file(), reason="no genuine rows beside the repository"
)
def test_published_models_score_as_on_the_leaderboard():
    wbm = row_files.load_sets({})["wbm"]
    assert [wbm.of_grade(grade).sum() for grade in ("exact", "all rows")] == [707, 5928]
    published = row_files.published_predictions(wbm)
    for name, (f1, daf) in tables.LEADERBOARD.items():
        found = scores.stability_by_grade(wbm, published[name])["all rows"]
        assert found["f1_reweighted"] == pytest.approx(f1, abs=0.02), name
        assert found["daf_reweighted"] == pytest.approx(daf, rel=0.08), name
