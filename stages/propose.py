"""Stage `propose`: candidate crystals that the curated table does not hold."""

from matscout.engine import load_for_workers, n_workers
from matscout.params import load_params
from matscout.stage import PathOption, run


def main(materials: PathOption, own: PathOption, out: PathOption) -> None:
    """Substitute, decorate, gate and deduplicate."""
    load_for_workers("matscout.discovery.propose.novelty")
    from matscout.discovery.propose.propose import (
        propose,  # here: workers import this script again, and need none of it
    )

    propose(materials, load_params().candidates, out, own=own, workers=n_workers())


if __name__ == "__main__":
    run(main)
