"""The page as bytes: the same twice, self-contained, small, safe, and clear about what is missing."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from matscout.errors import InputError
from matscout.files import sha256_of
from matscout.report.page import render, write_report
from matscout.report.run import Run
from matscout.report.sections import shortlist_section
from matscout.report.sections.candidates_section import relaxation
from matscout.report.wording import linked

REPOSITORY = Path(__file__).parents[2]
AGAIN = """
import sys
from pathlib import Path
from matscout.params import load_params
from matscout.report.page import write_report
from matscout.report.summarize import summarize
data, params, out = Path(sys.argv[1]), load_params(Path(sys.argv[2])), Path(sys.argv[3])
write_report(data, params=params, destination=out / "index.html")
summarize(data, params=params, metrics=out / "metrics", plots=out / "plots")
"""


def test_same_bytes_in_another_process_with_another_hash_seed(fake_data, tmp_path):
    for seed in ("1", "2"):
        command = [sys.executable, "-c", AGAIN, str(fake_data), str(REPOSITORY / "params.yaml"), str(tmp_path / seed)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    assert sha256_of(tmp_path / "1") == sha256_of(tmp_path / "2")


def test_is_one_file_under_15_mb_that_refers_to_nothing(page):
    text = page.read_text()
    assert len(text.encode()) < 15e6
    own = text.replace(text[text.index("<script>/**") : text.index("</script>", text.index("<script>/**"))], "")
    assert not re.findall(r'<(?!a )[^>]*(?:src|href)="(?!#|data:)[^"]*"', own)  # what a reader clicks on loads nothing
    assert "@import" not in own
    assert not re.findall(r"url\((?!data:)", own)


def test_remarks_say_what_matters(page):
    text = page.read_text()
    assert "no Au-Cl phase known" in text
    assert "known formula (mp-149)" in text
    assert "Compute these together, 6 candidates" in text
    assert "PBE band gap" in text


@pytest.mark.parametrize(
    ("remark", "said"),
    [
        ("", []),
        ("potential-labelled stand-ins for Ho-Te", ["stand-ins for Ho-Te"]),
        ("potential-labelled stand-ins for Cu-Pr, Cu-Si, Pr-Se", ["stand-ins for 3 pairs"]),
    ],
)
def test_a_hull_with_stand_ins_for_unknown_phases_says_so(remark, said):
    row = {"pareto_front": False, "goal_met": False, "stability_judged": True, "stability_remark": remark}
    assert [tag["text"] for tag in shortlist_section.tags(row)] == said


def test_properties_by_the_potential_stand_with_their_errors_or_the_reason_why_not(page):
    text = page.read_text()
    assert '1.30 <span class="sub">± 0.16</span>' in text
    assert '-5 % <span class="sub">± 10 %</span>' in text
    assert '<span class="sub note">no slab</span>' in text
    assert '1.30 ± 0.16 J/m² <span class="sub">(1 1 1), lowest</span>' in text
    assert "Candidates with surface energy: 21; without, for the reason given: 1." in text


def test_properties_that_the_goal_names_are_said_to_count_only_once_relaxed(fake_data, params):
    words = relaxation(Run(fake_data, params))["words"]
    assert "did not count" not in words
    screening = params.screening.model_copy(update={"goal": "battery"})
    words = relaxation(Run(fake_data, params.model_copy(update={"screening": screening})))["words"]
    told = "Before, average voltage and volume change without the ion did not count in the ranking; a candidate without a value ranks last."
    assert told in words


@pytest.mark.parametrize(
    ("material_id", "address"),
    [
        ("mp-149", "materialsproject.org/materials/mp-149"),
        ("oqmd-17", "oqmd.org/materials/entry/17"),
        ("aflow:0a1b", "aflow.org/material/?id=aflow:0a1b"),
        ("lab-1", None),
    ],
)
def test_a_parent_leads_to_its_page_at_its_database(material_id, address):
    link = linked(material_id)
    assert link == material_id if address is None else f'{address}"' in link


def test_marks_synthetic_databases(page):
    text = page.read_text()
    assert "synthetic stand-in" in text
    assert "They do not come from those databases" in text


def test_embedded_json_is_json(page):
    for key in ("figures", "scenes", "look", "twins"):
        match = re.search(rf'<script type="application/json" id="{key}">(.*?)</script>', page.read_text(), re.DOTALL)
        assert json.loads(match[1])


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        ("raw/aflow/manifest.json", "acquire"),
        ("curated/materials.parquet", "curate"),
        ("curated/summary.json", "curate"),
        ("splits/split.parquet", "split"),
        ("members/cogn/history.parquet", "train@cogn"),
        ("ensemble/metrics.json", "evaluate"),
        ("candidates/attrition.json", "propose"),
        ("screening/ranked.parquet", "screen"),
    ],
)
def test_missing_input_names_the_stage_that_makes_it(fake_data, params, tmp_path, file, stage):
    data = tmp_path / "data"
    shutil.copytree(fake_data, data)
    (data / file).unlink()
    with pytest.raises(InputError, match=stage) as caught:
        write_report(data, params=params, destination=tmp_path / "index.html")
    assert file.rsplit("/", 1)[-1] in str(caught.value)
    assert not (tmp_path / "index.html").exists()


def test_broken_json_names_the_stage(fake_data, params, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(fake_data, data)
    (data / "ensemble" / "metrics.json").write_text('{"targets":')
    with pytest.raises(InputError, match="evaluate"):
        render(Run(data, params))


def test_text_of_databases_cannot_become_markup(fake_data, params, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(fake_data, data)
    evil = "<script>alert(1)</script>"
    quarantine = pd.read_parquet(data / "curated" / "quarantine.parquet").assign(detail=evil, reason=evil)
    quarantine.to_parquet(data / "curated" / "quarantine.parquet")
    ranked = pd.read_parquet(data / "screening" / "ranked.parquet").assign(parent_id=evil, formula=evil)
    ranked.to_parquet(data / "screening" / "ranked.parquet")
    text = render(Run(data, params))
    assert evil not in text
    assert "&lt;script&gt;alert(1)" in text


def test_without_optional_pieces(fake_data, params, tmp_path):
    """No rejected row, no fitted offset, no hull, no synthetic row: the page says so or leaves the notice out."""
    data = tmp_path / "data"
    shutil.copytree(fake_data, data)
    quarantine = pd.read_parquet(data / "curated" / "quarantine.parquet").head(0)
    quarantine.to_parquet(data / "curated" / "quarantine.parquet")
    summary = json.loads((data / "curated" / "summary.json").read_text())
    summary["offsets"]["sources"].pop("aflow/PBE/none")
    for found in summary["rows"].values():
        found["synthetic"] = 0
    (data / "curated" / "summary.json").write_text(json.dumps(summary))
    materials = pd.read_parquet(data / "curated" / "materials.parquet").assign(synthetic=False)
    materials.to_parquet(data / "curated" / "materials.parquet")
    for path in (data / "screening" / "ranked.parquet", data / "relaxed" / "relaxed.parquet"):
        table = pd.read_parquet(path)
        hull = [name for name in table if name.startswith("energy_above_hull")]
        table.drop(columns=hull).to_parquet(path)
    text = render(Run(data, params))
    assert "Reference offsets between databases: not computed." in text
    assert "Energy above hull: not computed." in text
    assert "synthetic stand-in" not in text
    assert "Rejected rows" not in text


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (True, "mp-1 (made)"),
        (False, "mp-1 (only computed)"),
        (None, "mp-1"),
        (np.nan, "mp-1"),
        (np.True_, "mp-1 (made)"),
    ],
)
def test_the_shortlist_says_whether_a_parent_was_ever_made(made, shown):
    assert shortlist_section._parent({"parent_id": "mp-1", "parent_is_experimental": made}).striptags() == shown
    assert shortlist_section._parent({"parent_id": "mp-1"}).striptags() == "mp-1"
