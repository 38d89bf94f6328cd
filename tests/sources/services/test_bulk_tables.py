"""The Materials Project's bulk tables, in both layouts, from a folder and from S3: the rows that REST gives."""

import gzip
import json
from collections import defaultdict

import pytest
from replay import elements_of, thermo_of
from sample_rows import split

from matscout.errors import ParameterError, SourceError
from matscout.sources.snapshots.snapshot import read_snapshot
from matscout.sources.snapshots.snapshot_files import read_manifest

N_ROWS = 60
RELEASE = "2025-09-25"


@pytest.fixture
def service(start_service):
    service = start_service("materials_project")
    for place, document in enumerate(service.server.documents):
        document["theoretical"] = place % 3 == 0
        document["origins"] = [{"name": "electronic_structure", "task_id": f"mp-{9000 + place}"}]
        document["run_types"] = {f"mp-{9000 + place}": "r2SCAN" if place % 5 == 0 else "GGA"}
        document["builder_meta"] = {"batch_id": None, "license": "BY-NC" if place == 7 else "BY-C"}
    return service


def collections_of(service):
    """The documents of each collection, with what both layouts divide them by."""
    tables = {"summary": [], "thermo": [], "materials": []}
    for place, document in enumerate(service.server.documents):
        common = {"material_id": document["material_id"], "nelements": len(elements_of(document)), "deprecated": False}
        plain = {key: value for key, value in document.items() if key not in {"run_types", "thermo", "_synthetic"}}
        tables["summary"].append(plain | common | {"nsites": len(document["structure"]["sites"]), "group": place % 3})
        tables["materials"].append(common | {"run_types": document["run_types"], "group": place % 3})
        if thermo := thermo_of(document):
            tables["thermo"].append(thermo | common | {"group": place % 2})  # another space group than the summary's
            mixed = {"thermo_type": "GGA_GGA+U_R2SCAN", "energy_above_hull": 9.0, "formation_energy_per_atom": 9.0}
            tables["thermo"].append(thermo | common | mixed | {"group": place % 2})
    return tables


def write_objects(service, root):
    """Gzip JSON lines by number of elements and space group."""
    for collection, documents in collections_of(service).items():
        parts = defaultdict(list)
        for document in documents:
            above = f"thermo_type={document['thermo_type']}/" if collection == "thermo" else ""
            parts[
                f"{collection}/{above}nelements={document['nelements']}/symmetry_number={document['group'] + 1}"
            ].append({key: value for key, value in document.items() if key != "group"})
        for name, rows in parts.items():
            path = root / f"{name}.jsonl.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
        (root / collection / "manifest.jsonl.gz").write_bytes(gzip.compress(b"{}\n"))
    return root


def write_delta(service, root):
    """Delta tables with the columns that emmet's own models give, the newest of two releases last."""
    import pyarrow as pa
    from deltalake import write_deltalake
    from emmet.core.arrow import arrowize
    from emmet.core.summary import SummaryDoc
    from emmet.core.thermo import ThermoDoc
    from emmet.core.vasp.material import MaterialsDoc

    models = {"summary": SummaryDoc, "thermo": ThermoDoc, "materials": MaterialsDoc}
    for collection, documents in collections_of(service).items():
        given = set().union(*(document.keys() for document in documents))
        fields = [field for field in pa.schema(arrowize(models[collection])) if field.name in given]
        schema = pa.schema([*fields, pa.field("version", pa.string())])
        rows = [pairs(document) | {"version": RELEASE} for document in documents]
        old = [row | {"version": "2024-01-01", "deprecated": False} for row in rows[:5]]
        table = pa.Table.from_pylist([*old, *rows], schema=schema)
        write_deltalake(str(root / collection), table, partition_by=["version"])
    return root


def pairs(document):
    """Arrow's maps are lists of pairs."""
    maps = ("run_types", "bulk_modulus", "shear_modulus")
    return {key: list(value.items()) if key in maps and value else value for key, value in document.items()}


WRITERS = {"objects": write_objects, "delta": write_delta}


