"""The registered ensemble, served on loopback, answers as `matscout predict` does."""

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import requests
import yaml
from tiny_clone import copy_compiled

pytestmark = pytest.mark.slow

PATIENCE_S = 300
BROKEN = "data_Si\n_cell_length_a 3.8\n"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(clone, uri, log):
    """Address of `mlflow models serve`, as the command that `matscout register` prints."""
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    environment = clone.environment | {"MLFLOW_TRACKING_URI": f"sqlite:///{clone.root / 'mlflow.db'}"}
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, cwd=clone.root, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        address, begun = f"http://127.0.0.1:{port}", time.monotonic()
        while not answers(address):
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() - begun < PATIENCE_S, log.read_text()[-3000:]
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def answers(address):
    try:
        return requests.get(f"{address}/ping", timeout=5).ok
    except requests.RequestException:  # a busy machine may not answer in time either
        return False


def post(address, texts):
    answer = requests.post(
        f"{address}/invocations",
        json={"dataframe_split": {"columns": ["cif"], "data": [[t] for t in texts]}},
        timeout=60,
    )
    assert answer.ok, answer.text
    return pd.DataFrame(answer.json()["predictions"])


def test_a_posted_cif_is_answered_as_on_the_command_line(copied, tmp_path):
    cifs = sorted((copied.root / "data/screening/cif").glob("*.cif"))
    copied.run("matscout", "predict", *map(str, cifs), "-o", str(tmp_path / "out.parquet"))
    expected = pd.read_parquet(tmp_path / "out.parquet")
    told = copied.run("matscout", "register", "--name", "ours").stdout
    assert "mlflow models serve -m models:/ours/1 --env-manager local" in told
    (card,) = copied.root.glob("mlartifacts/**/MLmodel")
    copy_compiled(copied.root / "src", card.parent / "code")  # the server would compile for most of a minute
    card = yaml.safe_load(card.read_text())
    assert json.loads(card["signature"]["inputs"])[0]["name"] == "cif"
    assert "band_gap_lo90" in card["signature"]["outputs"]
    assert card["saved_input_example_info"]["artifact_path"] == "input_example.json"
    with served(copied, "models:/ours/1", tmp_path / "server.log") as address:
        together = post(address, [cif.read_text() for cif in cifs])
        alone = post(address, [cifs[0].read_text()])
        mixed = post(address, [BROKEN, cifs[0].read_text()])
        refused = post(address, [BROKEN])
    figures = [c for c in expected if c.startswith(("band_gap", "formation_energy_per_atom"))]
    assert {"band_gap", "band_gap_lo90", "band_gap_hi90", "formation_energy_per_atom_hi90"} <= set(figures)
    for column in figures:
        same = together[column].astype(np.float64)  # null is how JSON says NaN
        np.testing.assert_array_equal(same, expected[column], err_msg=column)
        assert float(alone[column].astype(np.float64)[0]) == pytest.approx(expected[column][0], abs=1e-5, nan_ok=True)
    assert together["error"].isna().all()
    assert "unreadable_structure" in mixed["error"][0]
    assert mixed["band_gap"].isna().tolist() == [True, False]
    assert "unreadable_structure" in refused["error"][0]
