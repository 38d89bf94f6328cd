"""Stage `evaluate`: members to one calibrated prediction, judged on the test fold."""

from matscout.ensemble.evaluate import evaluate
from matscout.params import load_params
from matscout.stage import PathOption, run


def main(members: PathOption, materials: PathOption, graphs: PathOption, split: PathOption, out: PathOption) -> None:
    """Combine and calibrate on the validation fold; measure members, ensemble and baselines on the test fold."""
    evaluate(members, params=load_params(), materials=materials, graphs=graphs, split=split, destination=out)


if __name__ == "__main__":
    run(main)
