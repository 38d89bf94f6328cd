"""Stage `pretrain`: one network for all databases, for members to begin with."""

from matscout.params import load_params
from matscout.stage import NameOption, PathOption, run
from matscout.training.pretrain import pretrain


def main(name: NameOption, materials: PathOption, graphs: PathOption, split: PathOption, out: PathOption) -> None:
    """Train one block of `pretrained` on the train fold of every database, with one head for each."""
    pretrain(name, params=load_params(), materials=materials, graphs=graphs, split=split, destination=out)


if __name__ == "__main__":
    run(main)
