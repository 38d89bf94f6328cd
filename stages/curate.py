"""Stage `curate`: raw snapshots to one honest table."""

from matscout.engine import n_workers
from matscout.params import load_params
from matscout.stage import PathOption, PathsOption, run


def main(raw: PathsOption, feedback: PathOption, out: PathOption) -> None:
    """Check, deduplicate and align the rows of every snapshot, and results of candidates."""
    from matscout.curation.curate import curate
    from matscout.curation.duplicate_search import (
        cache_directory,  # here: workers import this script again, and need none of it
    )

    settings = load_params().curation
    curate(raw, settings, out, workers=n_workers(), cache=cache_directory(), feedback=feedback)


if __name__ == "__main__":
    run(main)
