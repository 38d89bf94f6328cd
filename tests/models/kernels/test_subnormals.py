"""No encoder makes a subnormal number on real cells: neither an operation forward or backward, nor an optimiser's step."""

import re
from itertools import islice
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from matscout.graphs.graph_store import GraphStore
from matscout.models.architectures import ENCODERS
from matscout.models.layers import distances_and_angles
from matscout.models.model import build_model
from matscout.sources.record import Record
from matscout.sources.snapshots.snapshot import read_snapshot

ROOT = Path(__file__).parents[3]
N_CELLS = 48
N_STEPS = 3


def count_subnormals(tensor: torch.Tensor) -> int:
    values = tensor.detach()
    return int(((values != 0) & (values.abs() < torch.finfo(values.dtype).smallest_normal)).sum())


class Subnormals(TorchDispatchMode):
    """Counts subnormal results of every operation by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        written = (*args, result) if operation._schema.is_mutable else (result,)
        if not {"empty", "detach"} & set(re.split(r"\W|_", str(operation))):  # memory not yet written
            for tensor in tree_leaves(written):
                if torch.is_tensor(tensor) and tensor.is_floating_point() and (n := count_subnormals(tensor)):
                    self.found[str(operation)] = self.found.get(str(operation), 0) + n
        return result


@pytest.fixture(scope="module")
def store(repository_params):
    records = (row for row in read_snapshot(ROOT / "data" / "sample" / "materials_project") if isinstance(row, Record))
    crystals = [record.crystal for record in islice(records, N_CELLS)]
    return GraphStore.from_crystals([str(n) for n in range(N_CELLS)], crystals, repository_params.graphs)


@pytest.fixture(autouse=True)
def not_flushed():
    """Where they are flushed none is seen and nothing proved; predicting, in another test, flushes from then on."""
    flushed = count_subnormals(torch.full((1,), 1e-30) * 1e-10) == 0
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(flushed)


def subnormals_of(architecture, member_of, repository_params, store) -> dict[str, int]:
    """Of predicting and of a few steps of training, by operation."""
    member = member_of(architecture)
    torch.manual_seed(5)
    model = build_model(member, repository_params.targets)
    batch = store.batch(np.arange(N_CELLS), **member.graph.model_dump())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.004)
    with Subnormals() as seen:
        with torch.no_grad():
            model.eval()(batch)
        model.train()
        for _ in range(N_STEPS):
            optimizer.zero_grad()
            sum((values - 1.0).abs().mean() for values in model(batch).values()).backward()
            optimizer.step()
    for parameter in model.parameters():
        for tensor in (parameter, parameter.grad, *optimizer.state[parameter].values()):
            if n := count_subnormals(tensor):
                seen.found["state"] = seen.found.get("state", 0) + n
    return seen.found


@pytest.mark.parametrize(
    ("architecture", "kernels"),
    [*((name, False) for name in sorted(ENCODERS)), ("cgcnn", True), ("cogn", True), ("megnet", True)],
)
def test_no_operation_gives_a_subnormal_number(architecture, kernels, member_of, repository_params, store, monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", not kernels)  # what happens within a kernel is not seen
    assert subnormals_of(architecture, member_of, repository_params, store) == {}


def test_gaussians_to_their_end_would_give_some(member_of, repository_params, store, monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    monkeypatch.setattr(distances_and_angles, "LARGEST_SQUARE", torch.inf)
    assert subnormals_of("cgcnn", member_of, repository_params, store)["aten.exp.default"] > 0
