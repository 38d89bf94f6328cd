"""The stage `curate` on the bundled sample and on small snapshots: nothing is lost, nothing leaks, nothing wavers."""

import json
import math
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from crystals import perovskite, quartz, record, rewrite, rock_salt, zinc_blende
from pymatgen.analysis.structure_matcher import StructureMatcher

from matscout import columns
from matscout.crystal import Crystal
from matscout.crystal_checks import Rejection
from matscout.curation import curate as module_table
from matscout.curation import duplicate_search
from matscout.curation import row_checks as module_examine
from matscout.curation.curate import MATERIALS_SCHEMA, curate, curate_records, leave_out_other_gaps
from matscout.curation.explain_merge import why_merged
from matscout.curation.splits import make_split
from matscout.curation.structure_matching import reduce_crystal
from matscout.errors import InputError
from matscout.params import load_params
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot, write_records
from matscout.sources.snapshots.snapshot_files import read_manifest

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
PARAMS = load_params()
CURATION = PARAMS.curation


def run(records, destination, **options):
    curate_records(records, [], {}, CURATION, destination, workers=1, **options)
    return pd.read_parquet(destination / "materials.parquet").set_index(columns.MATERIAL_ID)


RECORDS = (
    record("mp-1", rock_salt(), formation_energy_per_atom=-2.0),
    record("mp-2", zinc_blende()),
    record("mp-3", perovskite()),
    record("mp-4", perovskite(shift=0.25, tetragonality=1.05)),
    record("mp-5", quartz()),
    record("oqmd-1", rewrite(rock_salt(5.66), times=(2, 1, 1), seed=1), source="oqmd", formation_energy_per_atom=-1.9),
    record("oqmd-2", rewrite(quartz(left_handed=True), seed=2), source="oqmd"),
    record("aflow:1", rewrite(rock_salt(5.62), seed=3), source="aflow", synthetic=True),
    record("mp-6", rock_salt(), band_gap=math.nan),
    record("oqmd-3", Crystal(np.diag([4.0, 4, 4]), ("Na", "Cl"), np.zeros((2, 3))), source="oqmd"),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    destination = tmp_path_factory.mktemp("curated")
    run(RECORDS, destination)
    return destination


def read(folder, name):
    return pd.read_parquet(folder / f"{name}.parquet")


def test_groups_representatives_and_quarantine(small):
    table = read(small, "materials").set_index(columns.MATERIAL_ID)
    groups = table[columns.DUPLICATE_GROUP]
    assert groups["mp-1"] == groups["oqmd-1"] == groups["aflow:1"] == "aflow:1"
    assert groups["mp-5"] == groups["oqmd-2"] == "mp-5"
    assert groups["mp-3"] != groups["mp-4"]
    assert set(table.index[table[columns.IS_REPRESENTATIVE]]) == {"mp-1", "mp-2", "mp-3", "mp-4", "mp-5"}
    quarantine = read(small, "quarantine").set_index("material_id")["reason"]
    assert quarantine.to_dict() == {"mp-6": "label_not_finite", "oqmd-3": "atoms_overlap"}


def test_columns_and_order_are_as_agreed(small):
    table = read(small, "materials")
    assert table.columns.tolist() == MATERIALS_SCHEMA.names
    pd.testing.assert_frame_equal(table, table.sort_values([columns.SOURCE, columns.MATERIAL_ID], ignore_index=True))
    assert Crystal.from_row(table.iloc[0].to_dict()).n_atoms == table.iloc[0][columns.N_ATOMS]


def test_labels_of_a_lab_s_own_become_columns_at_the_end_and_must_be_finite(tmp_path):
    rows = [
        record("lab-1", rock_salt(), source="lab", own_labels={"band_gap_exp": 8.5, "hardness": 2.0}),
        record("lab-2", zinc_blende(), source="lab", own_labels={"hardness": math.inf}),
        record("mp-1", quartz(), band_gap=6.0),
    ]
    table = run(rows, tmp_path).reset_index()
    assert table.columns.tolist() == [*MATERIALS_SCHEMA.names, "band_gap_exp", "hardness"]
    assert table.set_index(columns.MATERIAL_ID)["band_gap_exp"].to_dict() == {
        "lab-1": 8.5,
        "mp-1": pytest.approx(math.nan, nan_ok=True),
    }
    assert read(tmp_path, "quarantine")["detail"].str.contains("hardness = inf").tolist() == [True]


def test_edges_keep_their_scores(small):
    edges = read(small, "duplicates").set_index(["material_id_a", "material_id_b"])
    related = edges.loc[("mp-3", "mp-4")]
    assert not related["merged"]
    assert [related["space_group_a"], related["space_group_b"]] == [221, 99]
    merged = edges.loc[("mp-1", "oqmd-1")]
    assert merged["merged"]
    assert merged["rms"] == pytest.approx(0, abs=1e-6)
    assert merged["volume_difference"] == pytest.approx(2 * (5.66**3 - 5.64**3) / (5.66**3 + 5.64**3))


def test_what_databases_say_beside_labels_stays_with_the_row(tmp_path):
    said = [
        {"is_experimental": True, "band_gap": 1.0, "band_gap_functional": "PBE"},
        {"is_experimental": False, "band_gap_functional": "r2SCAN"},
        {"ytterbium_potential": "Yb_2"},
    ]
    cells = (rock_salt(), zinc_blende(), quartz())
    records = [record(f"mp-{n}", cell, **words) for n, (cell, words) in enumerate(zip(cells, said, strict=True))]
    table = run(records, tmp_path)
    for n, words in enumerate(said):
        for name in (columns.IS_EXPERIMENTAL, columns.BAND_GAP_FUNCTIONAL, columns.YTTERBIUM):
            value = table.loc[f"mp-{n}", name]
            assert (None if pd.isna(value) else value) == words.get(name)


def test_the_summary_counts_how_rows_were_calculated(tmp_path):
    records = [
        record("mp-1", rock_salt(), is_hubbard=True, pseudopotentials="PAW_PBE"),
        record("mp-2", zinc_blende(), is_hubbard=False, pseudopotentials="PAW_PBE"),
        record("mp-3", quartz(), is_hubbard=None, functional="r2SCAN"),
    ]
    table = run(records, tmp_path)
    assert table.loc["mp-1", columns.PSEUDOPOTENTIALS] == "PAW_PBE"
    assert json.loads((tmp_path / "summary.json").read_text())["calculations"]["materials_project"] == {
        "PBE+U, PAW_PBE": 1,
        "PBE, PAW_PBE": 1,
        "r2SCAN (U not stated), pseudopotentials not stated": 1,
    }


def test_the_summary_counts_every_row_once(small):
    summary = json.loads((small / "summary.json").read_text())
    assert summary["total"]["rows"] + summary["total"]["rejected"] == len(RECORDS)
    assert summary["rows"]["oqmd"] == {"read": 3, "rejected": 1, "kept": 2, "synthetic": 0}
    assert summary["rejected"]["oqmd"] == {"atoms_overlap": 1}
    assert summary["duplicates"]["edges_related_other_space_group"] == 1


def test_published_labels_are_never_changed(small):
    table = read(small, "materials").set_index(columns.MATERIAL_ID)
    for item in RECORDS[:8]:
        assert table.loc[item.material_id, columns.FORMATION_ENERGY] == item.formation_energy_per_atom
        np.testing.assert_array_equal(table.loc[item.material_id, columns.LATTICE], item.crystal.lattice.reshape(-1))


def test_the_order_of_rows_and_the_number_of_workers_change_no_byte(small, tmp_path):
    curate_records(RECORDS[::-1], [], {}, CURATION, tmp_path, workers=2)
    for name in ("materials.parquet", "quarantine.parquet", "duplicates.parquet", "summary.json"):
        assert (tmp_path / name).read_bytes() == (small / name).read_bytes(), name


# ------------------------------------------------------------------------------------------ several sources
def snapshot(folder, source, records):
    fields = {
        "origin": "file",
        "endpoint": None,
        "query": None,
        "database_version": None,
        "licence": "",
        "citation": "",
    }
    write_records(records, folder / source, source=source, client="test", **fields)
    return folder / source


def test_two_sources_may_use_the_same_ids(tmp_path, caplog):
    """40 rows of a lab under ids of the Materials Project: all 80 rows stand in the table."""
    crystals = [rock_salt(a=4 + 0.05 * n) for n in range(40)]
    databases = ("materials_project", "lab")
    folders = [
        snapshot(tmp_path, source, [record(f"mp-{n}", crystal, source=source) for n, crystal in enumerate(crystals)])
        for source in databases
    ]
    curate(folders, CURATION, tmp_path / "out", workers=1)
    table = read(tmp_path / "out", "materials")
    assert table[columns.SOURCE].value_counts().to_dict() == {"materials_project": 40, "lab": 40}
    ids = table.groupby(columns.SOURCE)[columns.MATERIAL_ID].agg(set)
    assert ids["materials_project"] == {f"mp-{n}" for n in range(40)}
    assert ids["lab"] == {f"lab:mp-{n}" for n in range(40)}
    assert not caplog.records


def test_a_source_that_loses_many_rows_is_told_with_reason_and_place(tmp_path, caplog):
    good = [record(f"mp-{n}", rock_salt(a=5 + 0.01 * n), file="own.csv", row=n) for n in range(17)]
    bad = [record(f"mp-{n}", band_gap=-1.0, file="own.csv", row=n) for n in range(17, 19)]
    curate([snapshot(tmp_path, "materials_project", [*good, *bad])], CURATION, tmp_path / "out", workers=1)
    (told,) = [item.message for item in caplog.records]
    assert "materials_project: 2 of 19 rows are rejected (2 band_gap_out_of_range)" in told
    assert "own.csv row 17" in told
    assert str(tmp_path / "out" / "quarantine.parquet") in told
    quarantine = read(tmp_path / "out", "quarantine")
    assert quarantine[["file", "row"]].to_numpy().tolist() == [["own.csv", 17], ["own.csv", 18]]


def test_why_merged_in_plain_words(small):
    text = why_merged("mp-1", small)
    assert "one of 3 rows of one material; mp-1 represents them" in text
    assert "oqmd-1 (oqmd)" in text
    assert "100 meV/atom" in text
    assert "aflow:1 (aflow (synthetic))" in text
    assert "related, not merged" in why_merged("mp-3", small)
    assert "space groups [99, 221] differ" in why_merged("mp-4", small)
    assert "mirror images" in why_merged("mp-5", small)
    assert "No other row" in why_merged("mp-2", small)


def test_why_merged_of_rows_that_are_not_there(small, tmp_path):
    with pytest.raises(InputError, match="rejected by curation: label_not_finite"):
        why_merged("mp-6", small)
    with pytest.raises(InputError, match="did you mean"):
        why_merged("mp-11", small)
    with pytest.raises(InputError, match="dvc repro curate"):
        why_merged("mp-1", tmp_path)


def test_a_pool_without_a_usable_row_is_rejected(tmp_path):
    with pytest.raises(InputError, match="label_not_finite"):
        run([record("mp-1", band_gap=math.nan)], tmp_path)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------ cache
@pytest.fixture
def compared(monkeypatch):
    """Contents that were compared, pair by pair."""
    seen = []
    genuine = duplicate_search.match_pairs

    def watched(cells, pairs, settings):
        seen.extend(pairs)
        return genuine(cells, pairs, settings)

    monkeypatch.setattr(duplicate_search, "match_pairs", watched)
    return seen


def test_adding_a_database_compares_only_what_is_new(small, tmp_path, compared):
    cache = tmp_path / "cache"
    first = [item for item in RECORDS if item.source == "materials_project"]
    run(first, tmp_path / "a", cache=cache)
    assert len(compared) == 1  # mp-3 with mp-4; mp-6, of mp-1's formula, is rejected
    compared.clear()
    run(RECORDS, tmp_path / "b", cache=cache)
    assert len(compared) == 4  # oqmd-1 and aflow:1 with mp-1 and each other; oqmd-2 with mp-5
    compared.clear()
    run(RECORDS, tmp_path / "c", cache=cache)
    assert not compared
    for name in ("materials.parquet", "duplicates.parquet", "summary.json"):
        expected = (small / name).read_bytes()
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes() == expected


def test_a_row_that_went_and_came_back_is_compared_with_those_that_came_meanwhile(small, tmp_path):
    cache = tmp_path / "cache"
    without = {name: [item for item in RECORDS if item.source != name] for name in ("oqmd", "materials_project")}
    run(without["oqmd"], tmp_path / "a", cache=cache)
    run(without["materials_project"], tmp_path / "b", cache=cache)
    run(RECORDS, tmp_path / "c", cache=cache)
    assert (tmp_path / "c" / "duplicates.parquet").read_bytes() == (small / "duplicates.parquet").read_bytes()


def test_a_run_stopped_before_its_comparisons_keeps_the_cells_it_reduced(small, tmp_path, monkeypatch):
    cache, reductions = tmp_path / "cache", []

    def stop(*_, **__):
        raise KeyboardInterrupt

    def watched(crystal, symprec):
        reductions.append(crystal)
        return reduce_crystal(crystal, symprec)

    monkeypatch.setattr(module_examine, "KEEP_CELLS", 2)
    monkeypatch.setattr(module_examine, "CHUNK_ROWS", 3)
    monkeypatch.setattr(module_examine, "reduce_crystal", watched)
    with monkeypatch.context() as stopping:
        stopping.setattr(module_table, "find_matches", stop)
        with pytest.raises(KeyboardInterrupt):
            run(RECORDS, tmp_path / "a", cache=cache)
    n_usable = len(reductions)
    reductions.clear()
    run(RECORDS, tmp_path / "b", cache=cache)
    assert n_usable == 8
    assert len(reductions) < 2  # of the last, unfinished part
    assert not list(cache.rglob("reduced-*"))  # part of the cache as a whole by now
    for name in ("materials.parquet", "duplicates.parquet", "summary.json"):
        assert (tmp_path / "b" / name).read_bytes() == (small / name).read_bytes()


def test_a_damaged_cache_is_made_again_and_says_so(small, tmp_path, compared, caplog):
    cache = tmp_path / "cache"
    run(RECORDS, tmp_path / "a", cache=cache)
    n_pairs = len(compared)
    (file,) = cache.glob("*/compared.*")
    file.write_bytes(file.read_bytes()[:-100])
    run(RECORDS, tmp_path / "b", cache=cache)
    assert len(compared) == 2 * n_pairs
    assert "cut off or changed on disk" in caplog.text
    assert (tmp_path / "b" / "duplicates.parquet").read_bytes() == (small / "duplicates.parquet").read_bytes()


# ------------------------------------------------------------------------------------------ the bundled sample
@cache
def sample_records(n_formulas):
    """The stand-ins' rows and the genuine rows of the same formulas, of every so many formulas."""
    records = [row for name in ("materials_project", "aflow", "oqmd") for row in read_snapshot(SAMPLE / name)]
    assert all(isinstance(row, (Record, Rejection)) for row in records)
    records = [row for row in records if isinstance(row, Record)]
    shared = sorted({row.crystal.reduced_formula for row in records if row.source != "materials_project"})
    chosen = set(shared[:: max(1, len(shared) // n_formulas)])
    return [row for row in records if row.crystal.reduced_formula in chosen]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    destination = tmp_path_factory.mktemp("sample")
    return run(sample_records(150), destination)


@pytest.mark.parametrize("strategy", ["random", "composition", "prototype", "time"])
def test_brute_force_finds_no_near_duplicate_of_a_held_out_row_in_training(sample, strategy):
    table = sample.reset_index()
    if strategy == "time":  # the sample states no years
        table[columns.YEAR] = np.random.default_rng(0).integers(2005, 2020, len(table))
    table[columns.SYNTHETIC] = False  # so that twins take part
    split = PARAMS.split.model_copy(update={"strategy": strategy, "held_out": "2012", "test": 0.3, "validation": 0.2})
    folds = make_split(table, split)[columns.FOLD].to_numpy()
    crystals = [Crystal.from_row(row) for row in table.to_dict("records")]
    matcher = StructureMatcher()
    n_compared = 0
    for i, j in combinations(range(len(table)), 2):
        used = {folds[i], folds[j]} - {columns.UNUSED}
        if len(used) < 2 or table[columns.FORMULA][i] != table[columns.FORMULA][j]:
            continue
        n_compared += 1
        assert not matcher.fit(crystals[i].to_structure(), crystals[j].to_structure(), symmetric=True), (i, j)
    assert n_compared > 0 or strategy == "composition"


def test_twins_of_the_sample_are_found(sample):
    groups = sample.groupby(columns.DUPLICATE_GROUP)[columns.SOURCE].nunique()
    assert (groups > 1).sum() >= 0.3 * (sample[columns.SOURCE] != "materials_project").sum()


def check_planted_offsets(folder):
    """That they lie inside the intervals; the reasons why rows were rejected."""
    summary = json.loads((folder / "summary.json").read_text())
    for source in ("aflow/PBE/none", "oqmd/PBE/none"):
        fit = summary["offsets"]["sources"][source]
        assert fit["planted"]["n_inside"] == fit["planted"]["n_elements"] == 6
        assert fit["planted"]["n_unshifted_inside_alone"] >= 0.9 * fit["planted"]["n_unshifted"]
        assert fit["held_out"]["mae_after"] < 0.35 * fit["held_out"]["mae_before"]
    assert summary["total"]["rejected"] < 10
    return set(summary["total"]["by_reason"])


@pytest.mark.slow
def test_planted_offsets_are_recovered_from_the_rows_that_have_a_twin(tmp_path):
    planted = {name: read_manifest(SAMPLE / name).planted for name in ("aflow", "oqmd")}
    curate_records(sample_records(10_000), [], planted, CURATION, tmp_path, workers=1)
    assert check_planted_offsets(tmp_path) <= {"formation_energy_per_atom_outlier"}


@pytest.mark.exhaustive
def test_planted_offsets_of_the_whole_sample_are_recovered(tmp_path):
    curate([SAMPLE / name for name in ("materials_project", "aflow", "oqmd")], CURATION, tmp_path, workers=2)
    assert check_planted_offsets(tmp_path) == {"formation_energy_per_atom_outlier"}


def test_gaps_of_another_functional_never_share_the_column(caplog):
    """HSE06 and measured gaps leave it with a warning; rows without a gap, and everything else, stay."""
    materials = pd.DataFrame(
        {
            "source": ["mp", "mp", "mp", "lab", "lab", "feedback", "feedback"],
            "functional": ["PBE", "PBE", "r2SCAN", "HSE06", "PBE", "experiment", "HSE06"],
            "band_gap": [1.0, 2.0, 2.5, 3.0, 1.5, 2.2, None],
            "formation_energy_per_atom": [-1.0] * 7,
        }
    )
    left_out = leave_out_other_gaps(materials, "mp")
    assert left_out == {"HSE06": 1, "experiment": 1, "r2SCAN": 1}
    assert materials["band_gap"].isna().tolist() == [False, False, True, True, False, True, True]
    assert materials["formation_energy_per_atom"].notna().all()
    assert "1 gaps of HSE06 are not used: the column holds gaps of PBE" in caplog.text
    assert leave_out_other_gaps(materials, "elsewhere") == {}
