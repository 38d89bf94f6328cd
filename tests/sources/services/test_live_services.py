"""The same checks against the real services: `pytest -m live tests/sources/services/test_live_services.py`, with network and MP_API_KEY.

Never in CI. Each asks for some tens of rows and stays within the default rate.
"""

import os

import pytest
from sample_rows import database, split

from matscout.sources.acquire import acquire
from matscout.sources.snapshots.snapshot import read_snapshot
from matscout.sources.snapshots.snapshot_files import read_manifest

pytestmark = pytest.mark.live
N_ROWS = 30
KEY = os.environ.get("MP_API_KEY")  # before the fixture of conftest replaces it


@pytest.fixture(params=["materials_project", "aflow", "oqmd"])
def live(request, tmp_path, monkeypatch):
    if "live" not in (request.config.getoption("-m") or ""):
        pytest.skip("run with -m live")
    if request.param == "materials_project":
        if not KEY:
            pytest.skip("MP_API_KEY is not set")
        monkeypatch.setenv("MP_API_KEY", KEY)
    changes = {"origin": "api", "query__limit": N_ROWS, "service__page_size": 10, "service__patience": 120.0}
    return request.param, database(request.param, **changes), tmp_path


def test_rows_of_the_real_service_parse(live):
    name, block, folder = live
    acquire(name, block, folder / "raw")
    records, rejections = split(read_snapshot(folder / "raw"))
    assert len(records) + len(rejections) == N_ROWS
    assert len(records) > N_ROWS // 2
    assert any(record.formation_energy_per_atom is not None for record in records)
    assert read_manifest(folder / "raw").n_rows == N_ROWS


def test_two_downloads_of_the_real_service_agree(live):
    name, block, folder = live
    acquire(name, block, folder / "once")
    acquire(name, block, folder / "twice", refresh=True)
    for path in (folder / "once").iterdir():
        assert (folder / "twice" / path.name).read_bytes() == path.read_bytes()


def test_the_query_narrows_the_real_service(live):
    name, block, folder = live
    query = block.query.model_copy(update={"elements": ("Na", "Cl", "K"), "n_atoms": (1, 8)})
    acquire(name, block.model_copy(update={"query": query}), folder / "raw")
    records, _ = split(read_snapshot(folder / "raw"))
    assert records
    assert all(set(r.crystal.species) <= {"Na", "Cl", "K"} and r.crystal.n_atoms <= 8 for r in records)