@pytest.fixture
def s3(monkeypatch):
    """A bucket on loopback, and a function that uploads a folder into it."""
    moto = pytest.importorskip("moto.server")
    import boto3

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    client = boto3.client("s3", region_name="us-east-1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    client.create_bucket(Bucket="materialsproject-build", ACL="public-read")

    def upload(root, prefix):
        for path in root.rglob("*"):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(root).as_posix()}"
                client.put_object(Bucket="materialsproject-build", Key=key, Body=path.read_bytes(), ACL="public-read")
        return f"s3://materialsproject-build/{prefix}"

    yield upload
    server.stop()


def records_of(folder):
    records, rejections = split(read_snapshot(folder))
    return {r.material_id: str(r) for r in records}, {r.material_id: r.reason for r in rejections}


def without_place(found):
    """Records without the page and row that held them."""
    records, rejections = found
    return {key: text.split(", file=")[0] for key, text in records.items()}, rejections


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("limit", [None, 0.3])
def test_a_folder_of_bulk_tables_gives_the_rows_of_the_service(service, tmp_path, layout, limit):
    expected = without_place(records_of(service.acquire(query__energy_above_hull=limit)))
    root = WRITERS[layout](service, tmp_path / "collections" / RELEASE)
    folder = service.acquire(origin="bulk", endpoint=None, path=str(root), query__energy_above_hull=limit)
    assert without_place(records_of(folder)) == expected
    manifest = read_manifest(folder)
    assert (manifest.origin, manifest.database_version) == ("bulk", RELEASE)
    assert manifest.skipped == {"not free for commercial use": 1}
    assert "Jain2013" in manifest.citation


@pytest.mark.parametrize("layout", WRITERS)
def test_a_bucket_gives_what_a_folder_gives_without_a_key(service, tmp_path, layout, s3, monkeypatch):
    monkeypatch.delenv("MP_API_KEY")
    root = WRITERS[layout](service, tmp_path / "collections" / RELEASE)
    expected = records_of(service.acquire(origin="bulk", endpoint=None, path=str(root)))
    folder = service.acquire(origin="bulk", endpoint=s3(root, f"collections/{RELEASE}"))
    assert records_of(folder) == expected
    assert read_manifest(folder).database_version == RELEASE


@pytest.mark.parametrize("layout", WRITERS)
def test_a_broken_bulk_download_goes_on_where_it_stopped(service, tmp_path, layout, monkeypatch):
    from matscout.sources.services.materials_project_bulk import BulkClient

    root = WRITERS[layout](service, tmp_path / RELEASE)
    options = {"origin": "bulk", "endpoint": None, "path": str(root), "service__page_size": 7}
    whole = {path.name: path.read_bytes() for path in service.acquire(**options).iterdir()}
    fetch, n_fetched = BulkClient.fetch, 0

    def failing(client, cursor):
        nonlocal n_fetched
        n_fetched += 1
        if n_fetched == 4:
            raise SourceError("stopped")
        return fetch(client, cursor)

    monkeypatch.setattr(BulkClient, "fetch", failing)
    with pytest.raises(SourceError, match="stopped"):
        service.acquire(refresh=True, **options)
    folder = service.acquire(**options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert n_fetched < 3 + 2 * len(whole) + 20


def test_the_query_narrows_bulk_tables(service, tmp_path):
    root = write_objects(service, tmp_path / RELEASE)
    narrow = {"query__n_atoms": [2, 4], "query__n_elements": [1, 1], "query__limit": 5}
    records, _ = split(read_snapshot(service.acquire(origin="bulk", endpoint=None, path=str(root), **narrow)))
    assert len(records) == 5
    assert all(2 <= r.crystal.n_atoms <= 4 and len(set(r.crystal.species)) == 1 for r in records)


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"endpoint": "https://api.materialsproject.org"}, ParameterError, "s3://bucket/prefix"),
        ({"endpoint": None, "path": "/absent"}, SourceError, "is not a folder"),
        ({"endpoint": None, "path": "EMPTY"}, SourceError, "holds no table of summaries"),
    ],
)
def test_what_is_no_bulk_table_is_told(service, tmp_path, changes, error, told):
    changes = {key: str(tmp_path) if value == "EMPTY" else value for key, value in changes.items()}
    with pytest.raises(error, match=told):
        service.acquire(origin="bulk", **changes)


def test_a_bucket_that_is_not_there_is_told_at_once(service, s3):
    with pytest.raises(SourceError, match="NoSuchBucket"):
        service.acquire(origin="bulk", endpoint="s3://absent/collections")
