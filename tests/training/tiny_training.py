"""A training that takes a second: simple binary crystals whose labels follow a rule, and ways to kill it."""

import itertools
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from matscout import files
from matscout.crystal import ATOMIC_NUMBERS, Crystal
from matscout.graphs.graph_store import build_store
from matscout.params import Params, check_params
from matscout.resume.parts import Parts
from matscout.training import fitting, train_member
from matscout.training.checkpoints import CheckpointStore

ROOT = Path(__file__).parents[2]
EPOCHS = 4
MEMBER = "tiny"


def tiny_params(**changes) -> Params:
    """The repository's parameters with one small member; `model__lr=0.1` changes model.lr."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["graphs"]["n_neighbors"] = 6
    tree["model"] |= {"batch_size": 8, "lr": 0.01}
    tree["compute"] |= {"threads": 1}
    tree["members"] = {
        MEMBER: {
            "architecture": "cgcnn",
            "graph": {"n_neighbors": 6, "cutoff": 6.0},
            "encoder": {"hidden_dim": 8, "n_layers": 1, "n_radial": 6},
            "training": {"epochs": EPOCHS, "lr_scale": 1.0, "seed": 3},
        }
    }
    for path, value in changes.items():
        *parents, key = path.split("__")
        node = tree
        for parent in parents:
            node = node[parent]
        node[key] = value
    return check_params(tree)


def tiny_materials() -> pd.DataFrame:
    """72 binaries in the CsCl structure: real and synthetic rows, some labels missing."""
    anions, cations = (
        ("O", "S", "F", "Cl", "N", "Se"),
        ("Li", "Na", "K", "Mg", "Ca", "Sr", "Al", "Sc", "Ti", "V", "Fe", "Zn"),
    )
    rows = []
    for number, (cation, anion) in enumerate(itertools.product(cations, anions)):
        a = 2.5 + 0.02 * (ATOMIC_NUMBERS[cation] + ATOMIC_NUMBERS[anion])
        crystal = Crystal(np.eye(3) * a, (cation, anion), np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]))
        energy = -0.1 * ATOMIC_NUMBERS[anion] + 0.05 * ATOMIC_NUMBERS[cation]
        rows.append(
            {
                "material_id": f"t-{number:03d}",
                "synthetic": number % 12 == 11,
                "n_atoms": 2,
                **crystal.to_row(),
                "formation_energy_aligned": np.nan if number % 9 == 4 else energy,
                "formation_energy_noise": 0.02 if number % 3 else np.nan,
                "band_gap": np.nan if number % 10 == 7 else max(0.0, a - 3.0),
                "band_gap_noise": np.nan,
            }
        )
    return pd.DataFrame(rows)


def write_tiny_inputs(folder: Path) -> dict[str, Path]:
    """Curated table, split and graph store; the arguments of `train_member` that name them."""
    paths = {"materials": folder / "materials.parquet", "split": folder / "split.parquet", "graphs": folder / "graphs"}
    table = tiny_materials()
    files.write_parquet(paths["materials"], table)
    fold = np.array(["train", "train", "train", "validation", "test", "train", "unused"])[np.arange(len(table)) % 7]
    files.write_parquet(paths["split"], pd.DataFrame({"material_id": table["material_id"], "fold": fold}))
    build_store(paths["materials"], paths["graphs"], tiny_params().graphs, workers=1)
    return paths


def train(paths, destination, params=None, *, dvc_root, threads=1, tracker=train_member.UNTRACKED):
    os.environ["DVC_ROOT"] = str(dvc_root)
    torch.set_num_threads(threads)
    params = params or tiny_params()
    train_member.train_member(MEMBER, params=params, destination=destination, tracker=tracker, **paths)


def kill_self(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_call(owner, name, n, before=None):
    """Replace `owner.name` so that its n-th call runs `before`, if given, and then kills this process."""
    original, calls = getattr(owner, name), itertools.count(1)

    def replaced(*args, **kwargs):
        if next(calls) == n:
            if before:
                before(*args, **kwargs)
            kill_self()
        return original(*args, **kwargs)

    setattr(owner, name, replaced)


def half_a_checkpoint(parts, name, kind, content):
    (parts.folder / f".{name}.{kind}.{os.getpid()}.partial").write_bytes(content[: len(content) // 2])


save_bytes = Parts.save_bytes


MOMENTS = {
    "before the first step": lambda: kill_at_call(fitting.Trainer, "fit", 1),
    "in the middle of an epoch": lambda: kill_at_call(fitting.Trainer, "_step", 9),
    "while the first checkpoint is written": lambda: kill_at_call(Parts, "save_bytes", 1, half_a_checkpoint),
    "while the third checkpoint is written": lambda: kill_at_call(Parts, "save_bytes", 3, half_a_checkpoint),
    "when a checkpoint is written, before its predecessors go": lambda: kill_at_call(
        Parts, "save_bytes", 3, save_bytes
    ),
    "before an epoch is tracked": lambda: kill_at_call(fitting, "track", 2),
    "after the last epoch": lambda: kill_at_call(train_member, "_metrics", 1),
    "while the weights are written": lambda: kill_at_call(train_member, "write_parquet", 1),
    "when all is written but the checkpoints stay": lambda: kill_at_call(CheckpointStore, "delete", 1),
}


def train_and_die(moment, paths, destination, dvc_root, changes=None):
    """Body of a child process; `changes` as of `tiny_params`."""
    MOMENTS[moment]()
    train(paths, destination, tiny_params(**changes or {}), dvc_root=dvc_root)
