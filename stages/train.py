"""Stage `train`: one member of the ensemble."""

from matscout.params import load_params
from matscout.stage import NameOption, PathOption, run
from matscout.training.checkpoints import take_member
from matscout.training.training import TrainingInputs, member_training


def main(member: NameOption, materials: PathOption, graphs: PathOption, split: PathOption, out: PathOption) -> None:
    """Train one member on the train fold, resuming where a killed run stopped, or take what `matscout train` made."""
    params = load_params()
    training, inputs = member_training(member, params), TrainingInputs(graphs, split, materials)
    if not take_member(training, inputs, out):
        from matscout.training.tracking import MLflowTracker
        from matscout.training.train_member import train  # torch

        train(training, inputs, out, MLflowTracker(params))


if __name__ == "__main__":
    run(main)
