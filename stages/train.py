"""Stage `train`: one member of the ensemble."""

from matscout.params import load_params
from matscout.stage import NameOption, PathOption, run
from matscout.training.runs.trained_beforehand import take_member


def main(member: NameOption, materials: PathOption, graphs: PathOption, split: PathOption, out: PathOption) -> None:
    """Train one member on the train fold, resuming where a killed run stopped, or take what `matscout train` made."""
    paths = {"materials": materials, "graphs": graphs, "split": split, "destination": out}
    if not take_member(member, params=load_params(), **paths):
        from matscout.training.train_member import train_member  # torch and MLflow

        train_member(member, params=load_params(), **paths)


if __name__ == "__main__":
    run(main)
