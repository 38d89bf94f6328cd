"""Checks `params.yaml`: as the stage `check`, before all others, and before a command that holds names of the file.

DVC can run one stage alone (`dvc repro --single-item`), so each stage whose command holds such names checks them too.
"""

from matscout.files import write_bytes
from matscout.params import load_params
from matscout.stage import PathOption, run

CHECKED = "Every value of params.yaml is allowed.\n"


def main(out: PathOption | None = None) -> None:
    """Refuse a `params.yaml` that is not as it must be; else write `out`, the same whatever the values are."""
    load_params()
    if out is not None:
        write_bytes(out, CHECKED.encode())


if __name__ == "__main__":
    run(main)
