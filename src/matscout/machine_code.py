"""Compile during installation what the first run would otherwise compile: `python -m matscout.machine_code`.

numba keeps machine code beside the sources. Existing machine code that is up to date is kept.
"""

import numpy as np
import torch

from matscout.crystal import Crystal
from matscout.discovery.stability.lowest_mixture import lowest_mixture
from matscout.discovery.stability.relaxation_gain import relaxation_gain
from matscout.ensemble.training_distance import TrainingReference
from matscout.graphs.graph_store import GraphStore
from matscout.models.inference import embed
from matscout.models.model import build_model
from matscout.params import Graphs, Params, load_params

SETTINGS = Graphs(n_neighbors=12, asymmetric_unit=True, symprec=0.001)
ROCK_SALT = Crystal(
    5.64 * np.eye(3),
    ("Na",) * 4 + ("Cl",) * 4,
    np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) / 2,
)


def compile_now(params: Params) -> None:
    """Call the compiled functions as the stages do: graphs, hulls, distances, and each member, also in training."""
    store, _ = GraphStore.from_usable(["NaCl"], [ROCK_SALT], SETTINGS)
    relaxation_gain([ROCK_SALT], np.zeros(1))
    lowest_mixture(np.eye(2), np.zeros(2), np.full(2, 0.5))
    TrainingReference.fit(np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32))
    for member in params.members.values():
        model = build_model(member, params.targets)
        graph = {"n_neighbors": min(member.graph.n_neighbors, SETTINGS.n_neighbors), "cutoff": member.graph.cutoff}
        embed(model, store, np.array([0]), **graph)
        outputs = model.train()(store.batch(np.array([0]), **graph))
        torch.cat([output.flatten() for output in outputs.values()]).sum().backward()


if __name__ == "__main__":
    compile_now(load_params())
