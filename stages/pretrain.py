"""Stage `pretrain`: one network for all databases, for members to begin with."""

from matscout.params import load_params
from matscout.stage import NameOption, PathOption, run
from matscout.training.pretrain import pretrain
from matscout.training.tracking import MLflowTracker


def main(name: NameOption, materials: PathOption, graphs: PathOption, split: PathOption, out: PathOption) -> None:
    """Train one block of `pretrained` on the train fold of every database, with one head for each."""
    params, paths = load_params(), {"materials": materials, "graphs": graphs, "split": split, "destination": out}
    pretrain(name, params=params, tracker=MLflowTracker(params), **paths)


if __name__ == "__main__":
    run(main)
