"""Stage `train`: one member of the ensemble."""

from matscout.params import load_params
from matscout.stage import NameOption, PathOption, run
from matscout.training.member import train_member


def main(member: NameOption, materials: PathOption, graphs: PathOption, split: PathOption, out: PathOption) -> None:
    """Train one member on the train fold, resuming where a killed run stopped."""
    train_member(member, params=load_params(), materials=materials, graphs=graphs, split=split, destination=out)


if __name__ == "__main__":
    run(main)
