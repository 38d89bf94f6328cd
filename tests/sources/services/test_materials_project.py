"""What today's Materials Project asks of its client: functionals, hulls, controlled batches, keys that are told too much."""

import logging

import pytest
from replay import thermo_of
from sample_rows import split

from matscout.sources.snapshots.snapshot import read_snapshot
from matscout.sources.snapshots.snapshot_files import read_manifest

N_ROWS = 60


@pytest.fixture
def service(start_service):
    return start_service("materials_project")


def documents(service):
    """The documents that have an energy, in the service's order; changes to them change what it answers."""
    return [d for d in service.server.documents if thermo_of(d)]


def computed_by(document, run_type, *, name="electronic_structure", task="mp-700001"):
    """The document with an origin whose calculation is of this run type."""
    document.setdefault("origins", []).append({"name": name, "task_id": task, "last_updated": "2025-01-01"})
    document.setdefault("run_types", {})[task] = run_type


def read(service, **changes):
    records, rejections = split(read_snapshot(service.acquire(refresh=True, **changes)))
    return {record.material_id: record for record in records}, {r.material_id: r for r in rejections}


# ------------------------------------------------------------------------- functional of each label
@pytest.mark.parametrize(
    ("run_type", "functional"),
    [("GGA", "PBE"), ("GGA+U", "PBE"), ("r2SCAN", "r2SCAN"), ("PBEsol", "PBEsol"), ("SCAN+U", "SCAN")],
)
def test_a_gap_of_another_functional_is_withheld_and_its_functional_stated(service, run_type, functional):
    document = documents(service)[3]
    document["band_gap"] = 1.5
    computed_by(document, run_type)
    record = read(service)[0][document["material_id"]]
    assert record.functional == "PBE"
    assert record.band_gap_functional == functional
    assert record.band_gap == (1.5 if functional == "PBE" else None)
    assert record.formation_energy_per_atom == document["formation_energy_per_atom"]


def test_the_gap_is_of_the_structure_s_calculation_where_none_is_named_for_it(service):
    document = documents(service)[3]
    document["band_gap"] = 1.5
    computed_by(document, "r2SCAN", name="structure", task="mp-aaaaaaft")  # the other spelling of mp-149
    document["run_types"] = {"mp-149": "r2SCAN", "mp-150": "GGA"}
    assert read(service)[0][document["material_id"]].band_gap_functional == "r2SCAN"


def test_a_material_that_only_r2scan_backs_is_refused_and_counted(service):
    document = documents(service)[3]
    document |= {"band_gap": 1.5, "thermo": None}
    computed_by(document, "r2SCAN")
    records, rejections = read(service)
    assert len(records) == N_ROWS - 1
    assert rejections[document["material_id"]].reason == "other_functional"
    assert "r2SCAN" in rejections[document["material_id"]].detail


def test_a_pbe_gap_without_a_pbe_energy_is_kept(service):
    document = documents(service)[3]
    document |= {"band_gap": 1.5, "thermo": None}
    computed_by(document, "GGA")
    record = read(service)[0][document["material_id"]]
    assert (record.band_gap, record.formation_energy_per_atom) == (1.5, None)


# ------------------------------------------------------------------------- the hull
def test_rows_are_chosen_by_the_hull_that_their_labels_have(service):
    low, high, unknown = documents(service)[:3]
    low |= {"energy_above_hull": 2.0, "thermo": {"energy_above_hull": 0.1}}  # too high on the mixed hull alone
    high |= {"energy_above_hull": 0.0, "thermo": {"energy_above_hull": 0.9}}
    unknown |= {"thermo": None}
    records, _ = read(service, query__energy_above_hull=0.5)
    expected = {
        d["material_id"]
        for d in service.server.documents
        if ((thermo_of(d) or {}).get("energy_above_hull") or 0) <= 0.5
    }
    assert set(records) == expected
    assert low["material_id"] in records
    assert unknown["material_id"] in records
    assert high["material_id"] not in records


def test_the_limit_counts_rows_that_the_hull_leaves(service):
    for document in documents(service)[::2]:
        document["thermo"] = {"energy_above_hull": 3.0}
    folder = service.acquire(query__energy_above_hull=0.5, query__limit=25, service__page_size=10)
    assert read_manifest(folder).n_rows == 25


# ------------------------------------------------------------------------- access
@pytest.mark.parametrize("ignores", [False, True])
def test_every_controlled_batch_of_the_heartbeat_is_left_out(service, ignores):
    """By the filter; and where the service does not heed it, row by row."""
    service.server.batch_ids = ["gnome_r2scan_statics", "another_batch"]
    service.server.ignores_batches = ignores
    for document, batch in zip(service.server.documents[5:8], [*service.server.batch_ids, "open"], strict=True):
        document["builder_meta"] = {"batch_id": batch, "license": "BY-C"}
    folder = service.acquire(refresh=True)
    records, _ = split(read_snapshot(folder))
    assert len(records) == N_ROWS - 2
    assert service.server.documents[7]["material_id"] in {record.material_id for record in records}
    assert read_manifest(folder).skipped == ({"not free for commercial use": 2} if ignores else {})
    asked = [path for path in service.server.asked if "summary" in path and "batch_id" in path]
    assert all("batch_id_neq_any=another_batch,gnome_r2scan_statics" in path for path in asked)


def test_a_row_with_a_non_commercial_licence_is_left_out(service):
    service.server.documents[5]["builder_meta"] = {"batch_id": None, "license": "BY-NC"}
    folder = service.acquire(refresh=True)
    assert read_manifest(folder).n_rows == N_ROWS - 1


def test_a_heartbeat_without_the_list_is_refused(service):
    from matscout.errors import SourceError

    service.server.batch_ids = None
    with pytest.raises(SourceError, match="states no access_controlled_batch_ids"):
        service.acquire(refresh=True)


@pytest.mark.parametrize("n_hidden", [1, 7, 25])
def test_a_key_that_is_told_more_rows_than_it_is_given_ends_with_the_difference(service, n_hidden, caplog):
    service.server.hidden = {d["material_id"] for d in service.server.documents[10 : 10 + n_hidden]}
    with caplog.at_level(logging.WARNING):
        folder = service.acquire(refresh=True)
    manifest = read_manifest(folder)
    assert manifest.n_rows == N_ROWS - n_hidden
    assert manifest.skipped == {"announced and not given": n_hidden}
    assert f"{n_hidden} announced and not given" in caplog.text
    assert read_manifest(service.acquire()).skipped == manifest.skipped  # out of the journal


# ------------------------------------------------------------------------- made or not, ytterbium
@pytest.mark.parametrize(("theoretical", "made"), [(False, True), (True, False), (None, None)])
def test_a_material_that_is_not_theoretical_was_made(service, theoretical, made):
    document = service.server.documents[3]
    document["theoretical"] = theoretical
    assert read(service)[0][document["material_id"]].is_experimental is made


def test_ytterbium_of_today_s_service_is_yb_3_and_that_of_the_sample_yb_2(service):
    from sample_rows import sample_records

    document = service.server.documents[3]
    for site in document["structure"]["sites"]:
        site["species"] = [{"element": "Yb", "occu": 1}]
    records, _ = read(service)
    assert records.pop(document["material_id"]).ytterbium_potential == "Yb_3"
    assert all(record.ytterbium_potential is None for record in records.values())
    ours = [r for r in sample_records("materials_project") if getattr(r, "ytterbium_potential", None)]
    assert {r.ytterbium_potential for r in ours} == {"Yb_2"}
    assert len(ours) == 79
