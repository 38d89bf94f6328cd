"""Stage `label`: hypothetical crystals of the user's own elements, labelled by a potential."""

from matscout.params import load_params
from matscout.stage import PathOption, run


def main(materials: PathOption, split: PathOption, out: PathOption) -> None:
    """Draw and label as `hypothetical.own` says."""
    from matscout.engine import n_workers
    from matscout.hypothetical.label_crystals import label_own_crystals  # here: workers import this script again

    label_own_crystals(materials, split, load_params().hypothetical, out, workers=n_workers())


if __name__ == "__main__":
    run(main)
