"""Reject a `params.yaml` with a name that a shell could misread, before a command that contains such names.

DVC can run one stage alone (`dvc repro --single-item`), so each stage whose command contains names checks them itself.
"""

from matscout.params import load_params
from matscout.stage import run


def main() -> None:
    """Read `params.yaml`, which checks its names."""
    load_params()


if __name__ == "__main__":
    run(main)
