"""Compiled code: nothing is compiled at import, and stale machine code is never used."""

import shutil
import subprocess
import sys

import pytest
from imports import ROOT
from tiny_clone import Clone, copy_clone

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


PLAIN = """
import numba
@numba.njit(cache=True)
def value(x):
    return x + 2
"""


def test_a_copy_of_a_clone_has_the_machine_code(tmp_path):
    """Of both kinds: in a folder named after the sources' content and path, and where numba keeps it by itself."""
    sources = tmp_path / "one" / "src"
    sources.mkdir(parents=True)
    shutil.copy(ROOT / "src" / "matscout" / "graphs" / "compiled.py", sources)
    (sources / "one.py").write_text(ONE.format(""))
    (sources / "other.py").write_text(OTHER.format(2))
    (sources / "plain.py").write_text(PLAIN)
    ask = "import one, plain; print([(f(10), sum(f.stats.cache_hits.values())) for f in (one.value, plain.value)])"
    assert run(sources, ask) == "[(21, 0), (12, 0)]"
    assert run(copy_clone(Clone(tmp_path / "one"), tmp_path / "a copy").root / "src", ask) == "[(21, 1), (12, 1)]"


IN_THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from compiled import SETTINGS, compiled
sys.setswitchinterval(1e-6)
def one(number):
    @compiled
    def add(x):
        return x + number
    return add(1)
with ThreadPoolExecutor(8) as pool:
    assert list(pool.map(one, range(40))) == list(range(1, 41))
assert not SETTINGS.CACHE_DIR
"""


def test_modules_that_are_imported_in_several_threads_leave_nothing_in_the_working_folder(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    shutil.copy(ROOT / "src" / "matscout" / "graphs" / "compiled.py", there)
    (there / "in_threads.py").write_text(IN_THREADS)
    subprocess.run([sys.executable, there / "in_threads.py"], cwd=here, check=True)
    assert list(here.iterdir()) == []


def test_importing_compiles_nothing():
    code = (
        "from matscout.graphs import crystal_graph as c, pack_crystals as p; "
        "print(p._pack.signatures, c._collate.signatures)"
    )
    assert run(ROOT, code) == "[] []"


STAGES_CALL = """
import sys
import tempfile
from pathlib import Path
import numpy as np
import pandas as pd
import torch
from matscout.crystal import Crystal
from matscout.discovery.stability.lowest_mixture import lowest_mixture
from matscout.ensemble.training_distance import TrainingReference
from matscout.files import write_parquet
from matscout.graphs import crystal_graph, pack_crystals
from matscout.graphs.graph_store import GraphStore, build_store
from matscout.machine_code import SETTINGS, compile_now
from matscout.models.inference import embed
from matscout.models.model import build_model
from matscout.params import load_params

def signatures():
    modules = [module for name, module in sys.modules.items() if name.startswith("matscout.")]
    functions = {value for module in modules for value in vars(module).values() if hasattr(value, "py_func")}
    return {(f.__module__, f.__name__): list(f.signatures) for f in functions}

params = load_params()
compile_now(params)
before = signatures()
caesium_chloride = Crystal(4.1 * np.eye(3), ("Cs", "Cl"), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    write_parquet(folder / "m.parquet", pd.DataFrame([{"material_id": "a", **caesium_chloride.to_row()}]))
    build_store(folder / "m.parquet", folder / "graphs", SETTINGS, workers=1)
    store = GraphStore.open(folder / "graphs")
    for member in params.members.values():
        model = build_model(member, params.targets)
        graph = {"n_neighbors": min(member.graph.n_neighbors, 12), "cutoff": member.graph.cutoff}
        embeddings = embed(model, store, np.array([0]), **graph)
        outputs = model.train()(store.batch(np.array([0]), **graph))
        torch.cat([output.flatten() for output in outputs.values()]).sum().backward()
        reference = TrainingReference.fit(np.repeat(embeddings, 8, axis=0), embeddings)
        reference.save(folder / "reference.npz")
        TrainingReference.load(folder / "reference.npz").distance(embeddings)
called = [pack_crystals._pack, crystal_graph._collate, crystal_graph._count_edges, lowest_mixture]
print(all(f.signatures for f in called), [name for name, found in signatures().items() if found != before.get(name)])
"""


def test_what_is_compiled_during_installation_is_what_stages_call():
    assert run(ROOT, STAGES_CALL).endswith("True []")
