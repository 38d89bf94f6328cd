"""Compile once, while matscout is installed, what the first run would compile: `python -m matscout.machine_code`.

numba keeps machine code beside the sources. What is there already, and fits them, stays.
"""

import numpy as np

from matscout.crystal import Crystal
from matscout.discovery.stability.lowest_mixture import lowest_mixture
from matscout.graphs.store.graph_store import GraphStore
from matscout.params import Graphs

SETTINGS = Graphs(n_neighbors=12, asymmetric_unit=True, symprec=0.001)
ROCK_SALT = Crystal(
    5.64 * np.eye(3),
    ("Na",) * 4 + ("Cl",) * 4,
    np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) / 2,
)


def compile_now() -> None:
    """Call what is compiled as the stages call it."""
    store, _ = GraphStore.from_usable(["NaCl"], [ROCK_SALT], SETTINGS)
    store.edge_counts(n_neighbors=12, cutoff=8.0)
    store.batch([0], n_neighbors=12, cutoff=8.0)
    lowest_mixture(np.eye(2), np.zeros(2), np.full(2, 0.5))


if __name__ == "__main__":
    compile_now()
