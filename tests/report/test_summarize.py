"""Metrics, plot tables and cards, against the files they come from."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from imports import ROOT

from matscout.report.html_table import Scale, number_cell
from matscout.report.run import Run
from matscout.report.summarize import MOST_ROWS, learning_curves, summarize, write_csv
from matscout.report.wording import formula, number, substitution, window


@pytest.fixture(scope="module")
def summarized(fake_data, params, tmp_path_factory):
    folder = tmp_path_factory.mktemp("summary")
    summarize(fake_data, params=params, metrics=folder / "metrics", plots=folder / "plots")
    return folder


def read(folder, name):
    return json.loads((folder / "metrics" / f"{name}.json").read_text())


def test_curation_counts_every_row(summarized, fake_data):
    document = read(summarized, "curation")
    assert document["crystals"] == len(pd.read_parquet(fake_data / "curated" / "materials.parquet"))
    assert document["quarantined rows"] == 4
    assert document["quarantined rows by reason"] == {"atoms_too_close": 4}
    assert sum(d["crystals kept"] for d in document["databases"].values()) == document["crystals"]


def test_members_and_ensemble_hold_test_errors_with_units(summarized, params):
    members, ensemble = read(summarized, "members"), read(summarized, "ensemble")
    assert set(members) == set(params.members)
    assert members["cgcnn"]["band gap: test MAE (eV)"] == pytest.approx(0.4)
    assert ensemble["band_gap"]["MAE (eV)"] == pytest.approx(0.45)
    assert ensemble["formation_energy_per_atom"]["best member: MAE (eV/atom)"] == pytest.approx(0.121)


def test_every_metric_of_every_kind_of_row_stands_in_the_ensemble_s_metrics_with_its_interval(summarized):
    for target, unit in (("band_gap", "eV"), ("formation_energy_per_atom", "eV/atom")):
        kinds = {kind["rows"]: kind for kind in read(summarized, "ensemble")[target]["by kind of row"]}
        assert set(kinds) == {"all", "metal"}
        shown = kinds["metal"]["ensemble: value, 95 % bootstrap interval"]
        alone = kinds["metal"]["best member (cgcnn)"]
        named = {f"MAE ({unit})", f"RMSE ({unit})", "R2", "NLL (nats)", f"CRPS ({unit})", "ENCE", "miscalibration area"}
        named |= {f"coverage of {level} % intervals" for level in (50, 80, 90, 95)}
        named |= {f"mean width of {level} % intervals ({unit})" for level in (50, 80, 90, 95)}
        named |= {f"MAE of the most certain {share} % ({unit})" for share in (50, 80)}
        named |= {"Spearman of spread and error", "AUSE", "ROC-AUC of metal"}
        assert set(shown) == set(alone) == named
        assert shown["ENCE"] == pytest.approx([0.3, 0.27, 0.33])
        assert shown["R2"] == [None, None, None]
        assert alone[f"MAE ({unit})"][0] == pytest.approx(1.1 * shown[f"MAE ({unit})"][0])


def test_screening_counts(summarized, fake_data):
    ranked = pd.read_parquet(fake_data / "screening" / "ranked.parquet")
    document = read(summarized, "screening")
    assert document["candidates"] == len(ranked)
    assert document["meet the goal"] == ranked["goal_met"].sum()
    assert document["shortlist"]["candidates"] == 20


def test_metrics_are_small_and_hold_numbers_only(summarized):
    def leaves(tree):
        shown = [value for value in tree.values() if not isinstance(value, list)]  # DVC leaves lists out
        return [leaf for value in shown for leaf in (leaves(value) if isinstance(value, dict) else [value])]

    for name in ("curation", "members", "ensemble", "screening"):
        assert (summarized / "metrics" / f"{name}.json").stat().st_size < 20_000
        assert all(isinstance(leaf, int | float) for leaf in leaves(read(summarized, name)))


def test_plot_tables(summarized, params):
    plots = summarized / "plots"
    for target in params.targets:
        assert set(pd.read_csv(plots / f"learning_curves_{target}.csv")) == {"epoch", *params.members}
        assert {"actual", "predicted"} <= set(pd.read_csv(plots / f"parity_{target}.csv"))
        assert set(pd.read_csv(plots / f"confidence_{target}.csv")) == {"share_kept", "mae", "oracle"}
        assert set(pd.read_csv(plots / f"error_against_spread_{target}.csv")) == {"spread", "error", "ideal"}
        assert pd.read_csv(plots / f"interval_width_{target}.csv")["share"].sum() == pytest.approx(1)
    assert pd.read_csv(plots / "calibration.csv")["nominal"].between(0, 1).all()
    assert set(pd.read_csv(plots / "pareto.csv")["group"]) == {"front", "shortlist", "other"}
    assert all(len(pd.read_csv(file)) <= MOST_ROWS + 100 for file in plots.glob("*.csv"))


def test_every_plot_of_dvc_yaml_has_its_columns(summarized):
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    drawn = {}
    for plot in pipeline["plots"]:
        for name, plotted in plot.items():
            for path, wanted in plotted["y"].items():
                table = pd.read_csv(summarized / "plots" / Path(path).name)
                series = [wanted] if isinstance(wanted, str) else wanted
                assert {plotted["x"], *series} <= set(table), name
                drawn[Path(path).name] = name
    assert set(drawn) == {file.name for file in (summarized / "plots").glob("*.csv")}


def test_member_that_stopped_earlier_has_no_later_points(fake_data, params, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(fake_data, data)
    history = data / "members" / "cogn" / "history.parquet"
    pd.read_parquet(history).head(5).to_parquet(history)
    table = learning_curves(Run(data, params), "band_gap")
    assert table["cogn"].notna().sum() == 5
    write_csv(tmp_path / "curves.csv", table)
    assert ",nan," in (tmp_path / "curves.csv").read_text()
    assert ",," not in (tmp_path / "curves.csv").read_text()


def test_the_data_card_says_what_databases_could_not_give_and_what_their_labels_are(fake_data, params, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(fake_data, data)
    manifest = data / "raw" / "materials_project" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"skipped": {"announced and not given": 12}}))
    table = pd.read_parquet(data / "curated" / "materials.parquet")
    real = (table["source"] == "materials_project").to_numpy()
    place = np.arange(len(table))
    table["is_experimental"] = pd.array(np.where(real & (place < 30), place % 3 == 0, None), dtype="boolean")
    table["band_gap_functional"] = np.where(place < 5, "r2SCAN", np.where(place < 50, "PBE", None))
    table["ytterbium_potential"] = np.where(place < 7, "Yb_2", np.where(place < 9, "Yb_3", None))
    table.to_parquet(data / "curated" / "materials.parquet")
    summarize(data, params=params, metrics=tmp_path / "metrics", plots=tmp_path / "plots")
    card = (tmp_path / "metrics" / "data_card.md").read_text()
    assert "could not be downloaded: 12 announced and not given." in card
    assert "10 of 30 crystals have been made" in card
    assert "5 with r2SCAN." in card
    assert "**7 rows with ytterbium were computed with the pseudopotential Yb_2**" in card


def test_cards_state_the_runs_own_figures(summarized):
    model, data = ((summarized / "metrics" / f"{name}.md").read_text() for name in ("model_card", "data_card"))
    assert "| ensemble | ensemble | 0.450 | 0.405 to 0.495 |" in model
    assert "synthetic stand-ins" in data
    assert "| AFLOW | sample |" in data
    assert "@article{Fake0" in data


@pytest.mark.parametrize(("value", "text"), [(-0.0001, "0.00"), (-1.5, "−1.50"), (1234.5, "1,234.50"), (None, "–"), (float("nan"), "–")])  # fmt: skip
def test_numbers(value, text):
    assert number(value, 2) == text


def test_formulas_are_escaped_and_subscripted():
    assert formula("SrTiO3") == "SrTiO<sub>3</sub>"
    assert formula("<b>2") == "&lt;b&gt;<sub>2</sub>"


def test_substitutions_leave_out_what_stayed():
    assert substitution("Sr2+>Ba2+ O2->O2-") == "Sr<sup>2+</sup> → Ba<sup>2+</sup>"
    assert substitution("Cl->Br- Na+>K+") == "Cl<sup>−</sup> → Br<sup>−</sup>, Na<sup>+</sup> → K<sup>+</sup>"
    assert substitution("X>X") == "nothing"


@pytest.mark.parametrize(("bounds", "text"), [((1.0, 1.8), "1 to 1.8 eV"), ((3.1, None), "at least 3.1 eV"), ((None, 0.1), "at most 0.1 eV")])  # fmt: skip
def test_windows_in_words(bounds, text):
    assert window(bounds, "eV") == text


def test_interval_glyphs_stay_on_their_axis():
    scale = Scale(0, 2)
    assert [scale.at(value, 100) for value in (-5, 0, 1, 2, 9)] == [0, 0, 50, 100, 100]


def test_missing_numbers_sort_as_missing():
    assert number_cell(None).sort_value == ""
    assert number_cell(-1.25).sort_value == "-1.25"


def test_cards_cite_each_database_once_and_each_member_s_paper(summarized):
    data_card, model_card = ((summarized / "metrics" / f"{name}_card.md").read_text() for name in ("data", "model"))
    entries = re.findall(r"@\w+\{(\w+),", data_card)
    assert entries
    assert len(entries) == len(set(entries))
    for name, paper in (("cgcnn", "1710.10324"), ("alignn", "2106.01829"), ("composition", "1910.00617")):
        assert re.search(rf"^- {name}: .*{paper}", model_card, re.MULTILINE)
