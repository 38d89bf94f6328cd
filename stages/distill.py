"""Stage `distill`: a fast member that learns the ensemble's answers."""

from matscout.ensemble.distillation.distill import distill
from matscout.params import load_params
from matscout.stage import NameOption, PathOption, run


def main(name: NameOption, members: PathOption, ensemble: PathOption, candidates: PathOption, out: PathOption) -> None:
    """Train one block of `distilled` on the ensemble's predictions for some of the candidates."""
    paths = {"members": members, "ensemble": ensemble, "candidates": candidates, "destination": out}
    distill(name, params=load_params(), **paths)


if __name__ == "__main__":
    run(main)
