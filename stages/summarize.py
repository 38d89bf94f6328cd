"""Stage `summarize`: the small metrics that Git tracks, and the tables behind `dvc plots`."""

from matscout.params import load_params
from matscout.report.summarize import summarize
from matscout.stage import PathOption, run


def main(data: PathOption, metrics: PathOption, plots: PathOption) -> None:
    """Collect the stages' metrics into `metrics/*.json` and the curves into CSV."""
    summarize(data, params=load_params(), metrics=metrics, plots=plots)


if __name__ == "__main__":
    run(main)
