"""Stage `split`: which rows train, validate and test."""

from matscout.curation.splits import write_split
from matscout.params import load_params
from matscout.stage import PathOption, run


def main(materials: PathOption, out: PathOption) -> None:
    """Assign a fold to every material."""
    write_split(materials, load_params().split, out)


if __name__ == "__main__":
    run(main)
