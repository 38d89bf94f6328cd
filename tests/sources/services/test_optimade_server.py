"""OQMD's cells out of the real reference server of the OPTIMADE consortium, not one of ours."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from sample_rows import split
from services import start

from matscout.sources.snapshots.snapshot import read_snapshot

START_S = 60


def as_entry(row):
    """A row of the sample with what the specification asks of a structure."""
    attributes = row["attributes"]
    elements = sorted(set(attributes["species_at_sites"]))
    counts = [attributes["species_at_sites"].count(element) for element in elements]
    total = sum(counts)
    formula = "".join(f"{e}{n if n > 1 else ''}" for e, n in zip(elements, counts, strict=True))
    return {
        "type": "structures",
        "id": f"{int(row['id']):09d}",
        "attributes": attributes
        | {
            "last_modified": "2020-01-01T00:00:00Z",
            "elements": elements,
            "nelements": len(elements),
            "elements_ratios": [count / total for count in counts],
            "chemical_formula_descriptive": formula,
            "chemical_formula_reduced": formula,
            "chemical_formula_anonymous": "A",
            "dimension_types": [1, 1, 1],
            "nperiodic_dimensions": 3,
            "nsites": total,
            "species": [{"name": e, "chemical_symbols": [e], "concentration": [1.0]} for e in elements],
            "structure_features": [],
        },
    }


@pytest.fixture
def reference_server(tmp_path):
    """A function that serves entries and returns the base URL."""
    processes = []

    def serve(entries):
        path = tmp_path / "structures.jsonl"
        header = {"x-optimade": {"meta": {"api_version": "1.1.0"}}}
        path.write_text("".join(json.dumps(line) + "\n" for line in [header, *entries]))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        script = Path(__file__).with_name("optimade_process.py")
        environment = {**os.environ, "OPTIMADE_LOG_DIR": str(tmp_path / "logs")}
        output = (tmp_path / "server.log").open("w")
        processes.append(
            (
                subprocess.Popen(
                    [sys.executable, script, path, str(port)], env=environment, stdout=output, stderr=output
                ),
                output,
            )
        )
        wait_for(f"http://127.0.0.1:{port}/v1/info", tmp_path / "server.log")
        return f"http://127.0.0.1:{port}/v1/"

    yield serve
    for process, output in processes:
        process.terminate()
        process.wait()
        output.close()


def wait_for(url, log):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    pytest.fail(f"the reference server did not start: {log.read_text()[-2000:]}")


def test_cells_of_the_reference_server_join_their_labels(tmp_path, reference_server):
    with start("oqmd", tmp_path) as service:
        expected, _ = split(read_snapshot(service.acquire()))
        url = reference_server([as_entry(row) for row in service.cells.cells])
        records, rejections = split(read_snapshot(service.acquire(refresh=True, optimade_endpoint=url)))
    assert not rejections
    assert [str(record) for record in records] == [str(record) for record in expected]
