"""The rehearsal: its servers answer as the clients expect, its watch measures and kills, its rows are as they must be."""

import json
import os
import socket
import sys
import threading
import time

import numpy as np
import psutil
import pytest
import yaml
from benchmarks.rehearsal import __main__ as rehearsal
from benchmarks.rehearsal import rows, services, watch
from benchmarks.shared_rows import SHARED
from imports import ROOT

from matscout import columns
from matscout.crystal import Crystal
from matscout.params import load_params
from matscout.sources.acquire import acquire
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot
from matscout.sources.snapshots.snapshot_files import read_manifest

N = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows of three services, by hand: the same rock salt with other lattice constants."""
    made = tmp_path_factory.mktemp("rows")
    for name, write in rows.WRITERS.items():
        crystals = [
            Crystal(np.eye(3) * (4.2 + 0.01 * place), ("Mg", "O"), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]))
            for place in range(N)
        ]
        labelled = (rows.LabelledCrystal(crystal, -3.0, 4.5) for crystal in crystals)
        write(made, labelled, np.random.default_rng(len(name)))
    return made


@pytest.fixture(scope="module")
def port(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    threading.Thread(target=services.serve, args=(folder, free), daemon=True).start()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", free)) == 0:
                return free
        time.sleep(0.05)
    pytest.fail("the server does not answer")


@pytest.mark.parametrize("name", list(rows.SHARES))
def test_the_product_downloads_what_the_servers_hold(name, folder, port, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MP_API_KEY", services.KEY)
    setting = rehearsal.Setting(230, 17, "laptop", paced=False, members=None, epochs=None, candidates=None)
    tree = setting.params((ROOT / "params.yaml").read_text(), port)
    for database in tree["databases"].values():
        database["query"]["limit"] = 1000
        database["service"]["page_size"] = 20
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(tree))
    acquire(name, load_params(file).databases[name], tmp_path / "raw")
    records = [item for item in read_snapshot(tmp_path / "raw") if isinstance(item, Record)]
    assert {record.formation_energy_per_atom for record in records} == {-3.0}
    assert {tuple(sorted(record.crystal.species)) for record in records} == {("Mg", "O")}
    assert len({record.material_id for record in records}) == len(records)
    if name == "aflow":  # all but the one that always fails
        assert len(records) == N - 1
        assert sum(read_manifest(tmp_path / "raw").skipped.values()) >= 1
    elif name == "oqmd":
        assert len(records) == N
    else:  # none of a controlled batch, none that r2SCAN alone backs
        assert [f"mp-{place + 1}" for place in free_places(folder)] == sorted(
            (record.material_id for record in records), key=lambda key: int(key[3:])
        )


def free_places(folder):
    summaries = (folder / "mp_summary.jsonl").read_text().splitlines()
    thermos = (folder / "mp_thermo.jsonl").read_text().splitlines()
    return [
        place
        for place, (summary, thermo) in enumerate(zip(summaries, thermos, strict=True))
        if services.BATCH not in summary and thermo != "null"
    ]


def test_lines_are_cut_where_they_end(tmp_path):
    (tmp_path / "lines").write_text('{"a":1}\n[2]\n"3"\n')
    lines = services.Lines(tmp_path / "lines")
    assert len(lines) == 3
    assert json.loads(lines.array(range(3))) == [{"a": 1}, [2], "3"]
    assert json.loads(lines.array([2, 0])) == ["3", {"a": 1}]


def test_the_rows_of_the_databases_are_in_the_shares_asked_for():
    assert rows.numbers_of_rows(230_000) == {"materials_project": 50_000, "aflow": 100_000, "oqmd": 80_000}
    assert sum(rows.numbers_of_rows(23).values()) == 23


def test_disk_counts_a_file_with_two_names_once(tmp_path):
    (tmp_path / "file").write_bytes(os.urandom(1_000_000))
    (tmp_path / "folder").mkdir()
    once = watch.disk_gb(tmp_path)
    (tmp_path / "folder" / "same").hardlink_to(tmp_path / "file")
    assert watch.disk_gb(tmp_path) == once
    (tmp_path / "folder" / "copy").write_bytes(os.urandom(1_000_000))
    assert watch.disk_gb(tmp_path) == pytest.approx(once + 0.001, abs=1e-4)


PIPELINE = """
import pathlib, subprocess, sys, time
for stage in ("one", "two", "three"):
    print(f"Running stage '{stage}':", flush=True)
    if stage == "two" and not pathlib.Path("resumed").exists():
        pathlib.Path("resumed").touch()
        subprocess.run([sys.executable, "-c", "import time; held = bytes([1]) * 60_000_000; time.sleep(600)"])
    time.sleep(0.2)
