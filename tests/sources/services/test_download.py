"""Downloads from replayed services: the real mp-api client and our own ones, whole, resumed, refreshed, bounded."""

import re

import pytest
from replay import Fault, MaterialsProject, status
from sample_rows import split

from matscout.errors import ParameterError, SourceError
from matscout.sources.snapshots.snapshot import read_snapshot
from matscout.sources.snapshots.snapshot_files import read_manifest

N_ROWS = 60


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_all_rows_arrive_once_and_parse(service):
    records, rejections = split(read_snapshot(service.acquire()))
    assert not rejections
    assert len({record.material_id for record in records}) == N_ROWS
    assert all(record.source == service.name for record in records)


def test_the_manifest_says_what_was_asked_and_of_whom(service):
    manifest = read_manifest(service.acquire())
    assert (manifest.origin, manifest.endpoint, manifest.n_rows) == ("api", service.database.endpoint, N_ROWS)
    assert manifest.query["limit"] == service.database.query.limit
    assert "@article" in manifest.citation
    version = {"materials_project": "2026.11.1"}.get(service.name, "not offered")
    assert manifest.database_version == version


def test_two_downloads_of_the_same_rows_give_the_same_bytes(service):
    first = bytes_of(service.acquire())
    assert bytes_of(service.acquire(refresh=True)) == first


def test_a_finished_download_is_not_asked_again_unless_refreshed(service):
    first = bytes_of(service.acquire())
    n_asked = len(service.server.asked)
    assert bytes_of(service.acquire()) == first
    assert len(service.server.asked) == n_asked
    service.acquire(refresh=True)
    assert len(service.server.asked) > n_asked


def test_a_broken_download_goes_on_where_it_stopped(service):
    undisturbed = bytes_of(service.acquire())
    whole = len(service.server.asked)
    # all requests from the one for the last page on fail
    last = {"materials_project": "_skip=40", "aflow": r"paging\(3,", "oqmd": "id>=[1-9]"}[service.name]
    service.server.faults = [Fault(status(400), times=99, match=last)]
    with pytest.raises(SourceError):
        service.acquire(refresh=True)
    service.server.faults = []
    del service.server.asked[:]
    assert bytes_of(service.acquire()) == undisturbed
    assert 0 < len(service.server.asked) < whole


@pytest.mark.parametrize("limit", [1, 20, 33])
def test_the_limit_is_kept_to_the_row(service, limit):
    records, _ = split(read_snapshot(service.acquire(query__limit=limit)))
    assert len(records) == limit


def test_the_query_reaches_the_service(service):
    records, _ = split(read_snapshot(service.acquire(query__n_atoms=[1, 6])))
    assert 0 < len(records) < N_ROWS
    assert max(record.crystal.n_atoms for record in records) <= 6


@pytest.mark.parametrize("name", ["materials_project", "aflow"])
def test_only_crystals_made_of_the_wanted_elements_arrive(start_service, name):
    service = start_service(name, n_rows=400)
    wanted = {"O", "Si", "Mg", "Al", "Li", "Na", "K", "Ca", "S"}
    records, _ = split(read_snapshot(service.acquire(query__elements=sorted(wanted))))
    assert records
    assert all(set(record.crystal.species) <= wanted for record in records)


def test_a_query_that_matches_nothing_says_so(service):
    with pytest.raises(SourceError, match="no row matches"):
        service.acquire(query__n_atoms=[199, 200])


def test_without_network_there_is_one_clear_error_before_any_work(service):
    changes = {"endpoint": "http://127.0.0.1:9/", "optimade_endpoint": "http://127.0.0.1:9/"}
    with pytest.raises(SourceError, match=rf"does not answer.*databases\.{service.name}\.origin to sample"):
        service.acquire(service.root / "raw", **changes)
    assert not (service.root / "raw").exists()


def test_every_request_names_the_project(service, monkeypatch):
    agents = []
    respond = service.server.respond
    monkeypatch.setattr(service.server, "respond", lambda r: agents.append((r.path, str(r.user_agent))) or respond(r))
    service.acquire()
    ours = [agent for path, agent in agents if path != "/heartbeat"]  # mp-api asks for it twice, by its own name
    assert ours
    assert all(agent.startswith("matscout/") for agent in ours)


def test_both_shapes_of_aflux_give_the_same_records(start_service):
    today = split(read_snapshot(start_service("aflow").acquire(refresh=True)))
    before = split(read_snapshot(start_service("aflow", shape="2018").acquire(refresh=True)))
    assert [str(record) for record in before[0]] == [str(record) for record in today[0]]


def test_a_page_too_large_for_aflux_is_put_together_from_parts(start_service):
    expected = bytes_of(start_service("aflow").acquire())
    service = start_service("aflow", largest=10)
    found = bytes_of(service.acquire())
    assert {k: v for k, v in found.items() if k != "manifest.json"} == {
        k: v for k, v in expected.items() if k != "manifest.json"
    }
    assert any("paging(1,10)" in path for path in service.server.asked)


def test_thermo_documents_give_the_energies_and_elasticity_survives(start_service):
    service = start_service("materials_project", n_rows=120)
    records, _ = split(read_snapshot(service.acquire()))
    assert sum(record.bulk_modulus is not None for record in records) > 0
    by_id = service.server.by_id
    assert all(
        record.formation_energy_per_atom == by_id[record.material_id].get("formation_energy_per_atom")
        for record in records
    )
    assert not any("_limit=1000" in path for path in service.server.asked)


# ------------------------------------------------------------------------- key and configuration
def test_without_a_key_the_error_names_variable_page_and_way_out(start_service, monkeypatch):
    service = start_service("materials_project")
    monkeypatch.delenv("MP_API_KEY")
    with pytest.raises(SourceError, match=r"MP_API_KEY is not set; get one at https://.*origin to sample"):
        service.acquire()
    assert not service.server.asked


def test_a_rejected_or_malformed_key_is_told_and_never_shown(start_service, monkeypatch, capfd):
    service = start_service("materials_project")
    for key, told in (("x" * 32, "was rejected"), ("short", "must be 32")):
        monkeypatch.setenv("MP_API_KEY", key)
        with pytest.raises(SourceError, match=told) as error:
            service.acquire()
        shown = str(error.value) + str(error.value.__cause__) + "".join(capfd.readouterr())
        assert key not in shown


def test_the_key_is_in_no_file_and_no_output(start_service, capfd):
    service = start_service("materials_project")
    service.server.faults = [Fault(status(500, MaterialsProject.key), match="summary")]
    service.acquire()
    for path in service.root.rglob("*"):
        if path.is_file():
            assert MaterialsProject.key.encode() not in path.read_bytes()
    assert MaterialsProject.key not in "".join(capfd.readouterr())


def test_another_database_version_starts_anew(start_service):
    service = start_service("materials_project")
    service.server.faults = [Fault(status(400), times=99, match="_skip=40")]
    with pytest.raises(SourceError):
        service.acquire()
    service.server.faults = []
    service.server.version = "2027.1.1"
    assert read_manifest(service.acquire()).database_version == "2027.1.1"
    assert sum(bool(re.search("_skip=0", path)) for path in service.server.asked) == 2


def test_the_origin_api_needs_a_known_name(service):
    from matscout.sources.acquire import acquire

    with pytest.raises(ParameterError, match="no client of that name; known are materials_project, aflow, oqmd"):
        acquire("nomad", service.database, service.root / "x")


def test_two_processes_do_not_download_the_same(service):
    import fcntl

    service.acquire()
    lock = next((service.root / ".downloads").rglob("lock"))
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SourceError, match="another process"):
            service.acquire()
