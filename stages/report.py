"""Stage `report`: one self-contained page."""

from matscout.params import load_params
from matscout.report.page import write_report
from matscout.stage import PathOption, run


def main(data: PathOption, out: PathOption) -> None:
    """Tell what was asked, what came out, why, and how sure."""
    write_report(data, params=load_params(), destination=out)


if __name__ == "__main__":
    run(main)
