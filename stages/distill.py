"""Stage `distill`: a fast member that learns the ensemble's answers."""

from matscout.ensemble.distill import distill
from matscout.params import load_params
from matscout.stage import NameOption, PathOption, run
from matscout.training.tracking import MLflowTracker


def main(name: NameOption, members: PathOption, ensemble: PathOption, candidates: PathOption, out: PathOption) -> None:
    """Train one block of `distilled` on the ensemble's predictions for some of the candidates."""
    params = load_params()
    paths = {"members": members, "ensemble": ensemble, "candidates": candidates, "destination": out}
    distill(name, params=params, tracker=MLflowTracker(params), **paths)


if __name__ == "__main__":
    run(main)
