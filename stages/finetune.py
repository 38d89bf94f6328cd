"""Stage `finetune`: one member of the ensemble that begins with the weights of another."""

from matscout.params import load_params
from matscout.stage import NameOption, PathOption, run
from matscout.training.tracking import MLflowTracker
from matscout.training.train_member import train_member


def main(
    member: NameOption, start: PathOption, materials: PathOption, graphs: PathOption, split: PathOption, out: PathOption
) -> None:
    """Train one member on the train fold from the weights of another, resuming where a killed run stopped."""
    params, paths = load_params(), {"materials": materials, "graphs": graphs, "split": split, "destination": out}
    train_member(member, params=params, start=start, tracker=MLflowTracker(params), **paths)


if __name__ == "__main__":
    run(main)
