"""The stage `check`, before all others: every value of `params.yaml` is allowed."""

from matscout.files import write_bytes
from matscout.params import load_params
from matscout.stage import PathOption, run

CHECKED = "Every value of params.yaml is allowed.\n"


def main(out: PathOption) -> None:
    """Reject a `params.yaml` that breaks a rule; else write `out`, the same whatever the values are."""
    load_params()
    write_bytes(out, CHECKED.encode())


if __name__ == "__main__":
    run(main)
