"""Stage `hypothetical`: crystals labelled by a potential, and the training set that holds them."""

from matscout.hypothetical.training_rows import make_hypothetical
from matscout.params import load_params
from matscout.stage import PathOption, run


def main(materials: PathOption, split: PathOption, own: PathOption, out: PathOption, training: PathOption) -> None:
    """Bring the potential's labels to the curated table's scale and join them to its rows."""
    params = load_params()
    make_hypothetical(materials, split, own, params.hypothetical, params.curation, destination=out, training=training)


if __name__ == "__main__":
    run(main)
