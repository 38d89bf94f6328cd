"""Results that come back: compared, or rejected with the reason."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from matscout.crystal import Crystal
from matscout.curation.curate import curate
from matscout.discovery.handoff.check_feedback import check_feedback, compare_feedback
from matscout.discovery.handoff.collect import shipped_elements
from matscout.errors import InputError
from matscout.params import load_params
from matscout.sources.feedback_files import read_feedback, write_receipt
from matscout.sources.snapshots.snapshot import write_records

ROOT = Path(__file__).parents[3]
ENERGY = "formation_energy_per_atom"


@pytest.fixture
def ranked(candidates, tmp_path):
    table = candidates.head(20).copy()
    table[ENERGY], table["band_gap"] = np.linspace(-2, -0.5, 20), np.linspace(0, 3, 20)
    for target in (ENERGY, "band_gap"):
        table[f"{target}_std"] = 0.1
        table[f"{target}_lo90"], table[f"{target}_hi90"] = table[target] - 0.2, table[target] + 0.2
    table.to_parquet(tmp_path / "ranked.parquet")
    return table


@pytest.fixture
def give(ranked, tmp_path):
    """Write results for the first rows and compare them."""

    def run(change=lambda row: row, n=6, extra=""):
        folder = tmp_path / "feedback"
        folder.mkdir(exist_ok=True)
        lines = []
        for row in ranked.head(n).to_dict("records"):
            result = {name: np.asarray(row[name]).tolist() for name in ("lattice", "frac_coords")}
            result |= {"species": list(row["species"]), "material_id": row["candidate_id"], "functional": "PBE"}
            result |= {ENERGY: row[ENERGY] + 0.05, "band_gap": row["band_gap"] + 0.5}
            lines.append(json.dumps(change(result)))
        (folder / "round-1.jsonl").write_text("\n".join(lines) + extra)
        return check_feedback(folder, tmp_path / "ranked.parquet")

    return run


def test_errors_and_coverage_are_those_of_the_predictions(give):
    table, rejections = give()
    assert not rejections
    energies, gaps = (table[table["label"] == label] for label in (ENERGY, "band_gap"))
    np.testing.assert_allclose(energies["error"], 0.05)
    assert energies["in_90"].all()
    np.testing.assert_allclose(gaps["error"], 0.5)
    assert not gaps["in_90"].any()


def test_a_line_that_was_cut_off_is_told_and_the_others_count(give):
    table, rejections = give(extra='\n{"material_id": "ms-')
    assert len(table) == 12
    assert [rejection.reason for rejection in rejections] == ["invalid_json"]


@pytest.mark.parametrize(("factor", "unit"), [(1000, "meV"), (1 / 27.211386, "Ha"), (96.485, "kJ/mol")])
def test_wrong_units_are_recognised(give, factor, unit):
    with pytest.raises(InputError, match=f"fits the predictions in {unit} but not in eV/atom"):
        give(lambda row: row | {ENERGY: row[ENERGY] * factor})


def test_energies_of_whole_cells_are_recognised(give):
    with pytest.raises(InputError, match="in eV/cell"):
        give(lambda row: row | {ENERGY: row[ENERGY] * len(row["species"])})


def test_predictions_that_were_merely_bad_are_no_wrong_unit(give):
    table, _ = give(lambda row: row | {ENERGY: row[ENERGY] + 0.6})
    assert (table.loc[table["label"] == ENERGY, "error"] > 0.6).all()


def test_a_result_beyond_belief_is_refused_alone_and_accepted_by_name(give, ranked, tmp_path):
    """One total energy among results is no matter of the median: it is rejected whatever the others are."""
    first = ranked.iloc[0]
    structure = Crystal.from_row(first)
    total = sum(n * shipped_elements()[symbol] for symbol, n in structure.element_counts.items())
    total += structure.n_atoms * (first[ENERGY] - 0.1)
    readings = {
        "it looks like the total energy of the cell": total,
        "it looks like the total energy per atom": total / structure.n_atoms,
        "it looks like the formation energy of the cell": (first[ENERGY] + 0.02) * structure.n_atoms,
        "it would fit in meV": (first[ENERGY] + 0.05) * 1000,
        "it fits in no other known unit": first[ENERGY] + 1.234,
    }
    for words, value in readings.items():

        def change(row, value=value):
            return row | ({ENERGY: value} if row["material_id"] == first["candidate_id"] else {})

        with pytest.raises(InputError, match=f"{first['candidate_id']} {ENERGY}.*{words}"):
            give(change, n=2)
        assert not (tmp_path / "feedback" / "checked.json").exists()
    with pytest.raises(InputError, match="no result of that id"):
        check_feedback(tmp_path / "feedback", tmp_path / "ranked.parquet", accept=["ms-000000000000"])
    table, _ = check_feedback(tmp_path / "feedback", tmp_path / "ranked.parquet", accept=[first["candidate_id"]])
    assert table["error"].max() == pytest.approx(1.234)


def test_unknown_ids_and_mixed_up_ones_are_rejected(give, ranked):
    with pytest.raises(InputError, match=r"6 id\(s\) are not candidates"):
        give(lambda row: row | {"material_id": "ms-" + row["material_id"][:2:-1]})
    with pytest.raises(InputError, match=r"none of 6 line\(s\).*'mp-149' is not a candidate"):
        give(lambda row: row | {"material_id": "mp-149"})
    first = ranked["candidate_id"].iloc[0]
    with pytest.raises(InputError, match="ids are mixed up"):
        give(lambda row: row | {"material_id": first})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"units": {ENERGY: "kJ/mol"}}, "wrong_unit"),
        ({"functional": None}, "functional_missing"),
        ({"material_id": "mp-149"}, "unknown_id"),
        ({ENERGY: "low"}, "not_a_number"),
    ],
)
def test_a_line_that_says_too_little_or_something_else_is_left_out_with_the_reason(give, ranked, change, reason):
    last = ranked["candidate_id"].iloc[5]
    _, rejections = give(lambda row: row | (change if row["material_id"] == last else {}))
    assert [rejection.reason for rejection in rejections] == [reason]


def test_a_file_is_checked_once_and_again_when_it_changes(give, ranked, tmp_path):
    give()
    with pytest.raises(InputError, match="were checked before"):
        give()
    ranked.iloc[:0].to_parquet(tmp_path / "ranked.parquet")  # a later ranking knows other candidates
    with pytest.raises(InputError, match="are not candidates"):
        give(lambda row: row | {"band_gap": 1.0})
    folder = tmp_path / "feedback"
    with pytest.raises(InputError, match=r"round-1.jsonl was changed since it was checked: run `matscout feedback"):
        list(read_feedback(folder))


def test_nothing_is_noted_where_something_is_wrong(give, tmp_path):
    with pytest.raises(InputError, match="in meV"):
        give(lambda row: row | {ENERGY: row[ENERGY] * 1000})
    with pytest.raises(InputError, match=r"round-1.jsonl was not checked yet"):
        list(read_feedback(tmp_path / "feedback"))


def curated(tmp_path, records, results, name):
    """Curate some genuine rows with `results` as feedback; the table and the summary."""
    write_records(
        iter(records), tmp_path / "raw", source="materials_project", origin="file", endpoint="here", query=None,
        database_version=None, licence="", citation="", client="test",
    )  # fmt: skip
    folder = tmp_path / f"feedback of {name}"
    folder.mkdir()
    (folder / "README.md").write_text("not a result")
    if results:
        (folder / "round-1.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in results))
        write_receipt(folder, [folder / "round-1.jsonl"])
    settings = load_params(ROOT / "params.yaml").curation
    settings = settings.model_copy(update={"offsets": settings.offsets.model_copy(update={"min_pairs": 10})})
    curate([tmp_path / "raw"], settings, tmp_path / name, workers=1, feedback=folder)
    return pd.read_parquet(tmp_path / name / "materials.parquet"), json.loads(
        (tmp_path / name / "summary.json").read_text()
    )


def results_of(records, functional, shift):
    rows = [r.to_row() for r in records if r.formation_energy_per_atom is not None and r.band_gap is not None]
    return [
        {name: row[name] for name in ("lattice", "species", "frac_coords", "band_gap")}
        | {"material_id": f"ms-{number:012x}", ENERGY: row[ENERGY] + shift, "functional": functional}
        for number, row in enumerate(rows)
    ]


def test_results_are_a_source_with_an_offset_of_its_own(sample_records, tmp_path):
    records = sample_records[:30]
    results = results_of(records[:20], "r2SCAN", 0.1)
    table, summary = curated(tmp_path, records, results, "many")
    ours = table[table["source"] == "feedback"]
    assert len(ours) == len(results)
    np.testing.assert_allclose(ours["formation_energy_aligned"], ours[ENERGY] - 0.1, atol=0.01)
    assert summary["offsets"]["sources"]["feedback/r2SCAN"]["fitted"]
    few = [*results_of(records[:4], "r2SCAN", 0.1), *results_of(records[4:8], "PBE", 0.0)]
    few = [row | {"material_id": f"ms-{i:012x}"} for i, row in enumerate(few)]
    table, summary = curated(tmp_path, records, few, "few")
    aligned = table[table["source"] == "feedback"].groupby("functional")["formation_energy_aligned"].count()
    assert aligned["r2SCAN"] == 0  # too few pairs to place another functional on the scale
    assert aligned["PBE"] == sum(row["functional"] == "PBE" for row in few)
    assert summary["rejected"]["feedback"] == {}


def test_bad_results_are_quarantined_and_none_change_nothing(sample_records, tmp_path):
    records = sample_records[:12]
    bad = [row | {ENERGY: 40.0} for row in results_of(records[:1], "PBE", 0)]
    _, summary = curated(tmp_path, records, bad, "bad")
    assert summary["rejected"]["feedback"] == {"formation_energy_per_atom_out_of_range": 1}
    curated(tmp_path, records, [], "empty")
    curate([tmp_path / "raw"], load_params(ROOT / "params.yaml").curation, tmp_path / "without", workers=1)
    for name in ("materials.parquet", "quarantine.parquet", "duplicates.parquet"):
        assert (tmp_path / "empty" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()


def test_an_empty_folder_is_told(tmp_path, ranked):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="holds no"):
        check_feedback(tmp_path / "nothing", tmp_path / "ranked.parquet")
    assert len(pd.read_parquet(tmp_path / "ranked.parquet")) == 20


def test_an_empty_file_is_told(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match=r"empty\.jsonl in .* holds no line"):
        compare_feedback([tmp_path / "empty.jsonl"], tmp_path / "ranked.parquet", tmp_path)
