"""Stage `featurize`: crystals to packed neighbour graphs."""

from matscout.engine import n_workers
from matscout.graphs.store import build_store
from matscout.params import load_params
from matscout.stage import PathOption, run


def main(materials: PathOption, out: PathOption) -> None:
    """Build the graph of every material."""
    build_store(materials, out, load_params().graphs, workers=n_workers())


if __name__ == "__main__":
    run(main)
