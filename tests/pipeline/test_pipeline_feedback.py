"""Results that come back: collected, checked, then trained on, and only what depends on them runs again."""

import json

import numpy as np
import pandas as pd
import pytest
from fake_vasp import settings_of, total_energy, write_vasprun

pytestmark = pytest.mark.slow

FOLDER = "data/feedback"
N_CALCULATED = 6
MEMBER = "composition"


@pytest.fixture
def results(tiny):
    """Results of the two best candidates, as they lie in the folder; gone afterwards."""
    ranked = pd.read_parquet(tiny.root / "data/screening/ranked.parquet").head(2)
    lines = [
        {
            "material_id": row["candidate_id"],
            "functional": "PBE",
            "species": list(row["species"]),
            **{name: np.asarray(row[name]).tolist() for name in ("lattice", "frac_coords")},
            **{name: float(row[name]) + 0.01 for name in ("formation_energy_per_atom", "band_gap")},
        }
        for row in ranked.to_dict("records")
    ]
    path = tiny.root / FOLDER / "round-1.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    yield path, lines
    for name in ("round-1.jsonl", "checked.json"):
        (tiny.root / FOLDER / name).unlink(missing_ok=True)
    tiny.run("git", "checkout", "-q", "--", ".")
    tiny.dvc("checkout")


def test_results_that_nobody_checked_stop_the_run(tiny, results):
    done = tiny.dvc("repro", "curate", check=False)
    assert done.returncode != 0
    assert "round-1.jsonl was not checked yet: run `matscout feedback" in done.stdout + done.stderr


def test_wrong_results_are_refused_and_not_noted(tiny, results):
    path, lines = results
    path.write_text("".join(f"{json.dumps(line | {'material_id': 'ms-000000000000'})}\n" for line in lines))
    done = tiny.run("matscout", "feedback", check=False)
    assert done.returncode == 1
    assert "are not candidates of this ranking" in done.stderr
    assert not (tiny.root / FOLDER / "checked.json").exists()


def test_checked_results_reach_the_training_and_nothing_is_acquired_again(tiny, results):
    _, lines = results
    assert lines[0]["material_id"] in tiny.run("matscout", "feedback").stdout
    output = tiny.dvc("repro", "split", "featurize").stdout
    first, *others = tiny.stages_run(output)
    assert (first, sorted(others)) == ("curate", ["featurize", "hypothetical", "label", "split"])
    materials = pd.read_parquet(tiny.root / "data/curated/materials.parquet").set_index("material_id")
    came_back = materials[materials["source"] == "feedback"]
    assert sorted(came_back.index) == sorted(line["material_id"] for line in lines)
    assert came_back["formation_energy_aligned"].notna().all()  # PBE results need no offset
    split = pd.read_parquet(tiny.root / "data/splits/split.parquet").set_index("material_id")
    assert set(came_back.index) <= set(split.index)
    waiting = tiny.changed()
    assert {"propose", *(f"train@{name}" for name in ("cgcnn", "composition"))} <= waiting
    assert not any(name.startswith("acquire") for name in waiting)


@pytest.fixture
def handoff(copied):
    """An exported hand-off whose candidates a VASP calculated; the labels that it should give, by candidate."""
    copied.run("matscout", "export", "--top", str(N_CALCULATED), "-o", "handoff")
    labels = {}
    for number, card in enumerate(sorted(copied.root.glob("handoff/*/card.json"))):
        candidate = json.loads(card.read_text())["candidate"]
        incar, potentials, structure = settings_of(card.parent)
        formation = candidate["formation_energy_per_atom"] + 0.03
        gap = round(candidate["band_gap"] + 0.1, 3)
        labels[candidate["candidate_id"]] = formation, gap
        path = card.parent / ("vasprun.xml.gz" if number % 2 else "vasprun.xml")
        write_vasprun(path, structure, total_energy(structure, formation), incar, potentials, gap=gap)
    return labels


def test_calculated_candidates_are_collected_checked_curated_and_trained_on(copied, handoff):
    """The whole way round, with files in VASP's own format: another label in training, another member."""
    before = (copied.root / "data/members" / MEMBER / "weights.safetensors").read_bytes()
    told = copied.run("matscout", "collect", "handoff").stdout
    assert f"{FOLDER}/handoff.jsonl" in told
    copied.run("matscout", "feedback")
    ran = copied.stages_run(copied.dvc("repro", f"train@{MEMBER}").stdout)
    assert {"curate", "split", "featurize", f"train@{MEMBER}"} <= set(ran)
    assert not any(name.startswith("acquire") for name in ran)

    fold = pd.read_parquet(copied.root / "data/training/split.parquet").set_index("material_id")["fold"]
    rows = pd.read_parquet(copied.root / "data/training/materials.parquet").set_index("material_id")
    trained = sorted(set(handoff) & set(fold.index[fold == "train"]))
    assert trained
    for name in trained:
        formation, gap = handoff[name]
        assert rows.loc[name, "formation_energy_aligned"] == pytest.approx(formation, abs=1e-4)
        assert rows.loc[name, "band_gap"] == pytest.approx(gap, abs=1e-4)
        assert rows.loc[name, "source"] == "feedback"
    assert (copied.root / "data/members" / MEMBER / "weights.safetensors").read_bytes() != before