"""


def watched(folder, **kills):
    command = [sys.executable, "-c", PIPELINE]
    return watch.run_watched(command, folder, os.environ, kills=kills, budget_gb=1.0, log=folder / "log")


def test_a_run_is_killed_in_its_stage_with_all_its_processes_and_measured(tmp_path):
    killed = watched(tmp_path, two=3.0)
    assert killed.status == -9
    assert [(run.stage, run.killed) for run in killed.runs] == [("dvc", False), ("one", False), ("two", True)]
    assert killed.runs[-1].wall_s >= 3.0
    assert killed.runs[-1].peak_memory_gb > 0.06  # the child's array
    assert not [
        line for line in process_commands() if "held = bytes([1]) * 60_000_000" in line and " -c import time" in line
    ]
    again = watched(tmp_path)
    assert again.status == 0
    assert [run.stage for run in again.runs] == ["dvc", "one", "two", "three"]
    assert not any(run.killed for run in again.runs)


def process_commands():
    return [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]


def test_a_folder_above_its_budget_ends_the_run(tmp_path):
    (tmp_path / "large").write_bytes(os.urandom(2_000_000))
    command = [sys.executable, "-c", PIPELINE]
    ended = watch.run_watched(command, tmp_path, os.environ, kills={}, budget_gb=0.001, log=tmp_path / "log")
    assert ended.over_budget
    assert ended.status == -9


def test_a_stage_sums_its_runs_and_keeps_its_highest_peaks():
    runs = [
        watch.StageRun("curate", killed=True, wall_s=10, processor_s=8, peak_memory_gb=2, peak_disk_gb=1, load=3),
        watch.StageRun("curate", wall_s=5, processor_s=4, peak_memory_gb=1, peak_disk_gb=2, load=1),
    ]
    found = rehearsal._by_stage([{"runs": [run.__dict__]} for run in runs])["curate"]
    assert found == {
        "runs": 2,
        "kills": 1,
        "wall_s": 15,
        "processor_s": 12,
        "peak_memory_gb": 2,
        "peak_disk_gb": 2,
        "load": 3,
    }


def test_another_setting_needs_another_folder(tmp_path):
    first = rehearsal.Setting(3000, 17, "notebook", paced=False, members=None, epochs=1, candidates=None)
    rehearsal.Rehearsal(tmp_path, first).save()
    assert rehearsal.Rehearsal(tmp_path, first).state["killed"] == []
    with pytest.raises(SystemExit, match="holds a rehearsal"):
        rehearsal.Rehearsal(tmp_path, rehearsal.Setting(6000, 17, "notebook", False, None, 1, None))


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is absent")
def test_made_rows_are_the_same_for_the_same_seed_and_labelled(tmp_path):
    kinds = rows.make_rows(tmp_path / "first", 46, seed=3)
    assert sum(kinds.values()) == 46
    rows.make_rows(tmp_path / "second", 46, seed=3)
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()
    labels = [json.loads(line) for line in (tmp_path / "first" / "oqmd_labels.jsonl").read_text().splitlines()]
    cells = [json.loads(line) for line in (tmp_path / "first" / "oqmd_cells.jsonl").read_text().splitlines()]
    assert [label["natoms"] for label in labels] == [len(cell["attributes"]["species_at_sites"]) for cell in cells]
    assert all(abs(label["delta_e"]) <= 5 and label[columns.BAND_GAP] >= 0 for label in labels)
    assert len({label["formationenergy_id"] for label in labels}) == len(labels)
