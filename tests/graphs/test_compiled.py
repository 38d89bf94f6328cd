"""Compiled code: nothing is compiled at import, and stale machine code is never used."""

import shutil
import subprocess
import sys

import pytest
from imports import ROOT

ONE = """
from compiled import compiled
from {}other import double
@compiled
def value(x):
    return double(x) + 1
"""
OTHER = """
from compiled import compiled
@compiled
def double(x):
    return {} * x
"""


def run(folder, code):
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("folder", ["", "below"])
def test_a_changed_callee_in_another_file_compiles_its_callers_anew(tmp_path, folder):
    other = tmp_path / folder / "other.py"
    other.parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / "src" / "matscout" / "graphs" / "compiled.py", tmp_path)
    (tmp_path / "one.py").write_text(ONE.format(f"{folder}." * bool(folder)))
    other.write_text(OTHER.format(2))
    ask = "import one; print(one.value(10), sum(one.value.stats.cache_hits.values()))"
    assert run(tmp_path, ask) == "21 0"
    assert run(tmp_path, ask) == "21 1"
    other.write_text(OTHER.format(3))
    assert run(tmp_path, ask) == "31 0"


def test_importing_compiles_nothing():
    code = "from matscout.graphs.store import pack_crystals as p, collate as c; print(p._pack.signatures, c._collate.signatures)"
    assert run(ROOT, code) == "[] []"


STAGES_CALL = """
import tempfile
from pathlib import Path
import numpy as np
from matscout.discovery.stability.lowest_mixture import lowest_mixture
from matscout.files import write_parquet
from matscout.graphs.store import collate, pack_crystals
from matscout.graphs.store.graph_store import GraphStore, build_store
from matscout.machine_code import ROCK_SALT, SETTINGS, compile_now
import pandas as pd

def signatures():
    return [f.signatures for f in (pack_crystals._pack, collate._collate, collate._count_edges, lowest_mixture)]

compile_now()
before = signatures()
with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    write_parquet(folder / "m.parquet", pd.DataFrame([{"material_id": "a", **ROCK_SALT.to_row()}]))
    build_store(folder / "m.parquet", folder / "graphs", SETTINGS, workers=1)
    GraphStore.open(folder / "graphs").batch(np.array([0]), n_neighbors=6, cutoff=6.0)
print(all(before), before == signatures())
"""


def test_what_is_compiled_during_installation_is_what_stages_call():
    assert run(ROOT, STAGES_CALL).endswith("True True")
