"""Any OPTIMADE provider as an origin: its labels by their names, resumed, polite, at the host that was asked."""

import logging

import pytest
from replay import Fault, Optimade, cut_off, edited, status
from sample_rows import database, sample_pages, split
from test_optimade_server import as_entry, reference_server  # noqa: F401 -- a fixture

from matscout.errors import ParameterError, SourceError
from matscout.sources.acquire import acquire
from matscout.sources.snapshots.snapshot import read_snapshot
from matscout.sources.snapshots.snapshot_files import read_manifest

N_ROWS = 50
LABELS = ("_alexandria_band_gap", "_alexandria_formation_energy_per_atom", "_alexandria_hull_distance")
FUNCTIONAL = "_alexandria_xc_functional"


def entries():
    cells = [row for page in sample_pages("oqmd") for row in page["structures"]["data"]][:N_ROWS]
    found = []
    for place, cell in enumerate(cells):
        entry = as_entry(cell)
        labels = dict(zip(LABELS, (0.1 * place, -0.02 * place, 0.01 * place), strict=True))
        functional = {FUNCTIONAL: "PBEsol" if place % 10 == 0 else "PBE"}
        found.append({**entry, "id": f"agm{place:09d}", "attributes": entry["attributes"] | labels | functional})
    return found


@pytest.fixture
def provider():
    with Optimade(entries(), [*entries()[0]["attributes"]]) as server:
        yield server


def block(url, **changes):
    common = {"origin": "optimade", "optimade_endpoint": url, "service__page_size": 10, "service__patience": 20.0}
    common |= {"service__requests_per_second": 1000.0, "query__energy_above_hull": None}
    return database("oqmd", **(common | changes))


def fetch(provider, folder, name="alexandria", **changes):
    acquire(name, block(provider.url, **changes), folder, refresh=changes.pop("refresh", False))
    return folder


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("pages-*")}


def test_every_row_arrives_with_its_labels_functional_and_terms(provider, tmp_path):
    records, rejections = split(read_snapshot(fetch(provider, tmp_path / "raw")))
    assert not rejections
    assert [r.material_id for r in records] == [f"agm{place:09d}" for place in range(N_ROWS)]
    for place, record in enumerate(records):
        found = (record.band_gap, record.formation_energy_per_atom, record.energy_above_hull)
        assert found == pytest.approx((0.1 * place, -0.02 * place, 0.01 * place))
        assert record.functional == ("PBEsol" if place % 10 == 0 else "PBE")
        assert record.source == "alexandria"
    manifest = read_manifest(tmp_path / "raw")
    assert (manifest.origin, manifest.licence) == ("optimade", "CC BY 4.0")
    assert "Schmidt2023" in manifest.citation


def test_names_of_labels_can_be_mapped_and_an_absent_one_is_told(provider, tmp_path):
    mapping = {"file__columns": {"band_gap": "_alexandria_hull_distance"}}
    records, _ = split(read_snapshot(fetch(provider, tmp_path / "raw", **mapping)))
    assert records[3].band_gap == pytest.approx(0.03)
    with pytest.raises(SourceError, match=r"no property _xyz_gap.*alexandria\.file\.columns"):
        fetch(provider, tmp_path / "other", file__columns={"band_gap": "_xyz_gap"})


@pytest.mark.parametrize("base", ["http://provider.invalid/", "https://127.0.0.1/"])
def test_links_are_followed_at_the_host_that_was_asked(provider, tmp_path, base):
    expected = content_of(fetch(provider, tmp_path / "raw"))
    provider.base = base
    acquire("other", block(provider.url), tmp_path / "again")
    assert content_of(tmp_path / "again") == expected


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("fault", [status(503), status(429, Retry_After="0.1"), cut_off])
def test_a_passing_fault_costs_a_try_and_no_row(provider, tmp_path, fault):
    expected = content_of(fetch(provider, tmp_path / "raw"))
    provider.faults = [Fault(fault, times=2, match="page_offset=20")]
    acquire("other", block(provider.url), tmp_path / "again")
    assert content_of(tmp_path / "again") == expected
    assert not provider.faults


def test_a_broken_download_goes_on_where_it_stopped(provider, tmp_path):
    expected = content_of(fetch(provider, tmp_path / "raw"))
    provider.faults = [Fault(status(400), times=99, match="page_offset=30")]
    with pytest.raises(SourceError):
        acquire("other", block(provider.url), tmp_path / "again")
    provider.faults, provider.asked = [], []
    acquire("other", block(provider.url), tmp_path / "again")
    assert content_of(tmp_path / "again") == expected
    assert not any("page_offset=20" in path for path in provider.asked)


def test_rows_that_are_announced_and_not_given_are_counted(provider, tmp_path, caplog):
    provider.faults = [Fault(edited(lambda a: {**a, "data": [], "links": {}}), times=99, match="page_offset=40")]
    with caplog.at_level(logging.WARNING):
        fetch(provider, tmp_path / "raw")
    manifest = read_manifest(tmp_path / "raw")
    assert (manifest.n_rows, manifest.skipped) == (40, {"announced and not given": 10})
    assert "10 announced and not given" in caplog.text


def test_a_provider_that_counts_nothing_is_read_to_its_end(provider, tmp_path):
    provider.counts = False
    assert read_manifest(fetch(provider, tmp_path / "raw")).n_rows == N_ROWS


@pytest.mark.parametrize("limit", [1, 10, 23])
def test_the_limit_and_the_elements_are_kept(provider, tmp_path, limit):
    assert read_manifest(fetch(provider, tmp_path / "raw", query__limit=limit)).n_rows == limit
    symbols = sorted(set(entries()[0]["attributes"]["species_at_sites"]))
    records, _ = split(read_snapshot(fetch(provider, tmp_path / "own", query__elements=symbols)))
    assert records
    assert all(set(record.crystal.species) <= set(symbols) for record in records)


def test_a_disordered_or_cell_less_entry_is_quarantined(provider, tmp_path):
    provider.entries[2]["attributes"]["cartesian_site_positions"] = None
    species = provider.entries[4]["attributes"]["species"]
    provider.entries[4]["attributes"]["species"] = [{**s, "concentration": [0.5]} for s in species]
    records, rejections = split(read_snapshot(fetch(provider, tmp_path / "raw")))
    assert len(records) == N_ROWS - 2
    assert {r.material_id for r in rejections} == {"agm000000002", "agm000000004"}


def test_without_a_base_url_the_parameter_is_named(tmp_path):
    with pytest.raises(ParameterError, match=r"databases\.lab\.optimade_endpoint is null"):
        acquire("lab", database("oqmd", origin="optimade", optimade_endpoint=None), tmp_path / "raw")


def test_the_consortium_s_reference_server_is_read_whole(tmp_path, reference_server):  # noqa: F811
    url = reference_server(entries()[:25])
    acquire("lab", block(url.removesuffix("v1/")), tmp_path / "raw")
    records, rejections = split(read_snapshot(tmp_path / "raw"))
    assert not rejections
    assert {r.material_id for r in records} == {f"agm{place:09d}" for place in range(25)}
