"""Stage `featurize`: crystals to packed neighbour graphs."""

from matscout.engine import n_workers
from matscout.params import load_params
from matscout.stage import PathOption, run


def main(materials: PathOption, out: PathOption) -> None:
    """Build the graph of every material."""
    from matscout.graphs.featurize import (
        build_store,  # here: workers import this script again, and need none of it
    )

    build_store(materials, out, load_params().graphs, workers=n_workers())


if __name__ == "__main__":
    run(main)
