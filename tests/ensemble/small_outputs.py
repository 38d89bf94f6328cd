"""A small repository of outputs: crystals, graphs, folds and two members that never trained."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from matscout.crystal import Crystal
from matscout.ensemble.evaluate import evaluate
from matscout.graphs.graph_store import build_store
from matscout.models.model import build_model
from matscout.models.saved_member import MemberCard, save_member
from matscout.params import Params, load_params

ROOT = Path(__file__).parents[2]
CATIONS, ANIONS = ("Li", "Na", "K", "Mg", "Ca", "Fe", "Cu", "Zn"), ("O", "S", "F", "Cl", "Se")
N_CRYSTALS = 240


@dataclass(frozen=True)
class Outputs:
    """Paths of a small pipeline's outputs."""

    params: Params
    materials: Path
    graphs: Path
    split: Path
    members: Path

    def arguments(self) -> dict:
        return {"params": self.params, "materials": self.materials, "graphs": self.graphs, "split": self.split}


def binary(cation: str, anion: str, edge: float) -> Crystal:
    """Caesium chloride structure."""
    return Crystal(edge * np.eye(3), (cation, anion), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))


def make_materials() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    rows = []
    for index in range(N_CRYSTALS):
        cation, anion, edge = rng.choice(CATIONS), rng.choice(ANIONS), rng.uniform(2.6, 4.5)
        gap = max(0.0, 2 * (edge - 3.3) + 0.3 * rng.normal())
        rows.append(
            {
                "material_id": f"mp-{index:04d}",
                "source": "materials_project",
                "synthetic": False,
                "duplicate_group": f"mp-{index - index % 2:04d}",
                **binary(str(cation), str(anion), edge).to_row(),
                "band_gap": gap if index % 29 else np.nan,
                "formation_energy_aligned": -edge + 0.1 * rng.normal(),
            }
        )
    return pd.DataFrame(rows)


def small_params() -> Params:
    params = load_params(ROOT / "params.yaml")
    small = {}
    for name in ("cgcnn", "composition"):
        member = params.members[name]
        encoder = member.encoder.model_copy(update={"hidden_dim": 8, "n_layers": 1})
        graph = member.graph.model_copy(update={"n_neighbors": 6 if name == "cgcnn" else 1, "cutoff": 5.0})
        training = member.training.model_copy(update={"start": None})
        small[name] = member.model_copy(update={"encoder": encoder, "graph": graph, "training": training})
    graphs = params.graphs.model_copy(update={"n_neighbors": 8})
    ensemble = params.ensemble.model_copy(update={"bootstrap": 5, "drop_factor": None})
    compute = params.compute.model_copy(update={"threads": 1})
    return params.model_copy(update={"members": small, "graphs": graphs, "ensemble": ensemble, "compute": compute})


def write_member(directory: Path, name: str, params: Params, materials: pd.DataFrame, **changes) -> None:
    """An untrained member with the statistics of its labels; `changes` replace entries of its card."""
    torch.manual_seed(len(name))
    model = build_model(params.members[name], params.targets)
    labels = {t: torch.from_numpy(materials[c.label].to_numpy(np.float32)) for t, c in params.targets.items()}
    model.head.fit_statistics(labels)
    member = params.members[name]
    card = {
        "name": name,
        "architecture": member.architecture,
        "encoder": member.encoder.model_dump(),
        "graph": member.graph.model_dump(),
        "graphs": params.graphs.model_dump(),
        "targets": {target: settings.model_dump() for target, settings in params.targets.items()},
        "elements": (*CATIONS, *ANIONS),
        "hashes": {},
    }
    save_member(directory / name, model, MemberCard(**(card | changes)))


def make_outputs(root: Path) -> Outputs:
    params, materials = small_params(), make_materials()
    made = Outputs(params, root / "materials.parquet", root / "graphs", root / "split.parquet", root / "members")
    materials.to_parquet(made.materials)
    fold = np.array(["train", "validation", "test", "test"])[np.arange(N_CRYSTALS) // 2 % 4]
    pd.DataFrame({"material_id": materials["material_id"], "fold": fold}).to_parquet(made.split)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(root))
        build_store(made.materials, made.graphs, params.graphs, workers=1)
    for name in params.members:
        write_member(made.members, name, params, materials)
    return made


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """The outputs, made once for the module that names this fixture: `outputs = small_outputs.outputs`."""
    return make_outputs(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def ensemble(outputs, tmp_path_factory):
    """Folder of the calibration of the members in `outputs`."""
    folder = tmp_path_factory.mktemp("evaluated") / "ensemble"
    evaluate(outputs.members, **outputs.arguments(), destination=folder)
    return folder
